/** The kernel with a relay beside it: the reconciler sees one thing, and repairs a relay as it repairs a route. */

import type { Operation } from '#state/diff.ts'
import type { Entry, Key } from '#state/entry.ts'
import type { Change, Failure, Kernel } from '#state/kernel.ts'
import type { NodeState } from '#state/node-state.ts'
import type { RelaySupervisor } from './supervisor.ts'

export class RelayKernel implements Kernel {
  readonly #kernel: Kernel
  readonly #relay: RelaySupervisor

  constructor(kernel: Kernel, relay: RelaySupervisor) {
    this.#kernel = kernel
    this.#relay = relay
  }

  observe(wanted: NodeState): NodeState {
    const seen = this.#kernel.observe(wanted)
    for (const entry of this.#relay.entries()) seen.put(entry)
    return seen
  }

  look(wanted: Entry): Entry | undefined {
    return isRelay(wanted) ? this.#relay.get(wanted) : this.#kernel.look(wanted)
  }

  /** The relay's after the others': it needs its device. */
  async apply(operations: readonly Operation[]): Promise<readonly Failure[]> {
    const own = operations.filter(({ entry }) => isRelay(entry))
    const others = operations.filter(({ entry }) => !isRelay(entry))
    const failures = others.length === 0 ? [] : await this.#kernel.apply(others)
    return own.length === 0 ? failures : [...failures, ...(await this.#relay.apply(own))]
  }

  drain(): readonly Change[] | 'overrun' {
    const changes = this.#kernel.drain()
    const own = this.#relay.drain()
    return changes === 'overrun' ? changes : [...changes, ...own]
  }

  watch(changed: () => void, relevant: (key: Key) => boolean): void {
    this.#relay.watch(changed)
    this.#kernel.watch(changed, relevant)
  }

  [Symbol.dispose](): void {
    this.#relay[Symbol.dispose]()
    this.#kernel[Symbol.dispose]()
  }
}

const isRelay = ({ kind }: Entry): boolean => kind === 'relay' || kind === 'relaypeer'
