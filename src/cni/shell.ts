/**
 * What stands between a runtime and a plugin (libcni calls it skel): checks environment, configuration and versions, calls the verb, and turns
 * whatever happens into exactly one JSON document, or none, and an exit code. Source: CNI SPEC.md §2 and §5.
 */

import { leftBehind, recordAdd, recordDel, recordGc } from './attachment/ledger.ts'
import { parseNetConf, type NetConf } from './config.ts'
import { oldAttachmentsKey, validAttachmentsKey } from './derive.ts'
import { readEnv, type CallEnv, type Env, type Verb } from './env.ts'
import {
  decodingFailure,
  incompatibleVersion,
  invalidConfig,
  invalidNetns,
  ioFailure,
  messageOf,
  toCniError,
} from './errors.ts'
import { isObject, parseJsonObject, type JsonObject } from './json.ts'
import { isOwnNetns } from './netns.ts'
import type { Attachment, Plugin, PluginHost, PluginInput } from './plugin.ts'
import { decodePrevResult } from './result/decode.ts'
import { encodeResult } from './result/encode.ts'
import type { Result } from './result.ts'
import { compareVersions, isAtLeast, newestVersion, parseVersion, verbSince } from './version.ts'

/** One start of a plugin, as a runtime makes it. */
export interface Call {
  readonly env: Env
  /** Read only by verbs that have a configuration. */
  readonly stdin: () => string | Promise<string>
  /** Where CNI_NETNS is reached from here, when that differs from what the caller wrote (`/proc/self/...`, a relative path). */
  readonly netnsPath?: string
  /** Printed on stderr when the plugin is run by hand, without CNI_COMMAND. */
  readonly about?: string
}

export interface Answer {
  readonly exitCode: number
  /** Empty, or one JSON document. */
  readonly stdout: string
  readonly stderr: string
}

/** Runs one verb of `plugin`. Never throws: every failure is an error document on stdout and exit code 1. */
export async function runPlugin(plugin: Plugin, call: Call, host: PluginHost): Promise<Answer> {
  if ((call.env['CNI_COMMAND'] ?? '') === '' && call.about !== undefined) return aboutAnswer(plugin, call.about)
  const seen: { cniVersion: string } = { cniVersion: newestVersion }
  try {
    return { exitCode: 0, stdout: await stdoutOf(plugin, call, host, seen), stderr: '' }
  } catch (thrown) {
    const error = toCniError(thrown)
    // Nobody said what it means for the user: the log keeps where it came from.
    if (error !== thrown) host.log('error', `${plugin.type}: ${error.message}`, { error: error.cause })
    return failure(error, seen.cniVersion)
  }
}

/** The answer for an error. The document has `cniVersion`, as the specification asks. */
export function failure(thrown: unknown, cniVersion: string = newestVersion): Answer {
  return { exitCode: 1, stdout: print({ cniVersion, ...toCniError(thrown).toJSON() }), stderr: '' }
}

const print = (document: JsonObject): string => `${JSON.stringify(document, null, 4)}\n`

const aboutAnswer = (plugin: Plugin, about: string): Answer => ({
  exitCode: 0,
  stdout: '',
  stderr: `${about}\nCNI protocol versions supported: ${plugin.versions.join(', ')}\n`,
})

async function stdoutOf(plugin: Plugin, call: Call, host: PluginHost, seen: { cniVersion: string }): Promise<string> {
  const env = readEnv(call.env)
  if (env.verb === 'VERSION') {
    return `${JSON.stringify({ cniVersion: newestVersion, supportedVersions: plugin.versions })}\n`
  }
  const config = parseNetConf(parseJsonObject(await read(call), 'the network configuration on stdin'))
  if (parseVersion(config.cniVersion) !== undefined) seen.cniVersion = config.cniVersion
  checkVersion(plugin, env.verb, config.cniVersion)
  const netns = call.netnsPath ?? env.netns
  if ((env.verb === 'ADD' || env.verb === 'DEL') && !env.mayUseOwnNetns) refuseOwnNetns(env.netns, netns)
  const input = inputOf(env, netns, config, host)
  return dispatch(plugin, env, input, host)
}

async function read(call: Call): Promise<string> {
  try {
    return await call.stdin()
  } catch (error) {
    throw ioFailure(`error reading from stdin: ${messageOf(error)}`)
  }
}

async function dispatch(plugin: Plugin, env: CallEnv, input: PluginInput, host: PluginHost): Promise<string> {
  switch (env.verb) {
    case 'ADD':
      return recordAdd(plugin, input, host, () => add(plugin, env, input, host))
    case 'DEL':
      await recordDel(plugin, input, host, () => plugin.del(input, host))
      return ''
    case 'CHECK':
      await plugin.check(input, host)
      return ''
    case 'STATUS':
      await plugin.status(input, host)
      return ''
    case 'GC': {
      const gcInput = { ...input, validAttachments: validAttachments(input.config.raw) }
      await recordGc(plugin, gcInput, host, () => plugin.gc(gcInput, host))
      return ''
    }
    default:
      return ''
  }
}

