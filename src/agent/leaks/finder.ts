/** Looks again and again for what attachments have left, and takes away what two looks in a row have shown. */

import { messageOf } from '#cni/errors.ts'
import type { Judgement, Leftover } from './judge.ts'

export interface LeakFinderOptions {
  readonly look: () => Promise<Judgement>
  readonly remove: (leftover: Leftover) => Promise<boolean>
  readonly onFound?: (leftover: Leftover) => void
  readonly onRemoved?: (leftover: Leftover) => void
  readonly onFailure?: (leftover: Leftover, error: unknown) => void
}

export interface Round extends Judgement {
  readonly removed: readonly Leftover[]
  readonly failed: readonly { readonly leftover: Leftover; readonly reason: string }[]
}

export class LeakFinder {
  readonly #options: LeakFinderOptions
  #before: ReadonlySet<string> = new Set()

  constructor(options: LeakFinderOptions) {
    this.#options = options
  }

  /** One look. What the look before has shown too is removed, one after the other. Throws what `look` throws. */
  async round(): Promise<Round> {
    const { look, remove, onFound, onRemoved, onFailure } = this.#options
    const judgement = await look()
    const before = this.#before
    const removed: Leftover[] = []
    const failed: { leftover: Leftover; reason: string }[] = []
    for (const leftover of judgement.leftovers) {
      if (!before.has(leftover.key)) {
        onFound?.(leftover)
        continue
      }
      try {
        if (!(await remove(leftover))) continue
        removed.push(leftover)
        onRemoved?.(leftover)
      } catch (error) {
        failed.push({ leftover, reason: messageOf(error) })
        onFailure?.(leftover, error)
      }
    }
    this.#before = new Set(judgement.leftovers.map(({ key }) => key))
    return { ...judgement, removed, failed }
  }
}
