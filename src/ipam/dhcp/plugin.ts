/** The IPAM plugin dhcp: asks a daemon, which keeps the leases. Works with Heddle's daemon (in the agent or alone) and with the reference's. */

import { join, resolve } from 'node:path'

import { validAttachmentsKey } from '#cni/derive.ts'
import { formatCniArgs } from '#cni/env.ts'
import { tryAgain, unavailable } from '#cni/errors.ts'
import type { JsonObject } from '#cni/json.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { parseResult } from '#cni/result/decode.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '../check-failed.ts'
import { dhcpConf, socketPathOf } from './config.ts'
import { collectOffline, releaseOffline } from './offline.ts'
import { isUnknownMethod, NoDaemonError, refusal, RpcClient } from './rpc-client.ts'
import { readAnswer, readResult, type CallArgs } from './wire/rpc.ts'

export const dhcp: Plugin = { type: 'dhcp', versions: specVersions, add, del, check, status, gc }

/** ms: a little less than the agent gives a whole call, so that the answer says what was wrong. */
const ADD_MS = 50_000
const OTHER_MS = 20_000

const pathOf = (input: PluginInput, host: PluginHost): string => join(host.root, socketPathOf(input.config))

function callOf(input: PluginInput, extra: JsonObject = {}): CallArgs {
  const { prevResult, config } = input
  const previous = prevResult === undefined ? {} : { prevResult: encodeResult(prevResult, config.cniVersion) }
  return {
    containerId: input.containerId,
    netns: input.netns === '' ? '' : resolve(input.netns),
    ifname: input.ifname,
    args: formatCniArgs(input.args),
    path: input.path.join(':'),
    stdin: JSON.stringify({ ...config.raw, cniVersion: config.cniVersion, ...previous, ...extra }),
  }
}

/** CniError 11, with what to do. */
const noDaemon = (path: string) =>
  tryAgain(
    `no DHCP daemon listens on ${path}`,
    'start "heddle agent", or "heddle dhcp daemon"; ipam.daemonSocketPath names another socket',
  )

async function connected(path: string): Promise<RpcClient> {
  try {
    return await RpcClient.open(path)
  } catch (error) {
    if (error instanceof NoDaemonError) throw noDaemon(path)
    throw error
  }
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  // Mistakes of the configuration are found here, whichever daemon it is for.
  dhcpConf(input.config, input.args)
  const path = pathOf(input, host)
  using client = await connected(path)
  host.failpoint('dhcp.connected')
  const result = await allocate(client, callOf(input))
  host.failpoint('dhcp.allocated')
  return result
}

async function allocate(client: RpcClient, call: CallArgs): Promise<Result> {
  const reply = await client.call('Heddle.Allocate', call, ADD_MS)
  if (!isUnknownMethod(reply)) return parseResult(readAnswer(reply.body), '1.1.0', "the DHCP daemon's result")
  const theirs = await client.call('DHCP.Allocate', call, ADD_MS)
  if (theirs.error !== '') throw refusal(theirs)
  return readResult(theirs.body)
}

/** Without a daemon the record is enough: the server is told from here. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const path = pathOf(input, host)
  let client: RpcClient
  try {
    client = await RpcClient.open(path)
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error
    await releaseOffline(path, input.config.name, input, host)
    return
  }
  using open = client
  const reply = await open.call('Heddle.Release', callOf(input), OTHER_MS)
  if (!isUnknownMethod(reply)) {
    readAnswer(reply.body)
    return
  }
  const theirs = await open.call('DHCP.Release', callOf(input), OTHER_MS)
  if (theirs.error !== '') throw refusal(theirs)
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  dhcpConf(input.config, input.args)
  using client = await connected(pathOf(input, host))
  const call = callOf(input)
  const reply = await client.call('Heddle.Check', call, OTHER_MS)
  if (!isUnknownMethod(reply)) {
    readAnswer(reply.body)
    return
  }
  // The reference's daemon answers with the lease that there is.
  const theirs = await client.call('DHCP.Allocate', call, OTHER_MS)
  if (theirs.error !== '') throw checkFailed(`dhcp: ${theirs.error}`)
  const held = new Set(input.prevResult?.ips.map(({ address }) => address))
  const other = readResult(theirs.body).ips.find(({ address }) => !held.has(address))
  if (other !== undefined)
    throw checkFailed(`dhcp: there is a lease of ${other.address} now, which the result of ADD does not name`)
}

/** Ready when the configuration is right and a daemon answers. */
async function status(input: PluginInput, host: PluginHost): Promise<void> {
  dhcpConf(input.config, input.args)
  const path = pathOf(input, host)
  try {
    using client = await RpcClient.open(path)
    const reply = await client.call('Heddle.Status', callOf(input), OTHER_MS)
    if (!isUnknownMethod(reply)) readAnswer(reply.body)
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error
    const { msg, details } = noDaemon(path)
    throw unavailable(msg, details)
  }
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const path = pathOf(input, host)
  const valid = input.validAttachments.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }))
  try {
    using client = await RpcClient.open(path)
    const reply = await client.call('Heddle.Collect', callOf(input, { [validAttachmentsKey]: valid }), OTHER_MS)
    if (isUnknownMethod(reply)) host.log('info', `dhcp: the daemon on ${path} knows no GC: its leases run out`)
    else readAnswer(reply.body)
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error
    await collectOffline(path, input.config.name, input.validAttachments, host)
  }
}
