/**
 * The last-known cluster on disk: with it an agent that starts while the API server is away keeps and repairs the data path.
 * Nothing in it is believed more than what the API server says later.
 */

import { mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as v from 'valibot'

import type { Mark } from '#etcd/prefix-watch.ts'
import { writeFileAtomic } from '#sys/atomic-file.ts'
import type { Role } from '#flannel/annotations.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { errorFields, type Log } from './log.ts'

export interface Snapshot {
  /** net-conf.json as it was read. */
  readonly netConf: string
  readonly macs: { readonly 4?: string; readonly 6?: string }
  /** Every node, the own one included. */
  readonly nodes: readonly NodeView[]
  /** How far an etcd datastore had come. */
  readonly mark?: Mark
}

const Text = v.string()
const Node = v.object({
  name: Text,
  uid: Text,
  created: Text,
  podCidrs: v.array(Text),
  annotations: v.object({
    marker: v.exactOptional(Text),
    backendType: v.exactOptional(Text),
    backendData: v.exactOptional(Text),
    backendV6Data: v.exactOptional(Text),
    publicIp: v.exactOptional(Text),
    publicIpv6: v.exactOptional(Text),
    nodePublicIp: v.exactOptional(Text),
    nodePublicIpv6: v.exactOptional(Text),
    publicIpOverwrite: v.exactOptional(Text),
    publicIpv6Overwrite: v.exactOptional(Text),
  } satisfies Record<Role, unknown>),
  networkUnavailable: v.exactOptional(Text),
  confRefused: v.exactOptional(Text),
})
const File = v.object({
  version: v.literal(1),
  node: Text,
  netConf: Text,
  macs: v.object({ 4: v.exactOptional(Text), 6: v.exactOptional(Text) }),
  nodes: v.array(Node),
  mark: v.exactOptional(v.object({ cluster: Text, revision: v.number(), term: v.number() })),
})

/** Reads the snapshot of this node; undefined when there is none, or none that can be used (which is logged). */
export async function readSnapshot(path: string, node: string, log: Log): Promise<Snapshot | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errorFields(error).code !== 'ENOENT')
      log.warn({ path, ...errorFields(error) }, 'the last-known cluster cannot be read; going on without it')
    return undefined
  }
  const parsed = v.safeParse(File, jsonOrUndefined(text))
  if (!parsed.success) {
    log.warn({ path, reason: parsed.issues[0].message }, 'the last-known cluster is damaged; going on without it')
    return undefined
  }
  if (parsed.output.node !== node) {
    log.warn(
      { path, node: parsed.output.node },
      'the last-known cluster was written by another node; going on without it',
    )
    return undefined
  }
  const { version: _version, node: _node, ...snapshot } = parsed.output
  return snapshot
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** At most one write in so many milliseconds; a cluster of five thousand nodes is about 3 MB. */
const PAUSE = 1_000
const RETRY = 10_000

/** Writes the snapshot some time after it changed, never two at once. */
export class SnapshotWriter implements AsyncDisposable {
  readonly #path: string
  readonly #node: string
  readonly #log: Log
  readonly #take: () => Snapshot | undefined
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #written = ''
  #dirty = false

  constructor(path: string, node: string, take: () => Snapshot | undefined, log: Log) {
    this.#path = path
    this.#node = node
    this.#take = take
    this.#log = log
  }

  /** Something in it is other than before. */
  changed(): void {
    this.#dirty = true
    if (this.#timer === undefined && this.#writing === undefined) this.#arm(PAUSE)
  }

  /** Writes what is still to be written. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing
    if (this.#dirty) await this.#write()
  }

  #arm(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#writing = this.#write().finally(() => {
        this.#writing = undefined
        if (this.#dirty && this.#timer === undefined) this.#arm(PAUSE)
      })
    }, ms)
    this.#timer.unref()
  }

  async #write(): Promise<void> {
    this.#dirty = false
    const snapshot = this.#take()
    if (snapshot === undefined) return
    const text = JSON.stringify({ version: 1, node: this.#node, ...snapshot })
    if (text === this.#written) return
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o755 })
      await writeFileAtomic(this.#path, text, { mode: 0o600 })
      this.#written = text
    } catch (error) {
      this.#log.warn(
        { path: this.#path, ...errorFields(error) },
        'the last-known cluster cannot be written; trying again',
      )
      this.#dirty = true
      if (this.#timer === undefined) this.#arm(RETRY)
    }
  }
}
