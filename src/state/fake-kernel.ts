/** A kernel without a kernel: holds entries, ends dependents with their device, and refuses what a real one would refuse. */

import type { Operation } from './diff.ts'
import { deviceOf, keyOf, normal, type Entry, type Key } from './entry.ts'
import type { Change, Failure, Kernel } from './kernel.ts'
import { NodeState } from './node-state.ts'
import { linkDifference } from './same.ts'

export class FakeKernelError extends Error {
  override readonly name = 'FakeKernelError'
}

export class FakeKernel implements Kernel {
  readonly state: NodeState
  /** Devices that exist without being managed: the underlay. */
  readonly #devices: ReadonlySet<string>
  #changes: Change[] | 'overrun' = []
  #changed: () => void = () => undefined
  /** Operations that fail, by key: the error they fail with. */
  readonly refusals = new Map<Key, Error>()
  /** How often everything was read. */
  observations = 0

  constructor(entries: Iterable<Entry>, devices: Iterable<string>) {
    this.state = NodeState.of(entries)
    this.#devices = new Set(devices)
  }

  observe(): NodeState {
    this.observations++
    return NodeState.of(this.state.entries())
  }

  look(wanted: Entry): Entry | undefined {
    return wanted.kind === 'link' ? this.state.get(keyOf(wanted)) : undefined
  }

  apply(operations: readonly Operation[]): Promise<readonly Failure[]> {
    const failures: Failure[] = []
    for (const operation of operations) {
      const error = this.refusals.get(keyOf(operation.entry))
      if (error === undefined) this.change(operation)
      else failures.push({ operation, error })
    }
    return Promise.resolve(failures)
  }

  drain(): readonly Change[] | 'overrun' {
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  watch(changed: () => void): void {
    this.#changed = changed
  }

  /** As a subscription whose buffer ran over. */
  lose(): void {
    this.#changes = 'overrun'
    this.#changed()
  }

  /** One operation, by whoever; a wrong one throws. */
  change(operation: Operation): void {
    const { entry } = operation
    const key = keyOf(entry)
    const have = this.state.get(key)
    if (operation.do === 'remove') {
      if (have === undefined) throw new FakeKernelError(`remove of ${key}: it is not there`)
      if (entry.kind === 'link') {
        this.state.deleteDevice(entry.name)
        this.#tell({ what: 'device-gone', name: entry.name })
      } else {
        this.state.delete(key)
        this.#tell({ what: 'gone', key })
      }
      return
    }
    this.#mustStand(entry)
    if (operation.do === 'add' && have !== undefined) throw new FakeKernelError(`add of ${key}: it is there already`)
    if (operation.do === 'change' && have === undefined) throw new FakeKernelError(`change of ${key}: it is not there`)
    if (have?.kind === 'link' && entry.kind === 'link' && linkDifference(entry, have) === 'identity') {
      throw new FakeKernelError(`change of ${key}: its identity cannot be changed in place`)
    }
    this.state.put(entry)
    this.#tell({ what: 'seen', entry: normal(entry) })
  }

  [Symbol.dispose](): void {
    this.#changed = () => undefined
  }

  #tell(change: Change): void {
    if (this.#changes !== 'overrun') this.#changes.push(change)
    this.#changed()
  }

  #mustStand(entry: Entry): void {
    const dev = deviceOf(entry)
    if (dev !== undefined && !this.#devices.has(dev) && this.state.get(`link ${dev}`) === undefined) {
      throw new FakeKernelError(`${keyOf(entry)}: device ${dev} does not exist`)
    }
    const device = dev === undefined ? undefined : this.state.get(`link ${dev}`)
    const asksNobody = device?.kind === 'link' && device.data.type === 'ipip'
    if (entry.kind === 'route' && entry.onlink === true && !asksNobody && !this.#hasNeighbour(entry.dev, entry.via)) {
      throw new FakeKernelError(
        `${keyOf(entry)}: next hop ${entry.via} has no neighbour yet: its first packets would be lost`,
      )
    }
  }

  #hasNeighbour(dev: string | undefined, via: string | undefined): boolean {
    return this.state.get(`neigh ${dev} ${via}`) !== undefined
  }
}
