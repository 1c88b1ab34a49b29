/** The kernel as the reconciler sees it: look, change, and be told of changes. The real one is `kernel-netlink.ts`, the other one `fake-kernel.ts`. */

import type { IpText } from '#ip/text.ts'
import type { Operation } from './diff.ts'
import type { Entry, Key } from './entry.ts'
import type { NodeState } from './node-state.ts'

/** Something that changed, in the kernel's order, whoever changed it. */
export type Change =
  /** An entry is there, new or altered. */
  | { readonly what: 'seen'; readonly entry: Entry }
  | { readonly what: 'gone'; readonly key: Key }
  /** A sysctl's value now. */
  | { readonly what: 'value'; readonly key: Key; readonly value: string }
  /** A device ended; what stood on it ended too, of which the kernel does not tell. */
  | { readonly what: 'device-gone'; readonly name: string }
  /**
   * A device went down or lost its last IPv4 address (`ip` absent), or an address went (`ip`): the kernel drops the device's IPv4
   * routes, or those that have the address as their source, and tells nobody.
   */
  | { readonly what: 'routes-gone'; readonly dev: string; readonly ip?: IpText }
  /** A device came up or came into being: what failed for want of it may work now. */
  | { readonly what: 'device-up'; readonly name: string }

export interface Failure {
  readonly operation: Operation
  readonly error: Error
}

export interface Kernel extends Disposable {
  /** Everything that is ours or that `wanted` has a key for. */
  observe(wanted: NodeState): NodeState
  /** What is there under the key of a link, a sysctl or a table; undefined for other kinds, which can be written over whatever is there. */
  look(wanted: Entry): Entry | undefined
  /** Applies operations in order; each fails by itself. An entry that is already as it should be is no failure. */
  apply(operations: readonly Operation[]): Promise<readonly Failure[]>
  /** What changed since the last call, own changes included; 'overrun' when changes were lost and only `observe` tells. */
  drain(): readonly Change[] | 'overrun'
  /** Calls back whenever `drain` has something to say. Once only. `relevant`: keys that are wanted though not ours. */
  watch(changed: () => void, relevant: (key: Key) => boolean): void
}
