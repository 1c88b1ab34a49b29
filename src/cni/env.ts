/** The CNI_* environment of a plugin call: reading and checking it, and writing it for a plugin that we start. Source: CNI SPEC.md §2, "Parameters". */

import { namePattern } from './config.ts'
import { invalidEnvironment, unknownContainer, type CniError } from './errors.ts'
import { excerpt } from './json.ts'

export const verbs = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const
export type Verb = (typeof verbs)[number]

export type Env = Readonly<Record<string, string | undefined>>

/** A checked environment. What the verb does not need is '' or empty. */
export interface CallEnv {
  readonly verb: Verb
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  readonly args: ReadonlyMap<string, string>
  /** CNI_PATH, split; empty entries dropped. */
  readonly path: readonly string[]
  /** CNI_NETNS may be the plugin's own namespace (`CNI_NETNS_OVERRIDE`; tests). */
  readonly mayUseOwnNetns: boolean
}

const attachment: readonly Verb[] = ['ADD', 'DEL', 'CHECK']

const required: Readonly<Record<string, readonly Verb[]>> = {
  CNI_CONTAINERID: attachment,
  CNI_NETNS: ['ADD', 'CHECK'],
  CNI_IFNAME: attachment,
  CNI_PATH: ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC'],
}

/** Reads and checks the environment; reports every missing variable at once. Throws CniError code 4. */
export function readEnv(env: Env): CallEnv {
  const verb = env['CNI_COMMAND'] ?? ''
  if (verb === '') throw missing(['CNI_COMMAND'])
  if (!isVerb(verb)) {
    throw invalidEnvironment(`unknown CNI_COMMAND: ${verb.slice(0, 64)}`, `CNI_COMMAND is one of ${verbs.join(', ')}`)
  }
  const { CNI_CONTAINERID: containerId = '', CNI_NETNS: netns = '', CNI_IFNAME: ifname = '' } = env
  if (attachment.includes(verb)) {
    if (containerId !== '') raise(containerIdError(containerId))
    if (ifname !== '') raise(ifnameError(ifname))
  }
  const absent = Object.keys(required).filter((key) => required[key]?.includes(verb) && (env[key] ?? '') === '')
  if (absent.length > 0) throw missing(absent)
  const override = env['CNI_NETNS_OVERRIDE'] ?? ''
  return {
    verb,
    containerId,
    netns,
    ifname,
    // A DEL must get through: whatever its CNI_ARGS, the ADD before it either refused them or did not need them.
    args: parseCniArgs(env['CNI_ARGS'] ?? '', verb !== 'ADD' && verb !== 'CHECK'),
    path: splitPath(env['CNI_PATH'] ?? ''),
    mayUseOwnNetns: override === '1' || override.toUpperCase() === 'TRUE',
  }
}

const isVerb = (text: string): text is Verb => verbs.some((verb) => verb === text)

const missing = (names: readonly string[]): CniError =>
  invalidEnvironment(
    `required env variables [${names.join(',')}] missing`,
    'a container runtime or "heddle cni" sets them',
  )

function raise(error: CniError | undefined): void {
  if (error !== undefined) throw error
}

/** What is wrong with a container ID: code 3 where it is empty, 4 where its form is bad. IDs become file names, so the form is strict. */
export function containerIdError(id: string): CniError | undefined {
  if (id === '') return unknownContainer('missing containerID', 'CNI_CONTAINERID is empty')
  if (namePattern.test(id) && id.length <= 255) return undefined
  return invalidEnvironment(
    'invalid characters in containerID',
    `CNI_CONTAINERID ${excerpt(id)} must start with a letter or digit and hold only letters, digits, "_", "." and "-", at most 255`,
  )
}

/** What is wrong with an interface name by the kernel's rules (`dev_valid_name`): code 4. */
export function ifnameError(name: string): CniError | undefined {
  if (name === '') return invalidEnvironment('interface name is empty', 'CNI_IFNAME names the interface, such as eth0')
  if (Buffer.byteLength(name) > 15) {
    return invalidEnvironment(
      'interface name is too long',
      `CNI_IFNAME ${excerpt(name)} has ${Buffer.byteLength(name)} bytes; the kernel allows 15`,
    )
  }
  if (name === '.' || name === '..') {
    return invalidEnvironment('interface name is . or ..', 'CNI_IFNAME names the interface, such as eth0')
  }
  if (/[/:\s\0\u0085]/.test(name)) {
    return invalidEnvironment(
      'interface name contains / or : or whitespace characters',
      `CNI_IFNAME is ${excerpt(name)}`,
    )
  }
  return undefined
}

/** `K=V;K=V` as a map; an empty segment is nothing. `lenient` skips what is no pair instead of throwing CniError code 4. */
export function parseCniArgs(text: string, lenient = false): ReadonlyMap<string, string> {
  const args = new Map<string, string>()
  for (const pair of text.split(';')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    if (equals > 0) args.set(pair.slice(0, equals), pair.slice(equals + 1))
    else if (!lenient) {
      throw invalidEnvironment(`CNI_ARGS: invalid pair ${excerpt(pair)}`, 'CNI_ARGS has the form KEY=VALUE;KEY=VALUE')
    }
  }
  return args
}

export const formatCniArgs = (args: Iterable<readonly [string, string]>): string =>
  Array.from(args, ([key, value]) => `${key}=${value}`).join(';')

/**
 * Refuses CNI_ARGS that the plugin does not know, unless `IgnoreUnknown` is 1 or true (CONVENTIONS.md). For plugins that read CNI_ARGS; the
 * ones that Kubernetes runtimes always send (`K8S_POD_*`) count as known. Throws CniError code 4.
 */
export function refuseUnknownArgs(args: ReadonlyMap<string, string>, known: readonly string[]): void {
  const ignore = (args.get('IgnoreUnknown') ?? '0').toLowerCase()
  if (ignore === '1' || ignore === 'true') return
  if (ignore !== '0' && ignore !== 'false') {
    throw invalidEnvironment(`CNI_ARGS: IgnoreUnknown is ${excerpt(ignore)}`, 'use 1, true, 0 or false')
  }
  const unknown = [...args.keys()].filter(
    (key) => key !== 'IgnoreUnknown' && !key.startsWith('K8S_POD_') && !known.includes(key),
  )
  if (unknown.length > 0) {
    throw invalidEnvironment(
      `CNI_ARGS: unknown args ${excerpt(unknown)}`,
      `known are ${known.join(', ') || 'none'}; add IgnoreUnknown=1 to let others pass`,
    )
  }
}

/** What some plugin of a chain may be asked for by CNI_ARGS. All of them see the same variable, so none refuses what is meant for another. Source: CNI CONVENTIONS.md. */
export const wellKnownArgs: readonly string[] = ['IP', 'GATEWAY', 'MAC']

/** CNI_PATH as a list. */
export const splitPath = (text: string): readonly string[] => text.split(':').filter((dir) => dir !== '')

/** The variables for a plugin that we start. Like libcni, every one is set, empty where the verb has no use for it. */
export function callEnv(verb: Verb, call: Omit<CallEnv, 'verb' | 'mayUseOwnNetns'>): Readonly<Record<string, string>> {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netns,
    CNI_IFNAME: call.ifname,
    CNI_ARGS: formatCniArgs(call.args),
    CNI_PATH: call.path.join(':'),
  }
}
