/** The way back of a failed ADD: each step that took effect leaves what undoes it; last done, first undone. */

import { leftBehind } from '#cni/attachment/ledger.ts'
import { messageOf } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'

type Step = readonly [what: string, undo: () => void | Promise<void>]

export class Undo {
  readonly #steps: Step[] = []

  add(what: string, undo: Step[1]): void {
    this.#steps.push([what, undo])
  }

  /** Runs all steps, whatever fails; what cannot be undone is left to the runtime's DEL, and logged. False when there is such. */
  async run(host: PluginHost): Promise<boolean> {
    let isAll = true
    for (const [what, undo] of this.#steps.toReversed()) {
      try {
        await undo()
      } catch (error) {
        isAll = false
        host.log('warn', `undoing a failed ADD: ${what}`, { error: messageOf(error) })
      }
    }
    this.#steps.length = 0
    return isAll
  }
}

/** Runs an ADD; when it fails, its steps are undone before the error goes on. */
export async function undoing<T>(host: PluginHost, work: (undo: Undo) => Promise<T>): Promise<T> {
  const undo = new Undo()
  try {
    return await work(undo)
  } catch (error) {
    if (!(await undo.run(host))) leftBehind(error)
    throw error
  }
}

/** Runs the parts of a DEL or GC, each whatever became of the others; returns what they threw. */
export async function all(parts: readonly (() => unknown)[]): Promise<readonly unknown[]> {
  const outcomes = await Promise.allSettled(parts.map(async (part) => part()))
  return outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
}
