import type { Clock } from '#sys/clock.ts'
import { OpenStackError } from './errors.ts'

/** A signal that aborts with another one, or when a time is over. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal
  /** Milliseconds that are left. */
  readonly left: () => number
}

/** Ties a signal to a deadline. Disposing releases timer and listener: a signal that lives for ever must not collect listeners. */
export function deadline(clock: Clock, parent: AbortSignal | undefined, ms: number, object: string): Deadline {
  const controller = new AbortController()
  const end = clock.now() + ms
  const onAbort = (): void => {
    const cause: unknown = parent?.reason
    // A longer deadline around this one tells its own story.
    const told = cause instanceof OpenStackError
    controller.abort(told ? cause : new OpenStackError('aborted', 'the request was given up', { object, cause }))
  }
  const timer = clock.timeout(ms, () => {
    const message = `no complete answer within ${Math.round(ms)} ms`
    controller.abort(new OpenStackError('timeout', message, { object, perhapsDone: true }))
  })
  if (parent?.aborted === true) onAbort()
  else parent?.addEventListener('abort', onAbort, { once: true })
  return {
    signal: controller.signal,
    left: () => Math.max(0, end - clock.now()),
    [Symbol.dispose]: () => {
      timer[Symbol.dispose]()
      parent?.removeEventListener('abort', onAbort)
    },
  }
}
