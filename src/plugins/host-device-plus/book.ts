/**
 * The cards of this node on disk, one file each, written and synced before the step that it tells of. They outlive a reboot, as the ports do.
 * Whoever works on a card holds its lock, which a kill releases; whoever decides about the number of cards holds the book's.
 */

import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import * as v from 'valibot'

import { ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import { LockError, lockFile, tryLockFile, withFileLock } from '#sys/flock.ts'
import { namesIn } from '#sys/folder.ts'
import { removeFile } from '#sys/remove-file.ts'
import { cardSchema, type Card, type Holder } from './card.ts'

export const bookFolder = (root: string): string => join(root, '/var/lib/heddle/nics')

/** Nobody asks a cloud while holding the book. */
const BOOK_MS = 10_000
/** Who works on a card may wait for Nova. */
const CARD_MS = 60_000

type Warn = Pick<PluginHost, 'log'>

export class Book {
  readonly folder: string
  readonly #host: Warn

  constructor(root: string, host: Warn) {
    this.folder = bookFolder(root)
    this.#host = host
  }

  #file(id: string): string {
    return join(this.folder, `${id}.json`)
  }

  #lock(id: string): string {
    return join(this.folder, `${id}.lock`)
  }

  read(id: string): Card | undefined {
    const file = this.#file(id)
    try {
      const card = v.safeParse(cardSchema, JSON.parse(readFileSync(file, 'utf8')))
      if (card.success && card.output.id === id) return card.output
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      if (!(error instanceof SyntaxError)) throw error
    }
    this.#host.log('warn', `${file} is no record of a card: it is left out`)
    return undefined
  }

  /** All that can be read. */
  list(): readonly Card[] {
    return namesIn(this.folder).flatMap((name) => {
      const id = /^([0-9a-f]{12})\.json$/.exec(name)?.[1]
      return id === undefined ? [] : (this.read(id) ?? [])
    })
  }

  of(network: string, { containerId, ifname }: Pick<Holder, 'containerId' | 'ifname'>): readonly Card[] {
    return this.list().filter(
      ({ network: of, holder }) => of === network && holder?.containerId === containerId && holder.ifname === ifname,
    )
  }

  /** On disk when it returns. Throws CniError 5 where the disk refuses: then nothing may be done. */
  write(card: Card): Card {
    try {
      this.prepare()
      writeFileAtomicSync(this.#file(card.id), `${JSON.stringify(card)}\n`, { mode: 0o600 })
      return card
    } catch (error) {
      throw ioFailure(`the record of a card cannot be written to ${this.folder}`, messageOf(error), { cause: error })
    }
  }

  prepare(): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 })
  }

  /** Its lock goes too: whoever waits finds that the file has no name any more. To be called by who holds it. */
  remove(id: string): void {
    removeFile(this.#file(id))
    removeFile(this.#lock(id))
  }

  /** Undefined while somebody works on the card. */
  tryHold(id: string): Disposable | undefined {
    this.prepare()
    const lock = tryLockFile(this.#lock(id))
    return lock === undefined ? undefined : this.#held(id, lock)
  }

  /** Throws CniError 11 when it takes too long. */
  async hold(id: string): Promise<Disposable> {
    this.prepare()
    try {
      return this.#held(id, await lockFile(this.#lock(id), { timeoutMs: CARD_MS }))
    } catch (error) {
      if (!(error instanceof LockError)) throw error
      throw tryAgain(`another program works on card ${id}`, messageOf(error))
    }
  }

  #held(id: string, lock: Disposable): Disposable {
    return {
      [Symbol.dispose]: () => {
        // Of a card that has gone meanwhile, or never was.
        if (this.read(id) === undefined) removeFile(this.#lock(id))
        lock[Symbol.dispose]()
      },
    }
  }

  /** Alone with the number of cards. Throws CniError 11 when it takes too long. */
  async alone<T>(decide: () => T): Promise<T> {
    this.prepare()
    try {
      return await withFileLock(join(this.folder, 'book.lock'), decide, { timeoutMs: BOOK_MS })
    } catch (error) {
      if (!(error instanceof LockError)) throw error
      throw tryAgain('another program decides about cards for too long', messageOf(error))
    }
  }
}
