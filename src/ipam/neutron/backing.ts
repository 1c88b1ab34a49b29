/** How addresses come to be this node's: one of these for each validity. They change the cloud and remember nothing: the keeper journals before and after. */

import type { MacText } from '#ip/mac.ts'
import type { IpText } from '#ip/text.ts'
import type { CidrText } from '#ip/prefix.ts'
import type { Validity } from './facts.ts'
import type { Address, Intent } from './record.ts'

/** One address that the cloud shows. */
export interface Seen {
  readonly ip: IpText
  readonly subnet: string
  readonly port: string
  readonly mac?: MacText | undefined
  readonly prefix?: CidrText | undefined
  /** Of the intent that brought it, where the cloud tells. */
  readonly intent?: string | undefined
}

export interface View {
  readonly seen: ReadonlyMap<IpText, Seen>
  /** Who says to be the writer of the port, by its tags. */
  readonly claims: readonly string[]
}

/** What a backing must know of the pool for a write of a whole list. */
export interface Ledger {
  readonly own: ReadonlySet<IpText>
  /** Given out or free: must not be lost. */
  readonly kept: ReadonlySet<IpText>
  readonly foreign: ReadonlySet<IpText>
}

export type BackingEvent = 'interleaved' | 'precondition' | 'repaired'

export interface Backing {
  readonly kind: Validity
  /** @throws OpenStackError `not-found`: the VM's port is gone */
  observe(): Promise<View>
  /** How much one step brings of `count`, and what it is about. */
  plan(subnet: string, count: number): Promise<Pick<Intent, 'count' | 'before' | 'prefix'>>
  /** Makes the addresses, and looks whether they are there. @throws OpenStackError; with `perhapsDone` they may be there */
  grow(intent: Intent, ledger: Ledger): Promise<readonly Seen[]>
  /** Finishes what an intent began, or takes it back; what of it is there now. May be asked again. */
  recover(intent: Intent, view: View, ledger: Ledger): Promise<readonly Seen[]>
  /** Takes addresses away. They are not there afterwards, or it throws. */
  shrink(addresses: readonly Address[], ledger: Ledger): Promise<void>
  /** Puts addresses back that somebody took away; those that could not be. */
  restore(addresses: readonly Address[], ledger: Ledger): Promise<readonly IpText[]>
}

/** A step failed before it changed anything in the cloud. */
export class NothingDone extends Error {
  override readonly name = 'NothingDone'
  readonly code = 'nothing-done'

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}
