/** The reference plugins of Debian's containernetworking-plugins, run as a runtime would. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'

import type { JsonObject } from '#cni/json.ts'
import { parseJsonObject } from '#cni/json.ts'

export const REFERENCE_DIR = '/usr/lib/cni'

/** A reason to skip, or false. */
export const referenceMissing: string | false = existsSync(`${REFERENCE_DIR}/bridge`)
  ? false
  : 'containernetworking-plugins is not installed: apt-get install containernetworking-plugins'

export interface ReferenceCall {
  readonly containerId: string
  readonly ifname?: string
  readonly netns?: string
  readonly args?: string
  readonly path?: string
  /** The namespace to run it in. */
  readonly inNetns?: string
}

export class ReferenceError extends Error {}

/** Runs /usr/lib/cni/TYPE. The answer's JSON object (`{}` when it printed nothing). */
export async function reference(verb: string, config: JsonObject, call: ReferenceCall): Promise<JsonObject> {
  const type = JSON.stringify(config['type']).slice(1, -1)
  const program = `${REFERENCE_DIR}/${type}`
  const command = call.inNetns === undefined ? [program] : ['nsenter', `--net=${call.inNetns}`, program]
  const child = spawn(command[0] ?? '', command.slice(1), {
    env: {
      PATH: process.env['PATH'],
      CNI_COMMAND: verb,
      CNI_CONTAINERID: call.containerId,
      CNI_NETNS: call.netns ?? '/proc/self/ns/net',
      CNI_IFNAME: call.ifname ?? 'eth0',
      CNI_ARGS: call.args ?? '',
      CNI_PATH: call.path ?? REFERENCE_DIR,
      CNI_NETNS_OVERRIDE: '1',
    },
    timeout: 30_000,
  })
  child.stdin.end(JSON.stringify(config))
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  if (code !== 0) throw new ReferenceError(`${type} ${verb}: ${out} ${err}`)
  return out.trim() === '' ? {} : parseJsonObject(out, 'the reference answer')
}
