import { KubeError } from './errors.ts'

/** A signal that aborts with another one, or when a time is over. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal
  /** Ends the deadline, but not the tie to the other signal. */
  readonly lift: () => void
}

/**
 * Ties a signal to a deadline. Disposing it releases timer and listener, so that a signal that lives as long as the
 * program does not collect listeners.
 */
export function deadline(parent: AbortSignal | undefined, ms: number, object: string): Deadline {
  const controller = new AbortController()
  const onAbort = (): void =>
    controller.abort(new KubeError('aborted', 'the request was aborted', { object, cause: parent?.reason }))
  const timer = setTimeout(() => {
    controller.abort(new KubeError('timeout', `no complete answer within ${ms} ms`, { object }))
  }, ms)
  if (parent?.aborted === true) onAbort()
  else parent?.addEventListener('abort', onAbort, { once: true })
  const lift = (): void => clearTimeout(timer)
  return {
    signal: controller.signal,
    lift,
    [Symbol.dispose]: () => {
      lift()
      parent?.removeEventListener('abort', onAbort)
    },
  }
}
