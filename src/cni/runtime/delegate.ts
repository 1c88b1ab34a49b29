/** The host of one call: what a plugin may touch, with delegation. Source: CNI SPEC.md §4, "Plugin delegation". */

import { callEnv, type Env } from '../env.ts'
import { internalError, messageOf } from '../errors.ts'
import type { JsonObject } from '../json.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '../plugin.ts'
import { parseResult } from '../result/decode.ts'
import { encodeResult } from '../result/encode.ts'
import type { Result } from '../result.ts'
import { checkVersion, type Answer } from '../shell.ts'
import { answerError, execPlugin } from './exec.ts'
import { locate, type PluginRegistry } from './find.ts'

/** What lives as long as the agent. */
export type HostBase = Omit<PluginHost, 'delegate' | 'rules'>

export interface Delegation {
  readonly registry: PluginRegistry
  /** The caller's variables that an executed delegate must see too (tracing, CNI_NETNS_OVERRIDE). */
  readonly env: Env
  /** Milliseconds an executed delegate may take. */
  readonly deadlineMs: number
}

type DelegateVerb = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC'

/** `base` with delegation for one call. A delegate whose ADD fails is undone with DEL before the failure is reported. */
export function pluginHost(base: HostBase, delegation: Delegation): PluginHost {
  function delegate(verb: 'ADD', type: string, input: PluginInput): Promise<Result>
  function delegate(verb: Exclude<DelegateVerb, 'ADD'>, type: string, input: PluginInput | GcInput): Promise<undefined>
  async function delegate(verb: DelegateVerb, type: string, input: PluginInput | GcInput): Promise<Result | undefined> {
    const location = locate(type, input.path, delegation.registry)
    if (location.kind === 'own') return runOwn(location.plugin, verb, input, host)
    const { file } = location
    if (verb !== 'ADD') {
      await execute(file, verb, type, input)
      return undefined
    }
    try {
      const { stdout } = await execute(file, 'ADD', type, input)
      return parseResult(stdout, input.config.cniVersion, `the result of ${type}`)
    } catch (error) {
      await execute(file, 'DEL', type, input).catch((again: unknown) => {
        base.log('warn', `DEL of ${type} after its failed ADD failed too: ${messageOf(again)}`)
      })
      throw error
    }
  }

  async function execute(file: string, verb: DelegateVerb, type: string, input: PluginInput): Promise<Answer> {
    const env = { ...process.env, ...delegation.env, ...callEnv(verb, input) }
    const stdin = JSON.stringify(configOf(input))
    const answer = await execPlugin({ file, env, stdin, deadlineMs: delegation.deadlineMs })
    if (answer.stderr !== '') base.log('info', `${type}: ${messageOf(answer.stderr)}`)
    if (answer.exitCode !== 0) throw answerError(type, answer)
    return answer
  }

  const host: PluginHost = {
    root: base.root,
    ...(base.records === undefined ? {} : { records: base.records }),
    rules: [],
    chains: [],
    // Not copied: a host may open its socket only when it is used.
    get netlink() {
      return base.netlink
    },
    failpoint: base.failpoint,
    log: base.log,
    delegate,
  }
  return host
}

/** The full configuration, with the previous result where the delegator has one and its configuration does not say. */
function configOf({ config, prevResult }: PluginInput): JsonObject {
  if (prevResult === undefined || (config.raw['prevResult'] ?? null) !== null) return config.raw
  return { ...config.raw, prevResult: encodeResult(prevResult, config.cniVersion) }
}

async function runOwn(
  plugin: Plugin,
  verb: DelegateVerb,
  input: PluginInput | GcInput,
  host: PluginHost,
): Promise<Result | undefined> {
  checkVersion(plugin, verb, input.config.cniVersion)
  switch (verb) {
    case 'ADD':
      return plugin.add(input, host)
    case 'DEL':
      await plugin.del(input, host)
      return undefined
    case 'CHECK':
      await plugin.check(input, host)
      return undefined
    case 'STATUS':
      await plugin.status(input, host)
      return undefined
    default:
      // Without a list everything would be collected; a delegator that forgot it must not do that.
      if (!('validAttachments' in input))
        throw internalError(`GC was delegated to ${plugin.type} without validAttachments`)
      await plugin.gc(input, host)
      return undefined
  }
}
