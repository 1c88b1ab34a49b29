/** What a directory of address files holds, in memory: addresses by name and by owner. */

import type { Attachment } from '#cni/plugin.ts'
import { parseIp, type Ip, type IpText } from '#ip/address.ts'

/** `ifname` is absent in files of old versions, which held the container ID alone. */
export interface Owner {
  readonly containerId: string
  readonly ifname?: string
}

/**
 * `torn`: empty or only NULs, as a crash or a power loss between creating and writing leaves it; nobody can own it.
 * `foreign`: not an ordinary file. Both count as taken; only a torn one may be used again.
 */
export interface Entry {
  readonly ip: Ip
  /** As on disk: not always canonical text. */
  readonly file: string
  readonly state: Owner | 'torn' | 'foreign'
}

/** The content of an address file: the reference plugin's format, CR LF between the two. */
export const contentOf = (owner: Attachment): string => `${owner.containerId}\r\n${owner.ifname}`

/** Reads the content of an address file. */
export function ownerOf(content: string): Owner | 'torn' {
  const [containerId = '', ifname] = content.replaceAll('\0', '').trim().split(/\r?\n/)
  if (containerId === '') return 'torn'
  return ifname === undefined ? { containerId } : { containerId, ifname }
}

/** Whether a file belongs to an attachment; one without an interface name belongs to every interface of its container. */
export const isOwner = (owner: Owner, attachment: Attachment): boolean =>
  owner.containerId === attachment.containerId && (owner.ifname ?? attachment.ifname) === attachment.ifname

export class AddressIndex {
  readonly #entries = new Map<IpText, Entry>()
  readonly #byContainer = new Map<string, Set<IpText>>()

  has(ip: IpText): boolean {
    return this.#entries.has(ip)
  }

  get(ip: IpText): Entry | undefined {
    return this.#entries.get(ip)
  }

  get size(): number {
    return this.#entries.size
  }

  entries(): IterableIterator<[IpText, Entry]> {
    return this.#entries.entries()
  }

  /** Addresses that an attachment holds. */
  heldBy(attachment: Attachment): readonly IpText[] {
    return [...(this.#byContainer.get(attachment.containerId) ?? [])].filter((ip) => {
      const state = this.#entries.get(ip)?.state
      return typeof state === 'object' && isOwner(state, attachment)
    })
  }

  set(ip: IpText, file: string, state: Entry['state']): void {
    this.delete(ip)
    this.#entries.set(ip, { ip: parseIp(ip), file, state })
    if (typeof state !== 'object') return
    const held = this.#byContainer.get(state.containerId)
    if (held === undefined) this.#byContainer.set(state.containerId, new Set([ip]))
    else held.add(ip)
  }

  delete(ip: IpText): void {
    const state = this.#entries.get(ip)?.state
    this.#entries.delete(ip)
    if (typeof state !== 'object') return
    const held = this.#byContainer.get(state.containerId)
    held?.delete(ip)
    if (held?.size === 0) this.#byContainer.delete(state.containerId)
  }
}
