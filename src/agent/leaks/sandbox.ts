/** Whether the sandbox that a record or a cached result names still lives. */

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

import { netnsIdentity } from '#cni/netns.ts'
import { hasCode } from '#sys/errno.ts'
import { isNamespaceFile } from '#sys/netns.ts'

/** `unknown`: from here it cannot be seen; what belongs to it is left alone. */
export type SandboxState = 'live' | 'gone' | 'unknown'

/** What the path of a namespace leads to. `elsewhere`: its folder is not even there, as in another mount namespace. `other`: to something that is no namespace. */
export type PathFact =
  | { readonly is: 'namespace'; readonly id: string }
  | { readonly is: 'nothing' | 'elsewhere' | 'other' }

export interface SandboxRef {
  readonly netns: string
  readonly netnsId?: string | undefined
  /** The pid namespace in which a path through /proc means something. */
  readonly pidns?: string | undefined
  /** The boot it was made in. */
  readonly boot?: string | undefined
}

export interface SandboxFacts {
  readonly boot: string
  readonly pidns: string | undefined
  readonly path: PathFact
  /** A process or a mount holds the namespace of `netnsId`, wherever its path is. */
  readonly isHeld: boolean
}

/** Pure. In doubt not `gone`. */
export function judgeSandbox(ref: SandboxRef, { boot, pidns, path, isHeld }: SandboxFacts): SandboxState {
  if (ref.boot !== undefined && ref.boot !== boot) return 'gone'
  if (ref.netns === '') return 'unknown'
  if (ref.netns.startsWith('/proc/') && (ref.pidns === undefined || ref.pidns !== pidns)) return 'unknown'
  if (path.is === 'elsewhere' || path.is === 'other') return 'unknown'
  if (path.is === 'namespace' && (ref.netnsId === undefined || path.id === ref.netnsId)) return 'live'
  return isHeld ? 'live' : 'gone'
}

export function pathFact(path: string): PathFact {
  try {
    const id = netnsIdentity(path)
    if (id !== undefined) return isNamespaceFile(path) ? { is: 'namespace', id } : { is: 'other' }
    if (path.startsWith('/proc/')) return { is: 'nothing' }
    return { is: statSync(dirname(path), { throwIfNoEntry: false }) === undefined ? 'elsewhere' : 'nothing' }
  } catch (error) {
    // A process without this name any more.
    return { is: hasCode(error, 'ENOENT', 'ESRCH') ? 'nothing' : 'elsewhere' }
  }
}

/** Inode numbers of the network namespaces that a process or a mount visible from here holds. */
export function heldNamespaces(): ReadonlySet<string> {
  const held = new Set<string>()
  const add = (text: string): void => {
    const inode = /net:\[(\d+)\]/.exec(text)?.[1]
    if (inode !== undefined) held.add(inode)
  }
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) add(line)
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      add(readlinkSync(`/proc/${pid}/ns/net`))
    } catch {
      // It has ended meanwhile.
    }
  }
  return held
}

/** The state of sandboxes as this process sees them, looked up at once for a whole round. */
export function sandboxes(boot: string): (ref: SandboxRef) => SandboxState {
  let held: ReadonlySet<string> | undefined
  const pidns = netnsIdentity('/proc/self/ns/pid')
  return (ref) => {
    const path = pathFact(ref.netns)
    const facts = { boot, pidns, path }
    const state = judgeSandbox(ref, { ...facts, isHeld: false })
    if (state !== 'gone' || ref.netnsId === undefined) return state
    held ??= heldNamespaces()
    return judgeSandbox(ref, { ...facts, isHeld: held.has(ref.netnsId.split(':')[1] ?? '') })
  }
}
