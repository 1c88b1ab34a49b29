/** One side of the CNI comparisons: a node with its plugins, and pods to attach, timed by native/bench/chain.c. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JsonObject } from '#cni/json.ts'
import { parseJsonObject } from '#cni/json.ts'
import type { Bed, Namespace } from './bed.ts'
import { compiled } from './native.ts'

export interface Pod {
  readonly id: string
  readonly netns: string
  /** Counted from 0 on each node: host port and address follow from it. */
  readonly number: number
}

/** How a node attaches pods. */
export interface Plugins {
  /** CNI_PATH. */
  readonly path: string
  /** Executables of the chain, in order. */
  readonly types: readonly string[]
  /** What each of them reads from stdin for this pod. */
  readonly configs: (pod: Pod, node: CniNode) => readonly JsonObject[]
  readonly env?: NodeJS.ProcessEnv
}

export interface Timings {
  /** Milliseconds from the start of the chain's first process to the end of its last one, per pod. */
  readonly each: readonly number[]
  /** Milliseconds for all of them. */
  readonly all: number
}

export class CniNode {
  readonly netns: Namespace
  readonly directory: string
  readonly pods: readonly Pod[]
  readonly #bed: Bed
  readonly #plugins: Plugins
  readonly #chain: string

  private constructor(
    bed: Bed,
    plugins: Plugins,
    chain: string,
    netns: Namespace,
    directory: string,
    pods: readonly Pod[],
  ) {
    this.#bed = bed
    this.#plugins = plugins
    this.#chain = chain
    this.netns = netns
    this.directory = directory
    this.pods = pods
  }

  /** Makes the pods' namespaces, and the node's unless it exists; `plugins` may start what it needs there. */
  static async make(
    bed: Bed,
    label: string,
    podCount: number,
    plugins: (netns: Namespace, directory: string) => Promise<Plugins>,
    existing?: Namespace,
  ): Promise<CniNode> {
    const directory = join(bed.directory, label)
    mkdirSync(directory)
    const netns = existing ?? (await bed.namespace(label))
    const paths = await bed.pods(`${label}-pod`, podCount)
    const pods = paths.map((path, number) => ({ id: `${label}-${number}`, netns: path, number }))
    const node = new CniNode(bed, await plugins(netns, directory), await compiled('chain'), netns, directory, pods)
    for (const pod of pods) node.#configure(pod)
    return node
  }

  #configure(pod: Pod): void {
    const configs = this.#plugins.configs(pod, this)
    for (const [i, config] of configs.entries())
      writeFileSync(join(this.directory, `${pod.id}.${i}`), JSON.stringify(config))
  }

  add(pods: readonly Pod[], parallel = 1): Promise<Timings> {
    return this.#run('ADD', pods, parallel)
  }

  del(pods: readonly Pod[], parallel = 1): Promise<Timings> {
    return this.#run('DEL', pods, parallel)
  }

  /** What the chain answered to the last ADD. */
  resultOf(pod: Pod): JsonObject {
    return parseJsonObject(readFileSync(join(this.directory, `${pod.id}.result`), 'utf8'), `the result of ${pod.id}`)
  }

  async #run(verb: 'ADD' | 'DEL', pods: readonly Pod[], parallel: number): Promise<Timings> {
    const { path, types, env = {} } = this.#plugins
    const attachments = pods.flatMap(({ id, netns }) => [id, netns])
    const args = [verb, this.netns.path, path, this.directory, String(parallel), types.join(','), ...attachments]
    const out = await this.#bed.run(this.#chain, args, { env })
    const times = new Map(
      out
        .trim()
        .split('\n')
        .map((line) => line.split(' '))
        .map(([id = '', nanoseconds]) => [id, Number(nanoseconds) / 1e6]),
    )
    const of = (id: string): number => {
      const time = times.get(id)
      if (time === undefined || !Number.isFinite(time)) throw new Error(`chain printed no time for ${id}: ${out}`)
      return time
    }
    return { each: pods.map(({ id }) => of(id)), all: of('all') }
  }
}
