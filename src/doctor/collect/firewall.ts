/** The chains that forwarded packets pass, with those rules that may accept them. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

import { listChains, listTables } from '#nft/list.ts'
import { openNft } from '#nft/transaction.ts'
import type { ForwardChain } from '../facts.ts'
import { readText } from './files.ts'

const run = promisify(execFile)
const TIMEOUT = 10_000

/** nftables and, where that is loaded, the old iptables. Throws NetlinkError. */
export async function forwardChains(): Promise<readonly ForwardChain[]> {
  return [...(await nftChains()), ...(await legacyChains())]
}

async function nftChains(): Promise<readonly ForwardChain[]> {
  using socket = openNft()
  const found: ForwardChain[] = []
  for (const table of listTables(socket)) {
    if (!['ip', 'ip6', 'inet'].includes(table.family)) continue
    for (const { name, base } of listChains(socket, table)) {
      if (base?.hook !== 'forward' || base.type !== 'filter') continue
      const where = [table.family, table.name, name]
      const drops = base.policy === 'drop'
      found.push({
        name: where.join(' '),
        drops,
        rules: drops ? await lines('nft', ['list', 'chain', ...where]) : [],
        accept: acceptCommand(table.family, table.name, name),
      })
    }
  }
  return found
}

/** iptables over nf_tables keeps its tables under its own names, and wants to be spoken to itself. */
function acceptCommand(family: string, table: string, chain: string): string {
  if (table === 'filter' && chain === 'FORWARD' && family !== 'inet')
    return `${family === 'ip6' ? 'ip6tables' : 'iptables'} -P FORWARD ACCEPT`
  return `nft chain ${family} ${table} ${chain} '{ policy accept; }'`
}

async function legacyChains(): Promise<readonly ForwardChain[]> {
  const found: ForwardChain[] = []
  for (const [names, save, program] of [
    ['/proc/net/ip_tables_names', 'iptables-legacy-save', 'iptables-legacy'],
    ['/proc/net/ip6_tables_names', 'ip6tables-legacy-save', 'ip6tables-legacy'],
  ] as const) {
    if (!(readText(names) ?? '').split('\n').includes('filter')) continue
    const saved = await lines(save, ['-t', 'filter'])
    const policy = saved.find((line) => line.startsWith(':FORWARD '))
    if (policy === undefined) continue
    found.push({
      name: `${program} filter FORWARD`,
      drops: policy.startsWith(':FORWARD DROP'),
      rules: saved.filter((line) => line.startsWith('-A FORWARD')),
      accept: `${program} -P FORWARD ACCEPT`,
    })
  }
  return found
}

/** Nothing where the program is missing or fails: the policy is known without it. */
async function lines(file: string, args: readonly string[]): Promise<readonly string[]> {
  try {
    const { stdout } = await run(file, [...args], { timeout: TIMEOUT, maxBuffer: 16 << 20 })
    return stdout.split('\n').map((line) => line.trim())
  } catch {
    return []
  }
}
