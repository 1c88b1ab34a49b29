/** What a container runtime does with a configuration list, with libcni's semantics. Source: CNI SPEC.md §3; libcni `api.go`. */

import { namePattern } from '../config.ts'
import { deriveConfig, type Derivation } from '../derive.ts'
import { callEnv, containerIdError, formatCniArgs, ifnameError, type CallEnv, type Env, type Verb } from '../env.ts'
import { CniError, incompatibleVersion, invalidConfig, joinErrors, messageOf, toCniError } from '../errors.ts'
import type { JsonObject } from '../json.ts'
import type { Attachment } from '../plugin.ts'
import { decodeResult, parseResult } from '../result/decode.ts'
import { encodeResult } from '../result/encode.ts'
import type { Result } from '../result.ts'
import { runPlugin, type Answer } from '../shell.ts'
import { isAtLeast, newestVersion, prevResultForDelSince, verbSince } from '../version.ts'
import { defaultCacheDir, listCache, readCachedResult, removeCache, writeCache, type CacheKey } from './cache.ts'
import type { ConfList, PluginConf } from './conflist.ts'
import { pluginHost, type HostBase } from './delegate.ts'
import { answerError, execPlugin, versionsOf } from './exec.ts'
import { findPlugin, locate, type PluginRegistry } from './find.ts'

export interface RuntimeOptions {
  /** Directories with plugins (CNI_PATH). */
  readonly path: readonly string[]
  /** `/var/lib/cni` unless told otherwise. */
  readonly cacheDir?: string
  /** Where Heddle's own plugins run in this process; without it every plugin is executed. */
  readonly inProcess?: { readonly registry: PluginRegistry; readonly host: () => HostBase }
  /** Added to the process's environment for every plugin (tracing, HEDDLE_SOCKET). */
  readonly env?: Env
  /** Milliseconds one plugin may take; two minutes unless told otherwise. */
  readonly deadlineMs?: number
  /** The node's network namespace, where executed plugins start; the process's own unless told otherwise. */
  readonly netns?: string
  /** stderr of executed plugins, which is free-form logging. */
  readonly onStderr?: (type: string, text: string) => void
}

/** One container's attachment, as libcni's RuntimeConf. */
export interface AttachmentRequest {
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  /** CNI_ARGS as pairs. */
  readonly args?: readonly (readonly [string, string])[]
  readonly capabilityArgs?: JsonObject
}

export interface Runtime {
  /** The final result in the list's version. On failure nothing is undone: call `del`, as the specification asks of runtimes. */
  add(list: ConfList, at: AttachmentRequest): Promise<JsonObject>
  del(list: ConfList, at: AttachmentRequest): Promise<void>
  check(list: ConfList, at: AttachmentRequest): Promise<void>
  status(list: ConfList): Promise<void>
  /** Without `valid` nothing is valid and everything of the network is removed. */
  gc(list: ConfList, valid?: readonly Attachment[]): Promise<void>
  /** Versions that an installed plugin speaks. */
  versions(type: string): Promise<readonly string[]>
}

