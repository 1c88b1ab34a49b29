/** Who wants to know what is asked of the cloud, in calls and between them: the agent's metrics. */

import type { Attempt } from '#openstack/client.ts'

export type NicStep = 'create' | 'attach' | 'detach'

export interface NicObserver {
  readonly onStep: (step: NicStep, outcome: 'done' | 'failed') => void
  readonly onAttempt: (attempt: Attempt) => void
}

const observers = new Set<NicObserver>()

/** Of this whole process, until the result is disposed. */
export function observeNics(observer: NicObserver): Disposable {
  observers.add(observer)
  return { [Symbol.dispose]: () => void observers.delete(observer) }
}

export const tellStep: NicObserver['onStep'] = (step, outcome) => {
  for (const { onStep } of observers) onStep(step, outcome)
}

export const tellAttempt: NicObserver['onAttempt'] = (attempt) => {
  for (const { onAttempt } of observers) onAttempt(attempt)
}
