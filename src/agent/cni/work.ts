/** Which calls may run now: one at a time for an attachment, a bounded number in all, a bounded number waiting. */

import { tryAgain } from '#cni/errors.ts'

export interface WorkLimits {
  /** Calls running at the same time. */
  readonly running: number
  /** Calls waiting for a place or for another call of their attachment. */
  readonly waiting: number
}

export interface Work {
  /**
   * Runs `job` when its turn comes. Jobs with the same key run one after the other, in order; `after` names another key whose jobs of before have to end
   * first. Throws CniError 11 when too many wait.
   */
  run<T>(key: string, job: () => Promise<T>, after?: string): Promise<T>
  readonly running: number
  readonly waiting: number
  /** Of jobs that run or wait. */
  keys(): Iterable<string>
}

export function createWork(limits: WorkLimits): Work {
  const last = new Map<string, Promise<unknown>>()
  const queue: (() => void)[] = []
  let running = 0
  let waiting = 0

  async function run<T>(key: string, job: () => Promise<T>, after?: string): Promise<T> {
    if (waiting >= limits.waiting) {
      throw tryAgain(`the Heddle agent is busy: ${waiting} calls are waiting`, 'the runtime will try again')
    }
    const before = last.get(key)
    const other = after === undefined ? undefined : last.get(after)
    const turn = (async () => {
      waiting++
      try {
        await before?.catch(() => {})
        await other?.catch(() => {})
        await place()
      } finally {
        waiting--
      }
      try {
        return await job()
      } finally {
        leave()
      }
    })()
    last.set(key, turn)
    try {
      return await turn
    } finally {
      if (last.get(key) === turn) last.delete(key)
    }
  }

  function place(): Promise<void> | undefined {
    if (running < limits.running) {
      running++
      return undefined
    }
    return new Promise((resolve) => {
      queue.push(resolve)
    })
  }

  /** A place goes straight to the first in the queue, so that nobody overtakes it. */
  function leave(): void {
    const next = queue.shift()
    if (next === undefined) running--
    else next()
  }

  return {
    run,
    keys: () => last.keys(),
    get running() {
      return running
    },
    get waiting() {
      return waiting
    },
  }
}
