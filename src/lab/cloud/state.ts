/** What a lab's cloud consists of: kept in a file, written when all of it has been made. */

import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { hasCode } from '#sys/errno.ts'

const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535))

const State = v.object({
  version: v.literal(1),
  /** On 127.0.0.1 of the machine: where its users reach the services. */
  ports: v.object({ identity: port, network: port, compute: port }),
  passwords: v.object({ admin: v.string(), neutron: v.string(), member: v.string() }),
  external: v.string(),
  router: v.string(),
  /** Networks of the tenant by name, each with its subnet. */
  networks: v.record(v.string(), v.object({ network: v.string(), subnet: v.string() })),
  /** VMs by the names of their nodes: the server's id and the port that it was made with. */
  servers: v.record(v.string(), v.object({ id: v.string(), port: v.string() })),
})
export type CloudState = v.InferOutput<typeof State>

export interface CloudPaths {
  readonly directory: string
  readonly state: string
  /** For this machine, and for nodes. */
  readonly cloudsYaml: string
  readonly innerCloudsYaml: string
  readonly log: string
}

/** Below a lab's directory. */
export const cloudPaths = (lab: string): CloudPaths => ({
  directory: join(lab, 'cloud'),
  state: join(lab, 'cloud', 'state.json'),
  cloudsYaml: join(lab, 'clouds.yaml'),
  innerCloudsYaml: join(lab, 'clouds-inside.yaml'),
  log: join(lab, 'cloud.log'),
})

/** Undefined until the cloud has been made, and for a file that cannot be understood: it is made anew then. */
export function readState(paths: CloudPaths): CloudState | undefined {
  try {
    return v.parse(State, JSON.parse(readFileSync(paths.state, 'utf8')))
  } catch (error) {
    if (hasCode(error, 'ENOENT') || error instanceof SyntaxError || v.isValiError(error)) return undefined
    throw error
  }
}

/** The whole file or the old one. */
export function writeState(paths: CloudPaths, state: CloudState): void {
  writeSecret(paths.state, `${JSON.stringify(state, undefined, 2)}\n`)
}

/** A file for its owner alone. */
export function writeSecret(path: string, text: string): void {
  const fresh = `${path}.tmp`
  writeFileSync(fresh, text, { mode: 0o600 })
  renameSync(fresh, path)
}
