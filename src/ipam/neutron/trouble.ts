/** What went wrong in the cloud, how long to leave it alone, and how much is still done. */

import { CniError, messageOf } from '#cni/errors.ts'
import type { Clock } from '#sys/clock.ts'
import { isCode, OpenStackError } from '#openstack/errors.ts'
import { ClaimError } from './claim.ts'
import { LookupError } from './lookup.ts'

export type Step = 'attach' | 'look' | 'clean' | 'grow' | 'shrink'

/** 2: everything. 1: nothing is given back, and nobody looks for what others changed. 0: no request at all for now. */
export type Level = 0 | 1 | 2

export type ConditionReason = 'NoPort' | 'PortTaken' | 'AddressesExhausted' | 'NeutronUnavailable' | 'StateNotWritable'

/** What is wrong, for people: a check's reason, a condition of the Node. */
export interface Condition {
  readonly reason: ConditionReason
  readonly message: string
}

/** ms of the first wait after a failure, and of the longest. */
const BACKOFF_MS = 1_000
const LONGEST_MS = 60_000
/** A mistake of configuration or policy does not mend itself quickly. */
const MISTAKE_MS = 30_000
/** Longer than this no Retry-After is believed. */
const LONGEST_ASKED_MS = 600_000
/** ms without releases after a cloud that sheds load. */
const CALM_MS = 300_000

export class Trouble {
  readonly #clock: Clock
  readonly #random: () => number
  #step: Step = 'attach'
  #failedStep: Step | undefined
  #failures = 0
  #calmUntil = 0
  #retryAt = 0
  #condition: Condition | undefined

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock
    this.#random = random
  }

  /** Of the clock: nothing is tried before. */
  get retryAt(): number {
    return this.#retryAt
  }

  get failures(): number {
    return this.#failures
  }

  get condition(): Condition | undefined {
    return this.#condition
  }

  /** `isOpen`: the client leaves Neutron alone by itself. */
  level(isOpen: boolean): Level {
    const now = this.#clock.now()
    if (isOpen || (this.#failures >= 5 && now < this.#retryAt)) return 0
    return this.#failures >= 2 || now < this.#calmUntil ? 1 : 2
  }

  begin(step: Step): void {
    this.#step = step
  }

  /** Only what failed may say that it works again: Neutron may answer questions and refuse changes. True where it had failed. */
  succeeded(step: Step | undefined = this.#failedStep): boolean {
    if (step === undefined || step !== this.#failedStep) return false
    this.#failures = 0
    this.#retryAt = 0
    this.#condition = undefined
    this.#failedStep = undefined
    return true
  }

  /** Answers the ms until the next try. */
  failed(error: unknown): number {
    const now = this.#clock.now()
    this.#failures += 1
    this.#failedStep = this.#step
    const grown = Math.min(LONGEST_MS, BACKOFF_MS * 2 ** Math.min(this.#failures - 1, 10)) * (0.5 + this.#random())
    const asked = error instanceof OpenStackError ? Math.min(LONGEST_ASKED_MS, error.retryAfterMs ?? 0) : 0
    // The first failure of any kind is tried again soon: what was wrong may have been mended just now.
    const least = isMistake(error) && this.#failures > 1 ? MISTAKE_MS * (0.75 + this.#random() / 2) : 0
    const wait = Math.max(asked, grown, least)
    this.#retryAt = now + wait
    if (isCode(error, 'throttled') || asked > 0 || this.#step === 'shrink') this.#calmUntil = now + CALM_MS
    const reason =
      error instanceof ClaimError
        ? 'PortTaken'
        : error instanceof LookupError || isMistake(error)
          ? 'NoPort'
          : 'NeutronUnavailable'
    this.#condition = {
      reason: this.#step === 'attach' ? reason : reason === 'NoPort' ? 'NeutronUnavailable' : reason,
      message: messageOf(error),
    }
    return wait
  }
}

const isMistake = (error: unknown): boolean =>
  error instanceof CniError ||
  !(error instanceof OpenStackError) ||
  isCode(error, 'config', 'forbidden', 'unauthorized', 'no-endpoint')
