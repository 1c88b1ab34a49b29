/** Watches a descriptor on the event loop. */

import { nativeSys } from './addon.ts'
import { check } from './errno.ts'
import type { PollHandle, Sys } from './sys.ts'

export const READABLE = 1
export const WRITABLE = 2

/**
 * Calls back while the descriptor is ready (level-triggered). `status` below 0 is an errno: libuv has then stopped the
 * watcher, and the owner drains the error (SO_ERROR) and starts it again. Keeps the event loop running until `unref`.
 * Dispose it before closing the descriptor.
 */
export class PollWatcher implements Disposable {
  readonly #sys: Sys
  #handle: PollHandle | undefined

  constructor(fd: number, callback: (status: number, events: number) => void, sys: Sys = nativeSys()) {
    this.#sys = sys
    const handle = sys.pollOpen(fd, callback)
    if (typeof handle === 'number') {
      check(handle, 'uv_poll_init', `fd ${fd}`)
      throw new Error('pollOpen returned no handle')
    }
    this.#handle = handle
  }

  start(events: number = READABLE): void {
    if (this.#handle !== undefined) check(this.#sys.pollStart(this.#handle, events), 'uv_poll_start')
  }

  stop(): void {
    if (this.#handle !== undefined) check(this.#sys.pollStart(this.#handle, 0), 'uv_poll_stop')
  }

  /** The watcher no longer keeps the process alive. */
  unref(): this {
    if (this.#handle !== undefined) this.#sys.pollRef(this.#handle, 0)
    return this
  }

  [Symbol.dispose](): void {
    if (this.#handle !== undefined) this.#sys.pollClose(this.#handle)
    this.#handle = undefined
  }
}
