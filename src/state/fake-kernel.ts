/** A kernel without a kernel: holds entries, ends dependents with their device, and refuses what a real one would refuse. */

import { deviceOf, keyOf, type Entry } from './entry.ts'
import type { Operation } from './diff.ts'
import { NodeState } from './node-state.ts'
import { linkDifference } from './same.ts'

export class FakeKernelError extends Error {
  override readonly name = 'FakeKernelError'
}

export class FakeKernel {
  readonly state: NodeState
  /** Devices that exist without being managed: the underlay. */
  readonly #devices: ReadonlySet<string>

  constructor(entries: Iterable<Entry>, devices: Iterable<string>) {
    this.state = NodeState.of(entries)
    this.#devices = new Set(devices)
  }

  apply(operations: readonly Operation[]): void {
    for (const operation of operations) this.#applyOne(operation)
  }

  #applyOne(operation: Operation): void {
    const { entry } = operation
    const key = keyOf(entry)
    const have = this.state.get(key)
    if (operation.do === 'remove') {
      if (have === undefined) throw new FakeKernelError(`remove of ${key}: it is not there`)
      if (entry.kind === 'link') this.state.deleteDevice(entry.name)
      else this.state.delete(key)
      return
    }
    this.#mustStand(entry)
    if (operation.do === 'add' && have !== undefined) throw new FakeKernelError(`add of ${key}: it is there already`)
    if (operation.do === 'change' && have === undefined) throw new FakeKernelError(`change of ${key}: it is not there`)
    if (have?.kind === 'link' && entry.kind === 'link' && linkDifference(entry, have) === 'identity') {
      throw new FakeKernelError(`change of ${key}: its identity cannot be changed in place`)
    }
    this.state.put(entry)
  }

  #mustStand(entry: Entry): void {
    const dev = deviceOf(entry)
    if (dev !== undefined && !this.#devices.has(dev) && this.state.get(`link ${dev}`) === undefined) {
      throw new FakeKernelError(`${keyOf(entry)}: device ${dev} does not exist`)
    }
    if (entry.kind === 'route' && entry.onlink === true && !this.#hasNeighbour(entry.dev, entry.via)) {
      throw new FakeKernelError(
        `${keyOf(entry)}: next hop ${entry.via} has no neighbour yet: its first packets would be lost`,
      )
    }
  }

  #hasNeighbour(dev: string | undefined, via: string | undefined): boolean {
    return this.state.get(`neigh ${dev} ${via}`) !== undefined
  }
}
