/** Taking what has come on a socket, without letting a flood have the whole process. */

import { SO, SOL } from '#sys/constants.ts'
import { ERRNO, errnoName } from '#sys/errno.ts'
import type { PollWatcher } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'

/** Datagrams of one turn of the event loop; the watcher tells of the rest. */
const TURN = 64

export interface Receiving {
  readonly sys: Sys
  readonly fd: number
  readonly buffer: Uint8Array
  readonly watcher: PollWatcher
  /** False once the socket is closed, which `take` may do. */
  readonly isOpen: () => boolean
  /** A copy, which stays. */
  readonly take: (bytes: Uint8Array) => void
  /** The socket can be read no more. */
  readonly broken: (reason: string) => void
}

/** To be called with the watcher's status. An error of the socket (the link went down) ends libuv's watching until it is taken away. */
export function receive({ sys, fd, buffer, watcher, isOpen, take, broken }: Receiving, status: number): void {
  if (status < 0 && isOpen()) {
    sys.getsockopt(fd, SOL.SOCKET, SO.ERROR, new Uint8Array(4))
    watcher.start()
  }
  for (let i = 0; i < TURN && isOpen(); i++) {
    const length = sys.recv(fd, buffer, 0)
    // ENETDOWN tells once that the link went down; what follows from it the owner finds out.
    if (length === -ERRNO.EINTR || length === -ERRNO.ENETDOWN) continue
    if (length === -ERRNO.EAGAIN) return
    if (length < 0) {
      watcher.stop()
      broken(`recv: ${errnoName(-length)}`)
      return
    }
    take(buffer.slice(0, length))
  }
}
