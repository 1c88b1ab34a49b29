/** For tests: a host that touches no kernel, and a plugin that records its calls and answers what it is told. */

import type { NetlinkSocket } from '#netlink/socket.ts'
import type { Plugin, PluginHost, PluginInput } from './plugin.ts'
import { emptyResult, type Result } from './result.ts'
import { specVersions } from './version.ts'

export interface FakeHost extends PluginHost {
  readonly lines: readonly string[]
}

/** Refuses to delegate; a test that delegates replaces `delegate`. */
export function fakeHost(): FakeHost {
  const lines: string[] = []
  return {
    root: '',
    // Any use of it fails with the name of the missing method, which is what a test of pure code wants.
    netlink: Object.create(null) as NetlinkSocket,
    delegate: (): Promise<never> => Promise.reject(new Error('the fake host runs no delegates')),
    failpoint: () => {},
    log: (level, message) => void lines.push(`${level}: ${message}`),
    lines,
  }
}

export interface Recorded {
  readonly verb: 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC'
  readonly input: PluginInput
}

export interface ScriptedPlugin extends Plugin {
  readonly calls: readonly Recorded[]
}

export interface Script {
  readonly type?: string
  readonly versions?: readonly string[]
  /** What ADD answers; without it, prevResult or an empty result. */
  readonly result?: Result
  /** Thrown by the verb instead of an answer. */
  readonly fail?: (verb: Recorded['verb'], input: PluginInput) => unknown
  /** Awaited before the verb answers. */
  readonly pause?: (verb: Recorded['verb'], input: PluginInput) => Promise<void>
}

/** A plugin that does nothing but remember. */
export function scriptedPlugin(script: Script = {}): ScriptedPlugin {
  const calls: Recorded[] = []
  const called = async (verb: Recorded['verb'], input: PluginInput): Promise<void> => {
    calls.push({ verb, input })
    await script.pause?.(verb, input)
    const failure = script.fail?.(verb, input)
    if (failure !== undefined) throw failure
  }
  return {
    type: script.type ?? 'noop',
    versions: script.versions ?? specVersions,
    calls,
    add: async (input) => {
      await called('ADD', input)
      return script.result ?? input.prevResult ?? emptyResult
    },
    del: (input) => called('DEL', input),
    check: (input) => called('CHECK', input),
    status: (input) => called('STATUS', input),
    gc: (input) => called('GC', input),
  }
}
