/** When a request is sent again, and after how long: pure. */

import type { OpenStackError, OpenStackErrorCode } from './errors.ts'

/** Waits between attempts: `baseMs`, doubled each time, at most `capMs`, then spread by ± 50 %. */
export interface RetryOptions {
  /** Attempts altogether. */
  readonly attempts: number
  readonly baseMs: number
  readonly capMs: number
}

export const DEFAULT_RETRY: RetryOptions = { attempts: 4, baseMs: 250, capMs: 8_000 }

/** A service that names a longer time than this means a pause, which is the caller's to make. */
const LONGEST_RETRY_AFTER_MS = 60_000

/** Nothing was done when these come back. */
const REFUSED: readonly OpenStackErrorCode[] = ['throttled']
/** Whether something was done is open, unless the error says so; harmless where doing it twice is the same as once. */
const UNCERTAIN: readonly OpenStackErrorCode[] = ['unavailable', 'unreachable', 'server', 'timeout']

/**
 * The milliseconds to wait before the next attempt; undefined: give up.
 * @param attempt how many were made
 * @param repeatable sending it twice does no more than sending it once
 */
export function waitBefore(
  attempt: number,
  error: OpenStackError,
  repeatable: boolean,
  random: () => number,
  options: RetryOptions = DEFAULT_RETRY,
): number | undefined {
  if (attempt >= options.attempts) return undefined
  const again = REFUSED.includes(error.code) || (UNCERTAIN.includes(error.code) && (repeatable || !error.perhapsDone))
  if (!again) return undefined
  const grown = Math.min(options.capMs, options.baseMs * 2 ** Math.min(attempt - 1, 30))
  const wait = Math.round(grown * (0.5 + random()))
  const asked = error.retryAfterMs ?? 0
  if (asked > LONGEST_RETRY_AFTER_MS) return undefined
  return Math.max(wait, asked)
}

/** Reads Retry-After: seconds, or a date (RFC 9110 §10.2.3). Milliseconds; undefined where there is none that can be read. */
export function parseRetryAfter(text: string | undefined, wall: number): number | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text.trim())) return Number(text.trim()) * 1000
  // A date has a day's name in front; anything else that Date.parse would guess at is not one.
  const at = /^[A-Z][a-z]{2}/.test(text.trim()) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : Math.max(0, at - wall)
}
