/** Whether the sandbox that a record or a cached result names still lives. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname } from 'node:path'

import { netnsIdentity } from '#cni/netns.ts'
import { hasCode } from '#sys/errno.ts'
import { isNamespaceFile, netnsCookie } from '#sys/netns.ts'

/** `unknown`: from here it cannot be seen; what belongs to it is left alone. */
export type SandboxState = 'live' | 'gone' | 'unknown'

/** What the path of a namespace leads to. `elsewhere`: its folder is not even there, as in another mount namespace. `other`: to something that is no namespace. */
export type PathFact =
  | { readonly is: 'namespace'; readonly id: string; readonly cookie?: string | undefined }
  | { readonly is: 'nothing'; readonly folderId?: string | undefined }
  | { readonly is: 'elsewhere' | 'other' }

export interface SandboxRef {
  readonly netns: string
  readonly netnsId?: string | undefined
  readonly cookie?: string | undefined
  /** The folder that the path was in: `device:inode`. */
  readonly folderId?: string | undefined
  /** The pid namespace in which a path through /proc means something. */
  readonly pidns?: string | undefined
  /** The boot it was made in. */
  readonly boot?: string | undefined
}

export interface SandboxFacts {
  readonly boot: string
  readonly pidns: string | undefined
  readonly path: PathFact
  /** A process or a mount holds the namespace, wherever its path is. */
  readonly isHeld: boolean
}

/** Pure. In doubt not `gone`. */
export function judgeSandbox(ref: SandboxRef, { boot, pidns, path, isHeld }: SandboxFacts): SandboxState {
  if (ref.boot !== undefined && ref.boot !== boot) return 'gone'
  if (ref.netns === '') return 'unknown'
  if (ref.netns.startsWith('/proc/') && (ref.pidns === undefined || ref.pidns !== pidns)) return 'unknown'
  if (path.is === 'elsewhere' || path.is === 'other') return 'unknown'
  if (path.is === 'namespace' && isSame(ref, path)) return 'live'
  if (path.is === 'nothing' && ref.folderId !== undefined && path.folderId !== ref.folderId) return 'unknown'
  return isHeld ? 'live' : 'gone'
}

/** Inodes are used again, cookies are not; kernels before 5.14 have none. */
export const isSame = (ref: SandboxRef, seen: { readonly id: string; readonly cookie?: string | undefined }): boolean =>
  (ref.netnsId === undefined || ref.netnsId === seen.id) &&
  (ref.cookie === undefined || seen.cookie === undefined || ref.cookie === seen.cookie)

export function pathFact(path: string): PathFact {
  try {
    const id = netnsIdentity(path)
    if (id !== undefined)
      return isNamespaceFile(path) ? { is: 'namespace', id, cookie: cookieOf(path) } : { is: 'other' }
    if (path.startsWith('/proc/')) return { is: 'nothing' }
    const folderId = netnsIdentity(dirname(path))
    return folderId === undefined ? { is: 'elsewhere' } : { is: 'nothing', folderId }
  } catch (error) {
    // A process without this name any more.
    return { is: hasCode(error, 'ENOENT', 'ESRCH') ? 'nothing' : 'elsewhere' }
  }
}

function cookieOf(path: string): string | undefined {
  try {
    return netnsCookie(path)
  } catch {
    return undefined
  }
}

/** By inode number, a path to each network namespace that a process or a mount visible from here holds. */
export function heldNamespaces(): ReadonlyMap<string, string> {
  const held = new Map<string, string>()
  const add = (text: string, path: string): void => {
    const inode = /net:\[(\d+)\]/.exec(text)?.[1]
    if (inode !== undefined) held.set(inode, path)
  }
  // Fields of proc(5), /proc/PID/mountinfo: the fourth is the root of the mount, the fifth where it is.
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [, , , root = '', point = ''] = line.split(' ')
    add(root, point)
  }
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const path = `/proc/${pid}/ns/net`
    try {
      add(readlinkSync(path), path)
    } catch {
      // It has ended meanwhile.
    }
  }
  return held
}

/** The state of sandboxes as this process sees them, looked up at once for a whole round. */
export function sandboxes(boot: string): (ref: SandboxRef) => SandboxState {
  let held: ReadonlyMap<string, string> | undefined
  const pidns = netnsIdentity('/proc/self/ns/pid')
  return (ref) => {
    const facts = { boot, pidns, path: pathFact(ref.netns) }
    const state = judgeSandbox(ref, { ...facts, isHeld: false })
    if (state !== 'gone' || ref.netnsId === undefined) return state
    held ??= heldNamespaces()
    const holder = held.get(ref.netnsId.split(':')[1] ?? '')
    const isHeld = holder !== undefined && isSame(ref, { id: ref.netnsId, cookie: cookieOf(holder) })
    return judgeSandbox(ref, { ...facts, isHeld })
  }
}
