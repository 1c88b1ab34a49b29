/**
 * One call's connection, without a stream around it: a shim sends one frame and reads one answer. Nearly always the frame lies there when the connection is taken, and the
 * answer fits the socket's buffer, so that both cost one system call and no turn of the event loop.
 */

import { nativeSys } from '#sys/addon.ts'
import { MSG, SHUT_WR } from '#sys/constants.ts'
import { ERRNO } from '#sys/errno.ts'
import { PollWatcher, READABLE, WRITABLE } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'
import { frameLength } from './protocol.ts'

/** For a shim to send its call, and to read the answer. */
const FRAME_DEADLINE_MS = 10_000
/** Chunks of a long frame that are read before others have their turn. */
const CHUNKS_AT_ONCE = 16

/** Received into and copied from within one call. */
const arrived = Buffer.allocUnsafeSlow(64 * 1024)

export class Connection implements Disposable {
  readonly fd: number
  readonly #sys: Sys
  readonly #onClosed: () => void
  #watcher: PollWatcher | undefined
  #watched = 0
  #timer: NodeJS.Timeout | undefined
  /** What an event on the socket means at the moment. */
  #proceed: (() => void) | undefined
  #isWhole = false
  #isOpen = true
  #isAnswering = false

  /** Owns the descriptor, which must not block. `onClosed` hears once of its end. */
  constructor(fd: number, onClosed: () => void, sys: Sys = nativeSys()) {
    this.fd = fd
    this.#onClosed = onClosed
    this.#sys = sys
  }

  /** An answer is on its way. */
  get isAnswering(): boolean {
    return this.#isAnswering && this.#isOpen
  }

  /** The first complete frame; undefined when the caller went away before, or took too long. Rejects with ProtocolError. */
  frame(): Promise<Buffer | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>()
    const chunks: Buffer[] = []
    let size = 0
    const settle = (act: () => void): void => {
      this.#rest()
      act()
    }
    const read = (): void => {
      try {
        for (let i = 0; i < CHUNKS_AT_ONCE; i++) {
          const rc = this.#isOpen ? this.#sys.recv(this.fd, arrived, MSG.DONTWAIT) : 0
          if (rc === -ERRNO.EAGAIN || rc === -ERRNO.EINTR) break
          if (rc <= 0) return settle(() => resolve(undefined))
          size += rc
          const first = chunks[0]
          // The length must lie in the first chunk, however small the sender's pieces are.
          if (first !== undefined && first.length < 4) chunks[0] = Buffer.concat([first, arrived.subarray(0, rc)])
          else chunks.push(Buffer.from(arrived.subarray(0, rc)))
          const length = frameLength(chunks[0] ?? arrived)
          if (length === undefined || size < length) continue
          this.#isWhole = size === length
          const [only] = chunks
          const whole = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks)
          return settle(() => resolve(whole.subarray(0, length)))
        }
        this.#await(READABLE, read)
      } catch (error) {
        settle(() => reject(error))
      }
    }
    read()
    return promise
  }

  /** Sends the answer and ends the connection; who does not take it in time gets less. */
  answer(bytes: Buffer): void {
    this.#isAnswering = true
    let sent = 0
    const write = (): void => {
      while (this.#isOpen && sent < bytes.length) {
        const rc = this.#sys.send(this.fd, bytes.subarray(sent), MSG.DONTWAIT)
        if (rc === -ERRNO.EAGAIN) return this.#await(WRITABLE, write)
        if (rc === -ERRNO.EINTR) continue
        // The shim was killed: its call has run to its end, and the runtime's DEL follows.
        if (rc < 0) return this[Symbol.dispose]()
        sent += rc
      }
      // Closing with something unread would reset the connection, and take the answer away.
      if (this.#isWhole) this[Symbol.dispose]()
      else this.#readToEnd()
    }
    write()
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    clearTimeout(this.#timer)
    this.#watcher?.[Symbol.dispose]()
    this.#sys.close(this.fd)
    const proceed = this.#proceed
    this.#proceed = undefined
    this.#onClosed()
    // Whoever waits for a frame hears that none comes.
    proceed?.()
  }

  #readToEnd(): void {
    if (!this.#isOpen) return
    this.#sys.shutdown(this.fd, SHUT_WR)
    const read = (): void => {
      for (let i = 0; i < CHUNKS_AT_ONCE && this.#isOpen; i++) {
        const rc = this.#sys.recv(this.fd, arrived, MSG.DONTWAIT)
        if (rc === -ERRNO.EAGAIN || rc === -ERRNO.EINTR) break
        if (rc <= 0) return this[Symbol.dispose]()
      }
      this.#await(READABLE, read)
    }
    read()
  }

  /** Goes on with the next event of this kind. From the first wait on there is a deadline, which no single byte moves. */
  #await(events: number, proceed: () => void): void {
    if (!this.#isOpen) return
    this.#proceed = proceed
    this.#timer ??= setTimeout(() => this[Symbol.dispose](), FRAME_DEADLINE_MS)
    this.#watcher ??= new PollWatcher(this.fd, () => this.#proceed?.(), this.#sys)
    if (this.#watched === events) return
    this.#watched = events
    this.#watcher.start(events)
  }

  #rest(): void {
    this.#proceed = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#watched === 0) return
    this.#watched = 0
    this.#watcher?.stop()
  }
}