/** A result that cannot be told, in the configuration's version for example, is a failed ADD: nothing of it may stay. */
async function add(plugin: Plugin, env: CallEnv, input: PluginInput, host: PluginHost): Promise<string> {
  const result = await plugin.add(input, host)
  try {
    return print(encodeResult(moveSandbox(result, input.netns, env.netns), input.config.cniVersion))
  } catch (error) {
    await plugin.del(input, host).catch((again: unknown) => {
      leftBehind(error)
      host.log('warn', `${plugin.type}: undoing an ADD whose result cannot be told failed: ${messageOf(again)}`)
    })
    throw error
  }
}

function inputOf(env: CallEnv, netns: string, config: NetConf, host: PluginHost): PluginInput {
  const prevResult = env.verb === 'DEL' ? lenientPrevResult(config, host) : prevResultOf(env.verb, config)
  return {
    containerId: env.containerId,
    netns,
    ifname: env.ifname,
    args: env.args,
    path: env.path,
    config,
    ...(prevResult === undefined ? {} : { prevResult: moveSandbox(prevResult, env.netns, netns) }),
  }
}

const prevResultOf = (verb: Verb, config: NetConf): Result | undefined =>
  verb === 'ADD' || verb === 'CHECK' ? decodePrevResult(config.raw, config.cniVersion) : undefined

/** A DEL needs no previous result, so a broken one must not keep it from cleaning up. */
function lenientPrevResult(config: NetConf, host: PluginHost): Result | undefined {
  try {
    return decodePrevResult(config.raw, config.cniVersion)
  } catch (error) {
    host.log('warn', `DEL goes on without prevResult: ${messageOf(error)}`, { network: config.name })
    return undefined
  }
}

/** The result with one namespace's path replaced by another: a plugin sees the path that it can open, the runtime the one that it gave. */
function moveSandbox(result: Result, from: string, to: string): Result {
  if (from === to || from === '') return result
  const interfaces = result.interfaces.map((link) => (link.sandbox === from ? { ...link, sandbox: to } : link))
  return { ...result, interfaces }
}

/** Throws CniError 1 where the versions do not meet, 6 where one is no version. */
export function checkVersion(plugin: Plugin, verb: Verb, version: string): void {
  if (verb === 'CHECK' || verb === 'STATUS' || verb === 'GC') {
    const known = isAtLeast(version, verbSince[verb])
    if (known === undefined) throw badVersion(version, 'the network configuration')
    if (!known) {
      throw incompatibleVersion(
        `config version does not allow ${verb}`,
        `${verb} exists from cniVersion ${verbSince[verb]} on, the configuration has ${version}`,
      )
    }
    if (!plugin.versions.some((own) => isNotOlder(own, version))) {
      throw incompatibleVersion(`plugin version does not allow ${verb}`, mismatch(plugin, version))
    }
  }
  if (!plugin.versions.includes(version)) {
    throw incompatibleVersion('incompatible CNI versions', mismatch(plugin, version))
  }
}

const mismatch = (plugin: Plugin, version: string): string =>
  `config is ${JSON.stringify(version.slice(0, 64))}, plugin supports ${JSON.stringify(plugin.versions)}`

function isNotOlder(own: string, version: string): boolean {
  const order = compareVersions(own, version)
  if (order === undefined) throw badVersion(own, 'the plugin')
  return order >= 0
}

const badVersion = (version: string, whose: string): Error =>
  decodingFailure(
    `cniVersion ${JSON.stringify(version.slice(0, 64))} of ${whose} is not a version`,
    'versions look like 1.1.0',
  )

/** Before anything is done: an ADD or DEL in the plugin's own namespace would change the host's interfaces. */
function refuseOwnNetns(given: string, netns: string): void {
  if (netns === '' || !isOwnNetns(netns)) return
  throw invalidNetns(
    "plugin's netns and netns from CNI_NETNS should not be the same",
    `CNI_NETNS is ${given}; set CNI_NETNS_OVERRIDE=1 if that is meant`,
  )
}

/** A malformed list is an error and not an empty one: an empty one means "remove everything". */
function validAttachments(raw: JsonObject): readonly Attachment[] {
  const list = raw[validAttachmentsKey] ?? raw[oldAttachmentsKey] ?? []
  if (!Array.isArray(list)) throw invalidConfig(`${validAttachmentsKey} is not a list`, 'nothing was collected')
  return list.map((item: unknown, index) => {
    const { containerID, ifname } = isObject(item) ? item : {}
    if (typeof containerID !== 'string' || typeof ifname !== 'string') {
      throw invalidConfig(
        `${validAttachmentsKey}[${index}] has no containerID and ifname`,
        'each entry is {"containerID": "...", "ifname": "..."}; nothing was collected',
      )
    }
    return { containerId: containerID, ifname }
  })
}
