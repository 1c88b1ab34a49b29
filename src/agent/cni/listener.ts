/** The listening end of the agent's socket: put in place whole, taken away without touching a successor's. */

import { mkdirSync } from 'node:fs'
import { chmod, lstat, rename, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { CniError, messageOf } from '#cni/errors.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import { PollWatcher } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'

const BACKLOG = 4096
/** sun_path with its NUL (unix(7)). */
const MAX_PATH = 108
/** Without a descriptor to spare nobody can be served; asking again at once would only keep the processor busy. */
const BREATH_MS = 100

export interface Listener {
  /** Takes no more connections. */
  stop(): void
  /** Removes the socket's file, unless a successor has put its own there. */
  remove(): Promise<void>
}

/**
 * Listens; `take` gets each connection's descriptor, which does not block, and owns it. On a fresh name, moved into place, so that a socket is never there with the wrong mode, nor
 * missing while an agent takes over. Throws CniError where another agent answers on the socket, or the path cannot be used.
 */
export async function listen(
  socketPath: string,
  take: (fd: number) => void,
  sys: Sys = nativeSys(),
): Promise<Listener> {
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 })
  await removeStale(socketPath)
  const fresh = `${socketPath}.${process.pid}`
  await rm(fresh, { force: true })
  const fd = bound(socketPath, fresh, sys)
  const watcher = new PollWatcher(fd, () => accept(fd, take, watcher, sys), sys)
  try {
    await chmod(fresh, 0o600)
    await rename(fresh, socketPath)
    const { ino } = await lstat(socketPath)
    watcher.start()
    return {
      stop: () => {
        watcher[Symbol.dispose]()
        sys.close(fd)
      },
      remove: async () => {
        const there = await lstat(socketPath).catch(() => undefined)
        if (there?.ino === ino) await rm(socketPath, { force: true })
      },
    }
  } catch (error) {
    watcher[Symbol.dispose]()
    sys.close(fd)
    await rm(fresh, { force: true })
    throw unusable(socketPath, error)
  }
}

function bound(socketPath: string, fresh: string, sys: Sys): number {
  const path = Buffer.from(fresh)
  if (path.length >= MAX_PATH)
    throw unusable(socketPath, `a socket's path has at most ${MAX_PATH - 1} bytes, ${fresh} has ${path.length}`)
  const address = Buffer.alloc(2 + path.length + 1)
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF.UNIX
  path.copy(address, 2)
  const fd = check(sys.socket(AF.UNIX, SOCK.STREAM | SOCK.NONBLOCK, 0), 'socket', 'unix')
  try {
    check(sys.bind(fd, address), 'bind', fresh)
    check(sys.listen(fd, BACKLOG), 'listen', fresh)
    return fd
  } catch (error) {
    sys.close(fd)
    throw unusable(socketPath, error)
  }
}

const unusable = (socketPath: string, cause: unknown): CniError =>
  new CniError('ioFailure', `cannot listen on ${socketPath}: ${messageOf(cause)}`, undefined, { cause })

/** One of those that wait; the watcher calls again while there are more. */
function accept(fd: number, take: (fd: number) => void, watcher: PollWatcher, sys: Sys): void {
  const rc = sys.accept(fd, SOCK.NONBLOCK)
  if (rc >= 0) return take(rc)
  if (rc === -ERRNO.EAGAIN || rc === -ERRNO.EINTR || rc === -ERRNO.ECONNABORTED) return
  watcher.stop()
  setTimeout(() => watcher.start(), BREATH_MS)
}

/** A socket that nobody answers on may go; another agent's must not. */
async function removeStale(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new CniError(
      'ioFailure',
      `${socketPath} is there and is no socket`,
      'remove it, or choose another path with --socket',
    )
  }
  const isAlive = await new Promise<boolean>((resolve) => {
    const probe = connect(socketPath)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (isAlive) {
    throw new CniError(
      'ioFailure',
      `another agent answers on ${socketPath}`,
      'stop it, or choose another path with --socket',
    )
  }
}
