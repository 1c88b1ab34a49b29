/**
 * Which iptables: that of nf_tables (today's), or the old one with tables of its own in the kernel. Rules of both kinds take effect beside each other, so
 * they should all be of the kind that the node's other programs use.
 *
 * Told by the operator (`IPTABLES_MODE`), else as kubernetes-sigs/iptables-wrappers tells: the chains that kubelet makes as a hint say which kind kubelet
 * uses; else the kind with more rules; else nf_tables, where it is installed.
 */

import { readFileSync } from 'node:fs'

import type { Family } from '#ip/address.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { listTables } from '#nft/list.ts'
import { familyNumber, NFT_MSG, nftMessage, writeText } from '#nft/wire.ts'
import { ERRNO } from '#sys/errno.ts'
import { inNetns, type Netns } from '#sys/netns.ts'
import { IptablesError } from './error.ts'
import { hasProgram, save, versionOf } from './program.ts'

export type Variant = 'nft' | 'legacy'

/** What an operator may write: a variant, or `auto`. */
export type IptablesMode = Variant | 'auto'

/** The mode out of the environment; anything unknown is `auto`. */
export function modeOf(env: Readonly<Record<string, string | undefined>>): IptablesMode {
  const text = env['IPTABLES_MODE']?.toLowerCase()
  return text === 'nft' || text === 'legacy' ? text : 'auto'
}

const NFT_FAMILY = { 4: 'ip', 6: 'ip6' } as const satisfies Record<Family, string>
const BASE = { 4: 'iptables', 6: 'ip6tables' } as const satisfies Record<Family, string>

/** NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME. */
const CHAIN = { table: 1, name: 3 } as const

/** Whether nf_tables' iptables has a chain of that name: one lookup, because a node with kube-proxy has tens of thousands of chains. */
export function hasNftChain(nft: NetlinkSocket, family: Family, table: string, name: string): boolean {
  const message = nftMessage(
    () => `get chain ${NFT_FAMILY[family]} ${table} ${name}`,
    NFT_MSG.getChain,
    familyNumber[NFT_FAMILY[family]],
    (writer) => {
      writeText(writer, CHAIN.table, table)
      writeText(writer, CHAIN.name, name)
    },
  )
  return nft.find(message, () => true, ERRNO.ENOENT) === true
}

/** The tables of the old kind that the kernel holds; they come into being when a program of the old kind first looks. */
export function legacyTables(netns: Netns | undefined, family: Family): readonly string[] {
  const read = (): readonly string[] => {
    try {
      const text = readFileSync(`/proc/thread-self/net/${NFT_FAMILY[family]}_tables_names`, 'latin1')
      return text.split('\n').filter((name) => name !== '')
    } catch {
      return []
    }
  }
  return netns === undefined ? read() : inNetns(netns, read)
}

/** Chains that kubelet makes in the table mangle, so that others know which iptables it uses. */
const HINTS = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY'] as const

const RULE = /^-A /gm

/** The kind that this node uses. Starts a program only where the kernel holds tables of the old kind. */
export async function detectVariant(
  nft: NetlinkSocket,
  netns: Netns | undefined,
  mode: IptablesMode = modeOf(process.env),
): Promise<Variant> {
  if (mode !== 'auto') return mode
  const families = [4, 6] as const
  if (families.some((family) => HINTS.some((hint) => hasNftChain(nft, family, 'mangle', hint)))) return 'nft'
  let old = 0
  for (const family of families) {
    const program = `${BASE[family]}-legacy`
    if (!hasProgram(program)) continue
    for (const table of legacyTables(netns, family)) {
      const text = await save(netns, program, table)
      if (HINTS.some((hint) => text.includes(`:${hint} `))) return 'legacy'
      old += text.match(RULE)?.length ?? 0
    }
  }
  if (old === 0) return (await isInstalled('nft')) || !(await isInstalled('legacy')) ? 'nft' : 'legacy'
  let current = 0
  for (const family of families) {
    const tables = new Set(listTables(nft, { family: NFT_FAMILY[family] }).map(({ name }) => name))
    for (const table of ['filter', 'nat', 'mangle', 'raw'])
      if (tables.has(table)) current += await countRules(netns, family, table)
  }
  return old > current ? 'legacy' : 'nft'
}

async function countRules(netns: Netns | undefined, family: Family, table: string): Promise<number> {
  const program = await programOf('nft', family)
  return (await save(netns, program, table)).match(RULE)?.length ?? 0
}

/**
 * The program of a kind: `iptables-nft`, `ip6tables-legacy`; or plain `iptables` where it is of that kind and the other name is missing.
 * Throws `no-program`.
 */
export async function programOf(variant: Variant, family: Family): Promise<string> {
  const base = BASE[family]
  const name = `${base}-${variant}`
  if (hasProgram(name) && hasProgram(`${name}-restore`)) return name
  if (hasProgram(base)) {
    // Since 1.8 it says which it is; older ones are of the old kind.
    const isNft = (await versionOf(base)).includes('(nf_tables)')
    if (isNft === (variant === 'nft')) return base
  }
  throw new IptablesError(
    'no-program',
    `there is no ${name} on the PATH: install the package iptables, or set IPTABLES_MODE to the kind that is there`,
  )
}

async function isInstalled(variant: Variant): Promise<boolean> {
  try {
    await programOf(variant, 4)
    return true
  } catch {
    return false
  }
}

/** Whether iptables of any kind is installed. */
export const hasIptables = (): boolean => ['iptables', 'iptables-nft', 'iptables-legacy'].some(hasProgram)
