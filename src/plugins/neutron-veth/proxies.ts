/**
 * Proxy neighbours: the node's card answers for the addresses of its pods, so that whoever has the pods' network on its own link finds them without a route.
 * They do not go with the pod's link, and the kernel drops them when the card goes down: the record of the link says which there should be.
 */

import { join } from 'node:path'
import { mkdirSync } from 'node:fs'

import { ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { deleteNeigh, listNeighs, neighMessage } from '#netlink/neigh.ts'
import type { Link } from '#netlink/link-codec.ts'
import { HEDDLE_PROTOCOL } from '#state/protocol.ts'
import { hasCode } from '#sys/errno.ts'
import { LockError, lockFile } from '#sys/flock.ts'
import { removeFile } from '#sys/remove-file.ts'
import { hostNetns, readSysctl, writeSysctls, type Sysctl } from '../link/host-netns.ts'
import { listRecords, type LinkRecord } from '../link/record.ts'
import { sendAll } from '../link/veth.ts'

export const TYPE = 'neutron-veth'

const LOCK_MS = 20_000

/** Alone with what pods share on the host; the lock's file goes with the lock. Throws CniError 11 after 20 seconds, 5 where there can be no such file. */
export async function lockShared(host: Pick<PluginHost, 'root'>): Promise<Disposable> {
  const folder = join(host.root, '/run/heddle')
  const path = join(folder, `${TYPE}.lock`)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 })
    const lock = await lockFile(path, { timeoutMs: LOCK_MS })
    return {
      [Symbol.dispose]: () => {
        // While it is held: whoever waits finds that its file has no name any more, and makes a new one.
        removeFile(path)
        lock[Symbol.dispose]()
      },
    }
  } catch (error) {
    if (!(error instanceof LockError)) throw ioFailure(`${path} cannot be locked`, messageOf(error), { cause: error })
    throw tryAgain('another program sets up what pods share', messageOf(error), { cause: error })
  }
}

/** What the card needs for it. Its delay is for networks with several proxies; the first packet to each pod would wait for it, up to 0.8 s. */
function sysctlsOf(host: Pick<PluginHost, 'netlink'>, card: string, families: ReadonlySet<4 | 6>): readonly Sysctl[] {
  const { fd } = hostNetns(host)
  const strict = ['all', card].map((name) => Number(readSysctl(fd, ['ipv4', 'conf', name, 'rp_filter']) ?? 0))
  const v4: readonly Sysctl[] = [
    { path: ['ipv4', 'neigh', card, 'proxy_delay'], value: '0' },
    // Who sends to a pod through the router may be told to send to it directly; that is the router's business, not ours.
    { path: ['ipv4', 'conf', card, 'send_redirects'], value: '0' },
    { path: ['ipv4', 'conf', card, 'accept_redirects'], value: '0' },
    ...(Math.max(...strict) === 1 ? [{ path: ['ipv4', 'conf', card, 'rp_filter'], value: '2' }] : []),
  ]
  const v6: readonly Sysctl[] = [
    { path: ['ipv6', 'conf', card, 'proxy_ndp'], value: '1' },
    { path: ['ipv6', 'neigh', card, 'proxy_delay'], value: '0' },
    { path: ['ipv6', 'conf', card, 'accept_redirects'], value: '0', optional: true },
  ]
  return [...(families.has(4) ? v4 : []), ...(families.has(6) ? v6 : [])]
}

/** The card is ready to answer for pods. */
export const readyCard = (host: Pick<PluginHost, 'netlink'>, card: string, families: ReadonlySet<4 | 6>): void =>
  writeSysctls(hostNetns(host).fd, sysctlsOf(host, card, families))

const proxyOf = (index: number, ip: IpText) => ({ index, ip, proxy: true, protocol: HEDDLE_PROTOCOL }) as const

/** From now on the card answers for these addresses. Like `ip neighbour replace proxy IP dev CARD`. */
export const putProxies = (host: Pick<PluginHost, 'netlink'>, card: Link, ips: readonly IpText[]): void =>
  sendAll(
    host.netlink,
    ips.map((ip) => neighMessage('replace', proxyOf(card.index, ip))),
  )

/** Under the lock: takes away what the record names, unless another pod has come to have the address. On every card: names change. */
export function dropProxies(host: PluginHost, record: LinkRecord): void {
  const ips = new Set(record.proxied?.ips ?? [])
  for (const other of listRecords(host, TYPE)) {
    if (isSame(other, record)) continue
    for (const ip of other.proxied?.ips ?? []) ips.delete(ip)
  }
  if (ips.size === 0) return
  for (const { index, ip, protocol } of listNeighs(host.netlink, { proxy: true })) {
    if (protocol !== HEDDLE_PROTOCOL || !ips.has(ip)) continue
    try {
      deleteNeigh(host.netlink, { index, ip, proxy: true })
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error
    }
  }
}

/** One that no record names, looked for again under the lock. False where there is none any more, or somebody's. */
export async function dropOrphan(
  host: Pick<PluginHost, 'netlink' | 'root' | 'log'>,
  { index, ip }: { readonly index: number; readonly ip: IpText },
): Promise<boolean> {
  using _lock = await lockShared(host)
  if (listRecords(host, TYPE).some(({ proxied }) => proxied?.ips.includes(ip) === true)) return false
  const isThere = listNeighs(host.netlink, { index, proxy: true }).some(
    (neigh) => neigh.ip === ip && neigh.protocol === HEDDLE_PROTOCOL,
  )
  if (isThere) deleteNeigh(host.netlink, { index, ip, proxy: true })
  return isThere
}

export const isSame = (a: LinkRecord, b: LinkRecord): boolean =>
  a.network === b.network && a.containerId === b.containerId && a.ifname === b.ifname

/** What is missing for the card to answer, in words. */
export function wrongProxies(host: PluginHost, card: Link, ips: readonly IpText[]): string | undefined {
  const seen = new Set(listNeighs(host.netlink, { index: card.index, proxy: true }).map(({ ip }) => ip))
  const missing = ips.find((ip) => !seen.has(ip))
  if (missing !== undefined) return `${card.name} does not answer for ${missing} any more: its proxy neighbour is gone`
  const isNdp = readSysctl(hostNetns(host).fd, ['ipv6', 'conf', card.name, 'proxy_ndp']) === '1'
  return isNdp || !ips.some((ip) => familyOf(ip) === 6)
    ? undefined
    : `${card.name} does not answer for IPv6 addresses: its proxy_ndp is 0`
}
