/**
 * What the reference plugins keep in iptables, as far as taking over from them needs it: finding a chain of theirs, and removing it with the rules that lead to it.
 *
 * iptables is a program, so it is started only when netlink says that there is something of theirs. The kernel side of today's iptables is nf_tables;
 * tables of the old kind (`iptables-legacy`) show in /proc/net/ip_tables_names.
 */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { ioFailure } from '#cni/errors.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { listChains } from '#nft/list.ts'
import { familyNumber, NFT_MSG, nftMessage, writeText } from '#nft/wire.ts'
import { ERRNO } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { hostNetns } from '../link/host-netns.ts'

const MAX_CHAIN = 28
const FAMILIES = ['ip', 'ip6'] as const
type NatFamily = (typeof FAMILIES)[number]

/**
 * `CNI-`, an optional prefix, and as much of the SHA-512 of network and container as fits into 28 characters.
 * Source: containernetworking/plugins pkg/utils/utils.go.
 */
export function referenceChain(network: string, containerId: string, prefix = ''): string {
  const hash = createHash('sha512').update(`${network}${containerId}`).digest('hex')
  return `CNI-${prefix}${hash}`.slice(0, MAX_CHAIN)
}

/** Whether a chain of that name is in iptables' nat table of either family. */
export const hasChain = (nft: NetlinkSocket, name: string): boolean =>
  FAMILIES.some((family) => hasNatChain(nft, family, name))

/** NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME. */
const CHAIN = { table: 1, name: 3 } as const

/** One lookup: a node with kube-proxy has tens of thousands of chains. */
function hasNatChain(nft: NetlinkSocket, family: NatFamily, name: string): boolean {
  const message = nftMessage(
    () => `get chain ${family} nat ${name}`,
    NFT_MSG.getChain,
    familyNumber[family],
    (writer) => {
      writeText(writer, CHAIN.table, 'nat')
      writeText(writer, CHAIN.name, name)
    },
  )
  return nft.find(message, () => true, ERRNO.ENOENT) === true
}

/** Removes a chain and the rules that jump to it, in both families; nothing there is fine. Throws CniError 5. */
export async function dropChain(host: PluginHost, name: string): Promise<void> {
  const { nft } = hostNetns(host)
  for (const family of FAMILIES) {
    for (const program of programsWith(host, family, () => hasNatChain(nft, family, name))) {
      const rules = await listNat(host, program)
      await dropFrom(host, program, rules, [name])
    }
  }
}

/** Removes the chains of a network's containers that are not valid any more. The rules that lead to a chain name both in their comment. */
export async function dropStaleChains(
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
  form: RegExp,
): Promise<void> {
  const keep = new Set(valid.map(({ containerId }) => containerId))
  const { nft } = hostNetns(host)
  for (const family of FAMILIES) {
    const any = (): boolean => listChains(nft, { family, name: 'nat' }).some(({ name }) => form.test(name))
    for (const program of programsWith(host, family, any)) {
      const rules = await listNat(host, program)
      const stale = rules.flatMap((line) => {
        const jump = jumpOf(line)
        if (jump === undefined || !form.test(jump.chain) || jump.network !== network) return []
        return keep.has(jump.containerId) ? [] : [jump.chain]
      })
      await dropFrom(host, program, rules, [...new Set(stale)])
    }
  }
}

interface Jump {
  readonly chain: string
  readonly network: string
  readonly containerId: string
}

/** The reference's rule `… --comment "name: \"NET\" id: \"CID\"" … -j CHAIN` (with `dnat ` before `name` for ports). */
export function jumpOf(line: string): Jump | undefined {
  const target = /\s-j (\S+)/.exec(line)
  const comment = /--comment "(?:dnat )?name: \\"([^"\\]*)\\" id: \\"([^"\\]*)\\""/.exec(line)
  const [, chain] = target ?? []
  const [, network, containerId] = comment ?? []
  if (chain === undefined || network === undefined || containerId === undefined) return undefined
  return { chain, network, containerId }
}

/** The programs that see such a chain: today's iptables, and the old one where the kernel has its tables. */
function programsWith(host: PluginHost, family: NatFamily, inNft: () => boolean): readonly string[] {
  const base = family === 'ip' ? 'iptables' : 'ip6tables'
  return [...(inNft() ? [`${base}-nft`] : []), ...(hasLegacy(host, family) ? [`${base}-legacy`] : [])]
}

function hasLegacy(host: PluginHost, family: NatFamily): boolean {
  return inNetns(hostNetns(host).fd, () => {
    try {
      return readFileSync(`/proc/thread-self/net/${family}_tables_names`, 'latin1').includes('nat')
    } catch {
      return false
    }
  })
}

const DEADLINE_MS = 10_000

const listNat = async (host: PluginHost, program: string): Promise<readonly string[]> =>
  (await run(host, program, ['-w', '5', '-t', 'nat', '-S'])).split('\n')

/** Deletes the rules that jump to the chains, and the chains, in one transaction. */
async function dropFrom(
  host: PluginHost,
  program: string,
  rules: readonly string[],
  chains: readonly string[],
): Promise<void> {
  const present = chains.filter((chain) => rules.includes(`-N ${chain}`))
  if (present.length === 0) return
  const jumps = rules.filter((line) => line.startsWith('-A ') && present.includes(/\s-j (\S+)/.exec(line)?.[1] ?? ''))
  const script = [
    '*nat',
    ...jumps.map((line) => `-D${line.slice(2)}`),
    ...present.map((chain) => `-F ${chain}`),
    ...present.map((chain) => `-X ${chain}`),
    'COMMIT',
    '',
  ].join('\n')
  await run(host, `${program}-restore`, ['-w', '5', '--noflush'], script)
}

/** Starts a program in the host's namespace. Throws CniError 5 with its words. */
async function run(host: PluginHost, program: string, args: readonly string[], input = ''): Promise<string> {
  let output: Promise<string> | undefined
  inNetns(hostNetns(host).fd, () => {
    output = start(program, args, input)
  })
  return (await output) ?? ''
}

function start(program: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...args],
      { encoding: 'utf8', timeout: DEADLINE_MS, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(ioFailure(`${program} failed`, stderr.trim() || error.message, { cause: error }))
      },
    )
    // A program that ends before it has read everything breaks the pipe; its exit tells why.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}
