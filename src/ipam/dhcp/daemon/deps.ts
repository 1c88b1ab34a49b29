/** What the parts of the daemon work with. */

import type { Clock } from '#sys/clock.ts'
import type { Random } from '../lease/backoff.ts'
import type { LeaseBook } from './book.ts'

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void

/** `changed`: a server gave another address or other routes than before. `unreleased`: the server could not be told. */
export type DhcpEvent =
  | 'acquired'
  | 'renewed'
  | 'rebound'
  | 'changed'
  | 'lost'
  | 'released'
  | 'unreleased'
  | 'abandoned'
  | 'garbage'

export interface Deps {
  readonly clock: Clock
  readonly random: Random
  readonly book: LeaseBook
  readonly log: Log
  readonly count: (event: DhcpEvent, family: 4 | 6) => void
  /** Where a test may kill the process. Named `dhcp.<step>`. */
  readonly failpoint: (name: string) => void
  /** ms: the longest wait between two DISCOVERs. */
  readonly resendMax: number
}