/** All methods throw CniError. */
export function createRuntime(options: RuntimeOptions): Runtime {
  const cacheDir = options.cacheDir ?? defaultCacheDir
  const deadlineMs = options.deadlineMs ?? 120_000

  async function invoke(
    verb: Verb,
    plugin: Pick<PluginConf, 'type'>,
    stdin: string,
    at: AttachmentRequest,
  ): Promise<Answer> {
    const call: Omit<CallEnv, 'verb' | 'mayUseOwnNetns' | 'args'> = { ...at, path: options.path }
    const env = {
      ...process.env,
      ...options.env,
      ...callEnv(verb, { ...call, args: new Map() }),
      CNI_ARGS: formatCniArgs(at.args ?? []),
    }
    const { inProcess } = options
    if (inProcess !== undefined) {
      const location = locate(plugin.type, options.path, inProcess.registry)
      if (location.kind === 'own') {
        const host = pluginHost(inProcess.host(), { registry: inProcess.registry, env, deadlineMs })
        return runPlugin(location.plugin, { env, stdin: () => stdin }, host)
      }
    }
    const answer = await execPlugin({
      file: findPlugin(plugin.type, options.path),
      env,
      stdin,
      deadlineMs,
      netns: options.netns,
    })
    if (answer.stderr !== '') options.onStderr?.(plugin.type, answer.stderr)
    return answer
  }

  async function run(verb: Verb, plugin: PluginConf, from: Derivation, at: AttachmentRequest): Promise<string> {
    const answer = await invoke(verb, plugin, JSON.stringify(deriveConfig(plugin.raw, from)), at)
    if (answer.exitCode !== 0) throw answerError(plugin.type, answer)
    return answer.stdout
  }

  async function add(list: ConfList, at: AttachmentRequest): Promise<JsonObject> {
    const key = keyOf(list, at)
    let result: Result | undefined
    for (const plugin of list.plugins) {
      try {
        const stdout = await run('ADD', plugin, { ...list, prevResult: result, capabilityArgs: at.capabilityArgs }, at)
        result = parseResult(stdout, list.cniVersion, `the result of ${plugin.type}`)
      } catch (error) {
        throw describe(error, plugin, 'add')
      }
    }
    const json = encodeResult(result ?? decodeResult({}, newestVersion, 'nothing'), list.cniVersion)
    const { netns, args = [], capabilityArgs } = at
    await writeCache(cacheDir, { ...key, netns, args, capabilityArgs, config: list.text, result: json })
    return json
  }

  async function check(list: ConfList, at: AttachmentRequest): Promise<void> {
    const key = keyOf(list, at)
    if (isAtLeast(list.cniVersion, verbSince.CHECK) !== true) {
      throw incompatibleVersion(
        `configuration version ${JSON.stringify(list.cniVersion)} does not support the CHECK command`,
        `set cniVersion of ${list.name} to ${verbSince.CHECK} or newer`,
      )
    }
    if (list.disableCheck) return
    const prevResult = await readCachedResult(cacheDir, key, list.cniVersion)
    for (const plugin of list.plugins) {
      await run('CHECK', plugin, { ...list, prevResult, capabilityArgs: at.capabilityArgs }, at)
    }
  }

  async function del(list: ConfList, at: AttachmentRequest): Promise<void> {
    const key = keyOf(list, at)
    const prevResult = await prevResultForDel(list, key)
    for (const plugin of list.plugins.toReversed()) {
      try {
        await run('DEL', plugin, { ...list, prevResult, capabilityArgs: at.capabilityArgs }, at)
      } catch (error) {
        throw describe(error, plugin, 'delete')
      }
    }
    await removeCache(cacheDir, key)
  }

  /** A cache file that cannot be read must not keep a DEL from running: it is removed and the DEL goes on without a result. */
  async function prevResultForDel(list: ConfList, key: CacheKey): Promise<Result | undefined> {
    if (isAtLeast(list.cniVersion, prevResultForDelSince) !== true) return undefined
    try {
      const result = await readCachedResult(cacheDir, key, list.cniVersion)
      // Written to see that the list's version can hold it, should the list have changed since.
      if (result !== undefined) encodeResult(result, list.cniVersion)
      return result
    } catch {
      await removeCache(cacheDir, key)
      return undefined
    }
  }

  async function status(list: ConfList): Promise<void> {
    if (isAtLeast(list.cniVersion, verbSince.STATUS) !== true) return
    for (const plugin of list.plugins) await run('STATUS', plugin, list, nobody)
  }

  async function gc(list: ConfList, valid?: readonly Attachment[]): Promise<void> {
    if (list.disableGc) return
    const errors: unknown[] = []
    const kept = new Set(valid?.map(({ containerId, ifname }) => `${containerId}/${ifname}`))
    for (const cached of await listCache(cacheDir)) {
      if (cached.network !== list.name || kept.has(`${cached.containerId}/${cached.ifname}`)) continue
      const { capabilityArgs, ...at } = cached
      await del(list, { ...at, ...(capabilityArgs === undefined ? {} : { capabilityArgs }) }).catch(
        (error: unknown) => {
          errors.push(
            rephrase(
              error,
              `failed to delete stale attachment ${cached.containerId} ${cached.ifname}: ${messageOf(error)}`,
            ),
          )
        },
      )
    }
    if (isAtLeast(list.cniVersion, verbSince.GC) === true) {
      for (const plugin of list.plugins) {
        await run('GC', plugin, { ...list, validAttachments: valid }, nobody).catch((error: unknown) => {
          errors.push(rephrase(error, `failed to GC plugin ${plugin.type}: ${messageOf(error)}`))
        })
      }
    }
    const error = joinErrors(errors)
    if (error !== undefined) throw error
  }

  async function versions(type: string): Promise<readonly string[]> {
    // Plugins built on an old libcni want values for variables that VERSION does not need.
    const dummy = { containerId: '', netns: 'dummy', ifname: 'dummy' }
    return versionsOf(type, await invoke('VERSION', { type }, JSON.stringify({ cniVersion: newestVersion }), dummy))
  }

  return { add, del, check, status, gc, versions }
}

const nobody: AttachmentRequest = { containerId: '', netns: '', ifname: '' }

/** The three names, checked before any of them reaches a file name. */
function keyOf(list: ConfList, at: AttachmentRequest): CacheKey {
  if (!namePattern.test(list.name))
    throw invalidConfig(`invalid characters found in network name ${JSON.stringify(list.name)}`)
  const error = containerIdError(at.containerId) ?? ifnameError(at.ifname)
  if (error !== undefined) throw error
  return { network: list.name, containerId: at.containerId, ifname: at.ifname }
}

const describe = (error: unknown, plugin: PluginConf, what: string): CniError =>
  rephrase(error, `plugin type=${JSON.stringify(plugin.type)} failed (${what}): ${messageOf(error)}`)

const rephrase = (error: unknown, message: string): CniError =>
  new CniError(toCniError(error).code, message, undefined, { cause: error })
