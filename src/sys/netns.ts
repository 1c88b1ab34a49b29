/** Network namespaces: excursions into them, and their life as files. */

import { constants, fstatSync, mkdirSync, statfsSync, statSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { types } from 'node:util'
import { nativeSys } from './addon.ts'
import { AF, CLONE_NEWNET, MNT_DETACH, MS, NSFS_MAGIC, SO, SOCK, SOL } from './constants.ts'
import { check, ERRNO, hasCode, SysError } from './errno.ts'
import type { Sys } from './sys.ts'

/** A namespace is a path (`/run/netns/x`, `/proc/PID/ns/net`) or an open descriptor of one. */
export type Netns = string | number

export class NetnsError extends Error {
  override readonly name = 'NetnsError'
  readonly code: 'not-a-netns' | 'netns-missing' | 'async-excursion'

  constructor(code: NetnsError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Where this thread is now: the innermost excursion's namespace, or home. */
let current: number | undefined
/** Its device and inode, which tell namespaces apart while one is open. */
let currentIdentity: string | undefined

/**
 * Runs `fn` with this thread in the namespace, and comes back. Like `ip netns exec`, but without a process.
 *
 * `fn` must be synchronous: what runs after an `await` would run at home, or worse. Sockets opened inside stay in that
 * namespace for good, /proc/sys/net is that namespace's, and child processes started inside are born there. Excursions
 * nest. If the way back is barred the process aborts, because everything it did from then on would hit the wrong network.
 * To be where one is already takes no step, and so no right to take one (CAP_SYS_ADMIN).
 */
export function inNetns<T>(netns: Netns, fn: () => T, sys: Sys = nativeSys()): T {
  if (types.isAsyncFunction(fn)) throw asyncExcursion()
  const home = (current ??= firstExcursion(sys))
  const homeIdentity = (currentIdentity ??= identityOf(home))
  const target = typeof netns === 'number' ? netns : openNetns(netns, sys)
  try {
    const identity = identityOf(target)
    if (identity !== undefined && identity === homeIdentity) return synchronous(fn)
    enter(target, netns, sys)
    current = target
    currentIdentity = identity
    try {
      return synchronous(fn)
    } finally {
      current = home
      currentIdentity = homeIdentity
      if (sys.setns(home, CLONE_NEWNET) < 0) process.abort()
    }
  } finally {
    if (target !== netns) sys.close(target)
  }
}

function synchronous<T>(fn: () => T): T {
  const result = fn()
  if (!types.isPromise(result)) return result
  result.catch(() => undefined)
  throw asyncExcursion()
}

/** Undefined for what is no open file, as a fake's descriptors are. */
function identityOf(fd: number): string | undefined {
  try {
    const { dev, ino } = fstatSync(fd)
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

const asyncExcursion = (): NetnsError =>
  new NetnsError(
    'async-excursion',
    'an excursion into a network namespace must be synchronous: pass a function that returns no promise',
  )

/** Pool threads keep the namespace they are born in, and libuv makes all of them at the first request: so before the first setns. */
function firstExcursion(sys: Sys): number {
  void warmThreadPool(sys)
  return check(sys.open('/proc/thread-self/ns/net', constants.O_RDONLY, 0), 'open', '/proc/thread-self/ns/net')
}

function enter(fd: number, netns: Netns, sys: Sys): void {
  const rc = sys.setns(fd, CLONE_NEWNET)
  if (rc === -ERRNO.EINVAL) throw notANetns(netns)
  check(rc, 'setns', String(netns))
}

const notANetns = (netns: Netns): NetnsError =>
  new NetnsError(
    'not-a-netns',
    `${netns} is not a network namespace: expected a path such as /run/netns/NAME or /proc/PID/ns/net`,
  )

/**
 * Forces every thread of libuv's pool into existence. They are created together when the first request is queued, so
 * they all exist when this returns; the promise tells when one has answered. `inNetns` does it by itself.
 */
export const warmThreadPool = (sys: Sys = nativeSys()): Promise<number> => sys.rest(0)

/** Opens a namespace; close the descriptor with `sys.close`. */
export function openNetns(path: string, sys: Sys = nativeSys()): number {
  const fd = sys.open(path, constants.O_RDONLY, 0)
  if (fd === -ERRNO.ENOENT) {
    throw new NetnsError('netns-missing', `network namespace ${path} does not exist`, {
      cause: new SysError(-fd, 'open', path),
    })
  }
  return check(fd, 'open', path)
}

/** What tells namespaces apart, whatever path leads there: `dev:inode` of the namespace file. */
export function netnsId(netns: Netns): string {
  const stat = typeof netns === 'number' ? fstatSync(netns) : statSync(netns)
  return `${stat.dev}:${stat.ino}`
}

/**
 * A number that no other network namespace of this boot has or will have, unlike its inode's, which is used again. Undefined before Linux 5.14. Throws `NetnsError`
 * and `SysError` where the namespace cannot be entered. Source: socket(7), SO_NETNS_COOKIE.
 */
export function netnsCookie(netns: Netns, sys: Sys = nativeSys()): string | undefined {
  return inNetns(
    netns,
    () => {
      const fd = check(sys.socket(AF.NETLINK, SOCK.RAW, 0), 'socket', String(netns))
      try {
        const out = new BigUint64Array(1)
        return sys.getsockopt(fd, SOL.SOCKET, SO.NETNS_COOKIE, new Uint8Array(out.buffer)) < 0 ? undefined : `${out[0]}`
      } finally {
        sys.close(fd)
      }
    },
    sys,
  )
}

/** True when `path` is a namespace file (of any kind), false when it is something else or missing. */
export function isNamespaceFile(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** The namespace of this thread right now. */
export const CURRENT_NETNS = '/proc/thread-self/ns/net'

/**
 * Makes a network namespace that lives as the file `path`. Like `ip netns add` for `/run/netns/NAME`, without a process.
 * Throws `SysError` EEXIST when there is one.
 */
export function createNetns(path: string, sys: Sys = nativeSys()): void {
  makeMountPoint(path, sys)
  finish(sys.createNetns(path), path)
}

/** Like `createNetns`, on the thread pool: the kernel takes some milliseconds for each. */
export async function createNetnsOnPool(path: string, sys: Sys = nativeSys()): Promise<void> {
  makeMountPoint(path, sys)
  finish(await sys.createNetnsOnPool(path), path)
}

function makeMountPoint(path: string, sys: Sys): void {
  const folder = dirname(path)
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  if (folder === '/run/netns' || folder === '/var/run/netns') share(folder, sys)
  const fd = check(sys.open(path, constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL, 0), 'open', path)
  sys.close(fd)
}

/** As `ip netns` does: names made here are to be seen in every mount namespace that shares the folder. */
function share(folder: string, sys: Sys): void {
  if (sys.mount('', folder, 'none', MS.SHARED | MS.REC, '') === 0) return
  check(sys.mount(folder, folder, 'none', MS.BIND | MS.REC, ''), 'mount --bind', folder)
  check(sys.mount('', folder, 'none', MS.SHARED | MS.REC, ''), 'mount --make-rshared', folder)
}

function finish(rc: number, path: string): void {
  if (rc < 0) unlinkSync(path)
  check(rc, 'create network namespace', path)
}

/**
 * Unmounts and removes a namespace's file. Like `ip netns delete`. False when there was none. The namespace itself ends
 * when no process, socket or mount holds it any more.
 */
export function deleteNetns(path: string, sys: Sys = nativeSys()): boolean {
  const rc = sys.umount(path, MNT_DETACH)
  // EINVAL: a plain file, left where making the namespace was interrupted.
  if (rc < 0 && rc !== -ERRNO.EINVAL && rc !== -ERRNO.ENOENT) check(rc, 'umount', path)
  try {
    unlinkSync(path)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}
