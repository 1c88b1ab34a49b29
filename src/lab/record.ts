/** What a lab's directory says about it: `lab.json`, written before anything is made, and `processes.json`. */

import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { hasCode } from '#sys/errno.ts'
import { LabError, messageOf } from './error.ts'
import { labPaths, labsDirectory, type LabPaths } from './paths.ts'
import type { ProcessId } from './process.ts'
import { backends, cloudModes, datastores, labName, labSpec, topologies } from './spec.ts'

const recordSchema = v.object({
  version: v.literal(1),
  /** Marks the lab's processes. */
  id: v.pipe(v.string(), v.uuid()),
  /** `up` when everything was made; `starting` in between, and for ever after a killed `up`. */
  phase: v.picklist(['starting', 'up']),
  created: v.string(),
  spec: v.object({
    name: v.string(),
    nodes: v.number(),
    podsPerNode: v.number(),
    backend: v.picklist(backends),
    topology: v.picklist(topologies),
    datastore: v.optional(v.picklist(datastores), 'kubernetes'),
    ipv4: v.optional(v.boolean(), true),
    ipv6: v.boolean(),
    cloud: v.optional(
      v.object({ kind: v.literal('neutron'), mode: v.picklist(cloudModes), filterDelayMs: v.number() }),
    ),
  }),
  /** The API server's port on 127.0.0.1 of the machine. */
  apiPort: v.optional(v.number()),
  /** True when /run/netns became a mount point for this lab, as `ip netns add` makes it at the first namespace. */
  madeNetnsMount: v.boolean(),
})

export type LabRecord = v.InferOutput<typeof recordSchema>

const processSchema = v.object({ pid: v.number(), startTime: v.number() })
const processesSchema = v.object({
  keeper: v.optional(processSchema),
  agents: v.record(v.string(), v.object({ ...processSchema.entries, restarts: v.number() })),
})

export interface AgentProcess extends ProcessId {
  /** How often the keeper has started the agent again. */
  readonly restarts: number
}

export interface LabProcesses {
  readonly keeper?: ProcessId | undefined
  readonly agents: Readonly<Record<string, AgentProcess>>
}

/** Reads lab `name`. Undefined when there is none. Throws `LabError` `damaged` when the record cannot be understood. */
export function readRecord(paths: LabPaths): LabRecord | undefined {
  const text = readIfThere(paths.record)
  if (text === undefined) return undefined
  try {
    const record = v.parse(recordSchema, JSON.parse(text))
    labSpec(record.spec)
    return record
  } catch (error) {
    throw new LabError(
      'damaged',
      `${paths.record} does not describe a lab: ${messageOf(error)}`,
      'heddle lab down removes what the name still leads to.',
      { cause: error },
    )
  }
}

/** Like `readRecord`, but throws `LabError` `not-found`, naming the labs that exist. */
export function requireRecord(name: string): { readonly record: LabRecord; readonly paths: LabPaths } {
  const paths = labPaths(labName(name))
  const record = readRecord(paths)
  if (record !== undefined) return { record, paths }
  const others = labNames()
  throw new LabError(
    'not-found',
    `there is no lab ${JSON.stringify(name)}`,
    others.length === 0
      ? 'heddle lab up makes one.'
      : `Give --name with one that exists: ${others.join(', ')}. Or make it: heddle lab up --name ${name}`,
  )
}

export const writeRecord = (paths: LabPaths, record: LabRecord): void => replaceFile(paths.record, record)

export const writeProcesses = (paths: LabPaths, processes: LabProcesses): void =>
  replaceFile(paths.processes, processes)

/** No processes when the file is missing or cannot be understood: the mark in their environment finds them anyway. */
export function readProcesses(paths: LabPaths): LabProcesses {
  const text = readIfThere(paths.processes)
  if (text === undefined) return { agents: {} }
  try {
    return v.parse(processesSchema, JSON.parse(text))
  } catch {
    return { agents: {} }
  }
}

/** Names of all labs below the directory, whole or in pieces. */
export function labNames(base: string = labsDirectory()): string[] {
  try {
    return readdirSync(base, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

/** A reader sees the old file or the new one. No sync: /run does not survive what a sync is for. */
function replaceFile(path: string, value: unknown): void {
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o755 })
  const fresh = `${path}.${process.pid}.tmp`
  writeFileSync(fresh, `${JSON.stringify(value, undefined, 2)}\n`, { mode: 0o600 })
  renameSync(fresh, path)
}
