/**
 * The IPAM plugin neutron-ipam: addresses of OpenStack Neutron. A daemon (in the agent, or `heddle neutron ipamd`) keeps a pool of them and answers without asking
 * anybody; in mode `direct` the plugin asks Neutron itself.
 */

import { existsSync } from 'node:fs'

import { invalidConfig, tryAgain, unavailable } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { formatIp } from '#ip/address.ts'
import { parseIpNet } from '#ip/prefix.ts'
import { checkFailed } from '../check-failed.ts'
import { requestedOf } from '../requested.ts'
import { journalOf } from './book.ts'
import { callDaemon, NoDaemonError } from './client.ts'
import { forgivingConf, neutronConf, type NeutronConf } from './config.ts'
import { addDirect, freeDirect, freeOffline, heldDirect, statusDirect, type Named } from './direct.ts'
import { addressesOf, resultOf } from './grant.ts'
import type { Address } from './record.ts'

export const neutronIpam: Plugin = { type: 'neutron-ipam', versions: specVersions, add, del, check, status, gc }

/** ms more than the daemon waits itself, so that its words arrive. */
const MARGIN_MS = 5_000
const OTHER_MS = 20_000

const named = ({ config, containerId, ifname }: PluginInput): Named => ({ network: config.name, containerId, ifname })

const noDaemon = (conf: NeutronConf): string =>
  `start "heddle agent --neutron-config FILE" or "heddle neutron ipamd", or set "mode": "direct"; "socket" (${conf.socket}) names another one`

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = neutronConf(input.config, host.root)
  const { env, args, runtimeConfig } = requestedOf(input)
  if (env.length + args.length + runtimeConfig.length > 0)
    throw invalidConfig('neutron-ipam gives any address, and a certain one is asked for', 'leave out IP and ips')
  if (conf.mode === 'direct') return resultOf(await addDirect(conf, named(input), host), conf)
  const call = { verb: 'ADD', ...named(input), subnetIds: [...conf.subnetIds] } as const
  try {
    const grants = await callDaemon(conf.socket, call, conf.api.addDeadlineMs + MARGIN_MS)
    host.failpoint('neutron.granted')
    return resultOf(grants, conf)
  } catch (error) {
    if (error instanceof NoDaemonError) throw tryAgain(error.message, noDaemon(conf))
    throw error
  }
}

/** Without a daemon the journal is enough: whoever keeps the pool next reads it. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = forgivingConf(input.config, host.root)
  const { network, containerId, ifname } = named(input)
  await free(
    conf,
    host,
    { verb: 'DEL', network, containerId, ifname },
    ({ owner }) => owner?.network === network && owner.containerId === containerId && owner.ifname === ifname,
  )
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const conf = forgivingConf(input.config, host.root)
  const network = input.config.name
  const valid = input.validAttachments.map(({ containerId, ifname }) => ({ containerId, ifname }))
  const keep = new Set(valid.map(({ containerId, ifname }) => `${containerId} ${ifname}`))
  await free(
    conf,
    host,
    { verb: 'GC', network, valid },
    ({ owner }) => owner?.network === network && !keep.has(`${owner.containerId} ${owner.ifname}`),
  )
}

async function free(
  conf: NeutronConf,
  host: PluginHost,
  call: Parameters<typeof callDaemon>[1],
  isOver: (address: Address) => boolean,
): Promise<void> {
  // Nobody ever got an address here.
  const isEmpty = !existsSync(journalOf(conf.stateDir))
  if (conf.mode === 'direct') {
    if (!isEmpty) await freeDirect(conf, isOver, host)
    return
  }
  try {
    await callDaemon(conf.socket, call, OTHER_MS)
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error
    if (!isEmpty) await freeOffline(conf, isOver, host)
  }
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = neutronConf(input.config, host.root)
  if (input.prevResult === undefined)
    throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  const given = new Set<string>(input.prevResult.ips.map(({ address }) => formatIp(parseIpNet(address).ip)))
  const held =
    conf.mode === 'direct'
      ? await heldDirect(conf, named(input))
      : addressesOf(await asked(conf, { verb: 'CHECK', ...named(input) }))
  const who = `container ${input.containerId} interface ${input.ifname}`
  if (held.size === 0) throw checkFailed(`neutron-ipam: ${who} holds no address`)
  const other = [...held].find((ip) => !given.has(ip))
  if (other !== undefined) throw checkFailed(`neutron-ipam: ${who} holds ${other}, which its result does not name`)
}

async function asked(conf: NeutronConf, call: Parameters<typeof callDaemon>[1]): ReturnType<typeof callDaemon> {
  try {
    return await callDaemon(conf.socket, call, OTHER_MS)
  } catch (error) {
    if (error instanceof NoDaemonError) throw tryAgain(error.message, noDaemon(conf))
    throw error
  }
}

/** Ready when the configuration is right and an ADD would get an address. */
async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = neutronConf(input.config, host.root)
  if (conf.mode === 'direct') return statusDirect(conf)
  try {
    await callDaemon(conf.socket, { verb: 'STATUS', network: input.config.name }, OTHER_MS)
  } catch (error) {
    if (error instanceof NoDaemonError) throw unavailable(error.message, noDaemon(conf))
    throw error
  }
}
