/**
 * The model of an nftables table: what Heddle wants the kernel to hold, as plain data.
 *
 * Structure (chains, rules, declarations of sets and maps) is rendered to text and applied in one transaction; membership (elements) is not part of the
 * model and travels by netlink, because it changes a thousand times as often. Like what `nft -t list table` shows.
 */

import type { DataTypeName } from './datatype.ts'

export const tableFamilies = ['ip', 'ip6', 'inet', 'arp', 'bridge', 'netdev'] as const
export type TableFamily = (typeof tableFamilies)[number]

export type ChainType = 'filter' | 'nat' | 'route'
export type HookName = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress'
export type ChainPolicy = 'accept' | 'drop'

/** A table by its identity. */
export interface TableRef {
  readonly family: TableFamily
  readonly name: string
}

export interface Table extends TableRef {
  /** Written when the table is created and never changed after: the kernel keeps a table's first comment. */
  readonly comment?: string
  readonly sets: readonly SetDeclaration[]
  readonly chains: readonly Chain[]
}

export interface Chain {
  readonly name: string
  /** Present on a base chain: where packets enter it. */
  readonly base?: ChainBase
  /** Written when the chain is created. */
  readonly comment?: string
  readonly rules: readonly Rule[]
}

export interface ChainBase {
  readonly type: ChainType
  readonly hook: HookName
  /** As a number, which means the same in every family: dstnat -100 (bridge -300), filter 0 (bridge -200), srcnat 100 (bridge 300). Lower runs first. */
  readonly priority: number
  /** Default accept. */
  readonly policy?: ChainPolicy
  /** For ingress and egress hooks. */
  readonly device?: string
}

/** The usual priorities of the families ip, ip6 and inet. Source: linux/netfilter_ipv4.h, enum nf_ip_hook_priorities. */
export const hookPriority = { raw: -300, mangle: -150, dstnat: -100, filter: 0, security: 50, srcnat: 100 } as const

export interface Rule {
  /** One rule in nft's language, without its comment. Values from outside go through `quote.ts`. */
  readonly text: string
  /** Which part of Heddle wants the rule, such as `masquerade`. */
  readonly owner: string
  /** Which object caused it, such as `pod default/web-0`. */
  readonly reason?: string
}

export type SetFlag = 'constant' | 'dynamic' | 'interval' | 'timeout'

/** A set, or with `data` a map. Several key types make a concatenation, as in `type ipv4_addr . inet_service`. */
export interface SetDeclaration {
  readonly name: string
  readonly key: readonly DataTypeName[]
  /** What a map answers with: a value of one or several types, or a verdict. */
  readonly data?: readonly DataTypeName[] | 'verdict'
  readonly flags?: readonly SetFlag[]
  /** Default lifetime of elements in milliseconds; needs the flag `timeout`. */
  readonly timeout?: number
  /** Most elements the kernel accepts. */
  readonly size?: number
  /** Written when the set is created. */
  readonly comment?: string
}

export const sameTableRef = (a: TableRef, b: TableRef): boolean => a.family === b.family && a.name === b.name
