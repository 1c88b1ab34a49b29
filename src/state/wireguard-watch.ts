/**
 * What WireGuard devices hold, as entries. The kernel tells nobody when it changes, so it is asked.
 *
 * A peer's endpoint changes for two reasons: the kernel follows a peer whose authentic packets come from elsewhere (roaming, a translation
 * on the way), which is right; or somebody changed it, which is to be mended. Bytes that came in tell them apart: without them the kernel has nothing to
 * follow. A peer that roams is shown where it was said to be.
 */

import type { Endpoint, SeenWgDevice, SeenWgPeer } from '#netlink/wireguard.ts'
import type { Operation } from './diff.ts'
import { keyOf, type Entry, type Key, type WgPeerEntry, type WireguardEntry } from './entry.ts'
import type { NodeState } from './node-state.ts'
import type { Change } from './kernel.ts'
import { same } from './same.ts'

/** A session lives so long after its handshake (seconds): what it carries came from where the endpoint is now. */
const REJECT_AFTER_TIME = 180

interface Known {
  readonly actual: Endpoint | undefined
  readonly rxBytes: bigint
  /** What is told: where the peer was said to be. */
  readonly entry: WgPeerEntry
}

export class WireguardWatch {
  readonly #now: () => number
  readonly #known = new Map<Key, Known>()
  readonly #devices = new Map<string, WireguardEntry>()

  /** `now` in milliseconds since 1970. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** The entries of a device. `wanted` says where peers should be. */
  take(dev: string, device: SeenWgDevice, wanted: NodeState): Entry[] {
    const entries: Entry[] = []
    const before = this.#keysOn(dev)
    const own = deviceEntry(dev, device)
    if (own === undefined) this.#devices.delete(dev)
    else {
      this.#devices.set(dev, own)
      entries.push(own)
    }
    for (const peer of device.peers) {
      const key = keyOf(peerEntry(dev, peer, undefined))
      before.delete(key)
      const known = this.#judge(key, dev, peer, wanted)
      this.#known.set(key, known)
      entries.push(known.entry)
    }
    for (const key of before) this.#known.delete(key)
    return entries
  }

  /** Like `take`, but only what is other than it was last time. */
  changes(dev: string, device: SeenWgDevice, wanted: NodeState): Change[] {
    const before = new Map<Key, Entry | undefined>()
    for (const key of this.#keysOn(dev)) before.set(key, this.#known.get(key)?.entry)
    const own = this.#devices.get(dev)
    if (own !== undefined) before.set(keyOf(own), own)
    const found: Change[] = []
    for (const entry of this.take(dev, device, wanted)) {
      const key = keyOf(entry)
      const last = before.get(key)
      before.delete(key)
      if (last === undefined || !same(entry, last)) found.push({ what: 'seen', entry })
    }
    for (const key of before.keys()) found.push({ what: 'gone', key })
    return found
  }

  /** What was just done to the kernel is there, until it is looked at: who changes it back at once shall not go unseen. */
  applied({ do: verb, entry }: Operation): void {
    if (entry.kind === 'wireguard') {
      const { privateKey: _, ...seen } = entry
      if (verb !== 'remove') this.#devices.set(entry.dev, seen)
    } else if (entry.kind === 'wgpeer') {
      const key = keyOf(entry)
      if (verb === 'remove') this.#known.delete(key)
      else this.#known.set(key, { actual: entry.endpoint, rxBytes: this.#known.get(key)?.rxBytes ?? 0n, entry })
    }
  }

  forget(dev: string): void {
    this.#devices.delete(dev)
    for (const key of this.#keysOn(dev)) this.#known.delete(key)
  }

  #keysOn(dev: string): Set<Key> {
    return new Set([...this.#known].flatMap(([key, { entry }]) => (entry.dev === dev ? [key] : [])))
  }

  #judge(key: Key, dev: string, peer: SeenWgPeer, wanted: NodeState): Known {
    const { endpoint: actual, rxBytes } = peer
    const last = this.#known.get(key)
    const want = wanted.get(key)
    const said = want?.kind === 'wgpeer' ? want.endpoint : undefined
    const told = (endpoint: Endpoint | undefined): Known => ({
      actual,
      rxBytes,
      entry: peerEntry(dev, peer, endpoint),
    })
    if (actual === undefined || said === undefined || isSame(actual, said)) return told(actual)
    if (last === undefined) return told(this.#isInUse(peer) ? said : actual)
    // As it was last time: still roaming, or still to be mended.
    if (isSame(actual, last.actual)) return told(this.#isInUse(peer) ? last.entry.endpoint : actual)
    return told(rxBytes === last.rxBytes ? actual : said)
  }

  #isInUse({ lastHandshake, rxBytes }: SeenWgPeer): boolean {
    return rxBytes > 0n && this.#now() / 1000 - lastHandshake < REJECT_AFTER_TIME
  }
}

const isSame = (a: Endpoint, b: Endpoint | undefined): boolean => a.ip === b?.ip && a.port === b.port

/** Undefined for a device that has no key yet. */
const deviceEntry = (dev: string, { publicKey, listenPort }: SeenWgDevice): WireguardEntry | undefined =>
  publicKey === undefined ? undefined : { kind: 'wireguard', dev, publicKey, listenPort }

const peerEntry = (dev: string, peer: SeenWgPeer, endpoint: Endpoint | undefined): WgPeerEntry => ({
  kind: 'wgpeer',
  dev,
  publicKey: peer.publicKey,
  ...(endpoint === undefined ? {} : { endpoint }),
  allowedIps: peer.allowedIps.toSorted(),
  keepalive: peer.keepalive,
  ...(peer.presharedKey === undefined ? {} : { presharedKey: peer.presharedKey }),
})
