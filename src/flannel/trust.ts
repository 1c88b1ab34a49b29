/**
 * Which peers to believe. A Node's annotations are written by that node, and on many clusters by any other, so a lease is taken only
 * if it harms nobody else: its subnet is its own and nobody else's, its tunnel end is nobody else's, its address is a peer's.
 */

import { parseIp, type Family } from '#ip/address.ts'
import { contains, containsCidr, overlaps, parseCidr } from '#ip/prefix.ts'
import type { MacText } from '#ip/text.ts'
import type { WgKeyText } from '#netlink/wireguard-key.ts'
import type { Backend, Objection } from './backend/backend.ts'
import type { LeaseFamily } from './lease.ts'
import type { LocalFamily } from './local.ts'
import { DisjointSubnets } from './subnets.ts'

export type RefusalCode =
  | Objection['code']
  | 'other-backend'
  | 'unreadable'
  | 'outside-network'
  | 'own-subnet'
  | 'subnet-taken'
  | 'own-mac'
  | 'mac-taken'
  | 'own-key'
  | 'key-taken'
  | 'own-address'
  | 'address-in-pod-network'

/** Why a peer, or one family of it, is not (or not anew) believed. */
export interface Refusal {
  readonly node: string
  readonly family?: Family
  readonly code: RefusalCode
  readonly message: string
  /** The peer that stands in the way; when it goes, this one is looked at again. */
  readonly blockedBy?: string
}

/**
 * Who holds which public key, over both families: nodes use one key for both, and a device that carries both has one peer for it. What a
 * second node did to that peer it would do to the first.
 */
export class KeyHolders {
  readonly #own: WgKeyText | undefined
  readonly #holders = new Map<WgKeyText, { readonly node: string; readonly leases: number }>()

  constructor(own: WgKeyText | undefined) {
    this.#own = own
  }

  isOwn(key: WgKeyText): boolean {
    return key === this.#own
  }

  holderOf(key: WgKeyText): string | undefined {
    return this.#holders.get(key)?.node
  }

  take(key: WgKeyText, node: string): void {
    this.#holders.set(key, { node, leases: (this.#holders.get(key)?.leases ?? 0) + 1 })
  }

  release(key: WgKeyText): void {
    const held = this.#holders.get(key)
    if (held === undefined) return
    if (held.leases === 1) this.#holders.delete(key)
    else this.#holders.set(key, { ...held, leases: held.leases - 1 })
  }
}

/** What the believed peers of one family hold. */
export class Trust {
  readonly #family: Family
  readonly #own: LocalFamily
  readonly #backend: Backend
  readonly #subnets = new DisjointSubnets()
  readonly #macs = new Map<MacText, string>()
  readonly #keys: KeyHolders

  constructor(family: Family, own: LocalFamily, backend: Backend, keys: KeyHolders) {
    this.#family = family
    this.#own = own
    this.#backend = backend
    this.#keys = keys
  }

  /** Takes a lease, or says why not. The node must hold nothing at the time. */
  admit(node: string, lease: LeaseFamily): Refusal | undefined {
    const refusal = this.#refusal(node, lease)
    if (refusal !== undefined) return refusal
    this.#subnets.add(parseCidr(lease.subnet), node)
    if (lease.data.kind === 'vtep') this.#macs.set(lease.data.mac, node)
    if (lease.data.kind === 'wireguard') this.#keys.take(lease.data.publicKey, node)
    return undefined
  }

  release(lease: LeaseFamily): void {
    this.#subnets.delete(parseCidr(lease.subnet))
    if (lease.data.kind === 'vtep') this.#macs.delete(lease.data.mac)
    if (lease.data.kind === 'wireguard') this.#keys.release(lease.data.publicKey)
  }

  #refusal(node: string, lease: LeaseFamily): Refusal | undefined {
    const refuse = (code: RefusalCode, message: string, blockedBy?: string): Refusal => ({
      node,
      family: this.#family,
      code,
      message: `node ${node}: IPv${this.#family} lease refused: ${message}`,
      ...(blockedBy === undefined ? {} : { blockedBy }),
    })
    const { network, subnet: ownSubnet } = this.#own
    const subnet = parseCidr(lease.subnet)
    if (subnet.length === 0 || !containsCidr(parseCidr(network), subnet))
      return refuse('outside-network', `its pod CIDR ${lease.subnet} is not inside the pod network ${network}`)
    if (overlaps(parseCidr(ownSubnet), subnet))
      return refuse('own-subnet', `its pod CIDR ${lease.subnet} overlaps this node's ${ownSubnet}`)

    const address = parseIp(lease.publicIp)
    if (lease.publicIp === this.#own.address || lease.publicIp === this.#own.publicIp)
      return refuse(
        'own-address',
        `its address ${lease.publicIp} is this node's own: every node needs an address of its own on the interface in use (--iface chooses another)`,
      )
    if (contains(parseCidr(network), address))
      return refuse(
        'address-in-pod-network',
        `its address ${lease.publicIp} lies in the pod network ${network}: the tunnel would carry itself`,
      )

    const objection = this.#backend.objection(this.#own, lease)
    if (objection !== undefined) return refuse(objection.code, objection.why)

    const holder = this.#subnets.holderOf(subnet)
    if (holder !== undefined)
      return refuse('subnet-taken', `its pod CIDR ${lease.subnet} overlaps that of node ${holder}`, holder)
    switch (lease.data.kind) {
      case 'vtep': {
        const { mac } = lease.data
        if (mac === this.#own.mac) return refuse('own-mac', `its tunnel MAC ${mac} is this node's own`)
        const owner = this.#macs.get(mac)
        if (owner === undefined) return undefined
        return refuse('mac-taken', `its tunnel MAC ${mac} is that of node ${owner}`, owner)
      }
      case 'wireguard': {
        const { publicKey } = lease.data
        if (this.#keys.isOwn(publicKey)) return refuse('own-key', `its public key ${publicKey} is this node's own`)
        const owner = this.#keys.holderOf(publicKey)
        if (owner === undefined || owner === node) return undefined
        return refuse('key-taken', `its public key ${publicKey} is that of node ${owner}`, owner)
      }
      default:
        return undefined
    }
  }
}
