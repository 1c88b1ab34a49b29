/** Entries as the commands that would make them: for `--dry-run`, for logs, and for people who want to do it by hand. */

import type { Endpoint } from '#netlink/wireguard.ts'
import type { Operation } from './diff.ts'
import {
  MAIN_TABLE,
  defaultPriority,
  normalRoute,
  type Entry,
  type LinkData,
  type RouteEntry,
  type RuleEntry,
} from './entry.ts'
import { HEDDLE_PROTOCOL } from './protocol.ts'

/** One operation as one command line. */
export function printOperation(operation: Operation): string {
  return operation.do === 'remove' ? printRemoval(operation.entry) : printEntry(operation.entry, operation.do)
}

/** The command that puts an entry in place. */
export function printEntry(entry: Entry, verb: 'add' | 'change' = 'add'): string {
  switch (entry.kind) {
    case 'link':
      return words(
        verb === 'add' && entry.data.type === 'tun' && `ip tuntap add mode tun ${entry.name};`,
        verb === 'add' && entry.data.type !== 'tun' ? `ip link add ${entry.name}` : `ip link set ${entry.name}`,
        `mtu ${entry.mtu}`,
        entry.mac && `address ${entry.mac}`,
        entry.up && 'up',
        verb === 'add' && entry.data.type !== 'tun' && linkType(entry.data),
      )
    case 'address':
      return `ip address add ${entry.address} dev ${entry.dev}`
    case 'route':
      return `ip route replace ${route(entry)}`
    case 'rule':
      return `ip ${entry.family === 6 ? '-6 ' : ''}rule add ${rule(entry)}`
    case 'neigh':
      return `ip neighbour replace ${entry.ip} lladdr ${entry.mac} dev ${entry.dev} nud permanent`
    case 'fdb':
      return `bridge fdb replace ${entry.mac} dev ${entry.dev} dst ${entry.dst} self permanent`
    case 'wireguard':
      return `wg set ${entry.dev} listen-port ${entry.listenPort} private-key (that of ${entry.publicKey})`
    case 'relay':
      return `# relay ${entry.dev} over UDP from ${entry.address}:${entry.port}`
    case 'relaypeer':
      return `# relay ${entry.relay}: ${entry.dst} to ${entry.via}`
    case 'wgpeer':
      return words(
        `wg set ${entry.dev} peer ${entry.publicKey}`,
        entry.endpoint && `endpoint ${printEndpoint(entry.endpoint)}`,
        `allowed-ips ${entry.allowedIps.join(',')}`,
        `persistent-keepalive ${entry.keepalive}`,
        entry.presharedKey && 'preshared-key (secret)',
      )
    case 'sysctl':
      return `sysctl -w ${entry.key}=${entry.value}`
    case 'nft':
      return `nft replace table ${entry.table.family} ${entry.table.name}`
    default:
      return entry satisfies never
  }
}

/** The command that takes an entry away. */
export function printRemoval(entry: Entry): string {
  switch (entry.kind) {
    case 'link':
      return `ip link delete ${entry.name}`
    case 'address':
      return `ip address delete ${entry.address} dev ${entry.dev}`
    case 'route':
      return `ip route delete ${route(entry)}`
    case 'rule':
      return `ip ${entry.family === 6 ? '-6 ' : ''}rule delete ${rule(entry)}`
    case 'neigh':
      return `ip neighbour delete ${entry.ip} dev ${entry.dev}`
    case 'fdb':
      return `bridge fdb delete ${entry.mac} dev ${entry.dev} dst ${entry.dst} self`
    case 'wireguard':
      return `# the key and port of ${entry.dev} go with it`
    case 'relay':
      return `# end the relay of ${entry.dev}`
    case 'relaypeer':
      return `# relay ${entry.relay}: no more ${entry.dst}`
    case 'wgpeer':
      return `wg set ${entry.dev} peer ${entry.publicKey} remove`
    case 'sysctl':
      return `# ${entry.key} is left as it is`
    case 'nft':
      return `nft delete table ${entry.table.family} ${entry.table.name}`
    default:
      return entry satisfies never
  }
}

/** As `wg` writes it. */
const printEndpoint = ({ ip, port }: Endpoint): string => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`)

function linkType(data: LinkData): string {
  if (data.type === 'ipip')
    return words(
      `type ipip local ${data.local ?? 'any'} remote ${data.remote ?? 'any'}`,
      !data.pathMtuDiscovery && 'nopmtudisc',
    )
  if (data.type !== 'vxlan') return `type ${data.type}`
  return words(
    `type vxlan id ${data.vni} local ${data.local} dev ${data.dev} dstport ${data.port}`,
    data.learning ? 'learning' : 'nolearning',
    data.gbp && 'gbp',
  )
}

function route(wanted: RouteEntry): string {
  const entry = normalRoute(wanted)
  return words(
    entry.type !== 'unicast' && entry.type,
    entry.dst,
    entry.via && `via ${entry.via}`,
    entry.dev && `dev ${entry.dev}`,
    entry.table !== MAIN_TABLE && `table ${entry.table}`,
    `proto ${protocol(entry.protocol ?? HEDDLE_PROTOCOL)}`,
    entry.scope !== undefined && showsScope(entry) && `scope ${entry.scope}`,
    entry.src && `src ${entry.src}`,
    entry.priority !== defaultPriority(entry.dst) && `metric ${entry.priority}`,
    entry.onlink === true && 'onlink',
  )
}

/** Not where `ip route` chooses the same by itself. */
const showsScope = ({ scope, type, via }: RouteEntry): boolean =>
  scope !== 'global' && !(scope === 'host' && type === 'local') && !(scope === 'link' && via === undefined)

function rule(entry: RuleEntry): string {
  const mask = entry.mask === undefined ? '' : `/0x${entry.mask.toString(16)}`
  return words(
    `priority ${entry.priority}`,
    `from ${entry.from ?? 'all'}`,
    entry.to && `to ${entry.to}`,
    entry.mark !== undefined && `fwmark 0x${entry.mark.toString(16)}${mask}`,
    `lookup ${entry.table}`,
  )
}

const PROTOCOLS: Readonly<Record<number, string>> = { 2: 'kernel', 3: 'boot', 4: 'static', 12: 'bird', 186: 'bgp' }

/** The name that `ip` knows, else the number. */
const protocol = (n: number): string => PROTOCOLS[n] ?? String(n)

const words = (...parts: readonly (string | false | undefined)[]): string =>
  parts.filter((part) => part !== false && part !== undefined).join(' ')
