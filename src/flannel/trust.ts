/**
 * Which peers to believe. A Node's annotations are written by that node, and on many clusters by any other, so a lease is taken only
 * if it harms nobody else: its subnet is its own and nobody else's, its tunnel end is nobody else's, its address is a peer's.
 */

import { parseIp, type Family } from '#ip/address.ts'
import { contains, containsCidr, overlaps, parseCidr } from '#ip/prefix.ts'
import type { MacText } from '#ip/text.ts'
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

/** What the believed peers of one family hold. */
export class Trust {
  readonly #family: Family
  readonly #own: LocalFamily
  readonly #backend: Backend
  readonly #subnets = new DisjointSubnets()
  readonly #macs = new Map<MacText, string>()

  constructor(family: Family, own: LocalFamily, backend: Backend) {
    this.#family = family
    this.#own = own
    this.#backend = backend
  }

  /** Takes a lease, or says why not. The node must hold nothing at the time. */
  admit(node: string, lease: LeaseFamily): Refusal | undefined {
    const refusal = this.#refusal(node, lease)
    if (refusal !== undefined) return refusal
    this.#subnets.add(parseCidr(lease.subnet), node)
    if (lease.data.kind === 'vtep') this.#macs.set(lease.data.mac, node)
    return undefined
  }

  release(lease: LeaseFamily): void {
    this.#subnets.delete(parseCidr(lease.subnet))
    if (lease.data.kind === 'vtep') this.#macs.delete(lease.data.mac)
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
    if (lease.data.kind !== 'vtep') return undefined
    const { mac } = lease.data
    if (mac === this.#own.mac) return refuse('own-mac', `its tunnel MAC ${mac} is this node's own`)
    const owner = this.#macs.get(mac)
    return owner === undefined
      ? undefined
      : refuse('mac-taken', `its tunnel MAC ${mac} is that of node ${owner}`, owner)
  }
}
