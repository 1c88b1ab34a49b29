/** One plugin, started as a runtime does, perhaps to be killed before it is done. */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { isObject, type JsonObject } from '#cni/json.ts'

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'GC'

export interface PluginCall {
  readonly verb: Verb
  readonly pluginDir: string
  readonly config: JsonObject & { readonly type: string }
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  /** Milliseconds after which it is killed with SIGKILL. */
  readonly killAfter?: number | undefined
}

export type Outcome =
  | { readonly kind: 'done'; readonly answer: JsonObject | undefined }
  | { readonly kind: 'refused'; readonly code: number; readonly message: string }
  | { readonly kind: 'killed' }
  /** What no plugin may do: no answer, two of them, or none in time. */
  | { readonly kind: 'broken'; readonly message: string }

/** The shim's own deadline is 60 s. */
const LIMIT_MS = 90_000

export function call({ verb, pluginDir, config, killAfter, ...at }: PluginCall): Promise<Outcome> {
  const env = {
    PATH: process.env['PATH'],
    CNI_COMMAND: verb,
    CNI_PATH: pluginDir,
    CNI_ARGS: 'IgnoreUnknown=1',
    ...(verb === 'GC' ? {} : { CNI_CONTAINERID: at.containerId, CNI_NETNS: at.netns, CNI_IFNAME: at.ifname }),
  }
  return new Promise((resolve, reject) => {
    const child = spawn(join(pluginDir, config.type), [], { env, stdio: ['pipe', 'pipe', 'pipe'] })
    let [out, err, late] = ['', '', false]
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    // It may be dead before it has read anything.
    child.stdin.on('error', () => {})
    child.stdin.end(JSON.stringify(config))
    const kill = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter)
    const limit = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, LIMIT_MS)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(kill)
      clearTimeout(limit)
      if (late) resolve({ kind: 'broken', message: `${verb} took longer than ${LIMIT_MS / 1000} s` })
      else if (signal === 'SIGKILL' && killAfter !== undefined) resolve({ kind: 'killed' })
      else resolve(outcomeOf(verb, code, out, err))
    })
  })
}

/** Exactly one JSON document from ADD and from whoever fails, nothing from the others. */
export function outcomeOf(verb: Verb, code: number | null, out: string, err: string): Outcome {
  const broken = (what: string): Outcome => ({ kind: 'broken', message: `${verb}: ${what}: ${out} ${err}` })
  if (code === 0 && verb !== 'ADD')
    return out === '' ? { kind: 'done', answer: undefined } : broken('an answer to what has none')
  let answer: unknown
  try {
    answer = JSON.parse(out)
  } catch {
    return broken(`exit code ${code} without one JSON document`)
  }
  if (!isObject(answer)) return broken('no JSON object')
  if (code === 0) return Array.isArray(answer['ips']) ? { kind: 'done', answer } : broken('a result without ips')
  const { code: number, msg } = answer
  if (code !== 1 || typeof number !== 'number' || typeof msg !== 'string') return broken(`exit code ${code}`)
  return { kind: 'refused', code: number, message: msg }
}
