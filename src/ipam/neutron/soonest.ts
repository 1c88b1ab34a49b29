import type { Clock } from '#sys/clock.ts'

/** Until something happens, at most so many ms. */
export async function soonest(clock: Clock, ms: number, event: Promise<void>, signal: AbortSignal): Promise<void> {
  const over = new AbortController()
  const late = clock.sleep(ms, AbortSignal.any([over.signal, signal])).catch(() => undefined)
  await Promise.race([event, late])
  over.abort()
}
