/** From operations to netlink requests: the writing half between the state and rtnetlink. */

import { addrMessage } from '#netlink/addr.ts'
import { fdbMessage } from '#netlink/fdb.ts'
import type { LinkInfo } from '#netlink/link-kinds.ts'
import type { Message } from '#netlink/message.ts'
import { neighMessage } from '#netlink/neigh.ts'
import { routeMessage } from '#netlink/route.ts'
import type { Route } from '#netlink/route-codec.ts'
import { ruleMessage } from '#netlink/rule.ts'
import type { ErrnoName } from '#sys/errno.ts'
import type { Devices } from './devices.ts'
import type { Operation } from './diff.ts'
import type { LinkEntry, RouteEntry } from './entry.ts'
import { HEDDLE_PROTOCOL } from './protocol.ts'

export class DeviceMissing extends Error {
  override readonly name = 'DeviceMissing'
  readonly code = 'device-missing'
  readonly dev: string

  constructor(dev: string) {
    super(`device ${dev} does not exist`)
    this.dev = dev
  }
}

/** Requests that need no waiting and go out in batches: everything but links, sysctls and nftables. Throws `DeviceMissing`. */
export function requestOf({ do: verb, entry }: Operation, devices: Devices): Message | undefined {
  const remove = verb === 'remove'
  switch (entry.kind) {
    case 'address': {
      const index = indexOf(entry.dev, devices)
      // Without detection of duplicates: the address is this node's by its lease, and must work at once.
      return addrMessage(remove ? 'delete' : 'replace', { index, address: entry.address, nodad: true })
    }
    case 'neigh':
      return neighMessage(remove ? 'delete' : 'replace', {
        index: indexOf(entry.dev, devices),
        ip: entry.ip,
        mac: entry.mac,
        protocol: HEDDLE_PROTOCOL,
      })
    case 'fdb':
      return fdbMessage(remove ? 'delete' : 'replace', {
        index: indexOf(entry.dev, devices),
        mac: entry.mac,
        dst: entry.dst,
      })
    case 'route':
      return routeMessage(remove ? 'delete' : 'replace', routeOf(entry, devices))
    case 'rule': {
      const { kind: _, ...rule } = entry
      return ruleMessage(remove ? 'delete' : 'add', { ...rule, protocol: HEDDLE_PROTOCOL })
    }
    default:
      return undefined
  }
}

/** Answers that mean that the kernel is already as it should be. */
export function isDone(operation: Operation, code: ErrnoName): boolean {
  if (operation.do !== 'remove') return operation.entry.kind === 'rule' && code === 'EEXIST'
  return code === 'ENOENT' || code === 'ESRCH' || code === 'ENODEV' || code === 'EADDRNOTAVAIL'
}

function routeOf(entry: RouteEntry, devices: Devices): Route {
  return {
    dst: entry.dst,
    table: entry.table,
    priority: entry.priority,
    type: entry.type,
    protocol: entry.protocol,
    scope: entry.scope,
    onlink: entry.onlink,
    gateway: entry.via,
    prefSrc: entry.src,
    oif: entry.dev === undefined ? undefined : indexOf(entry.dev, devices),
  }
}

/** A link's kind and what belongs to it, for its creation. Throws `DeviceMissing` for an underlay that is not there. */
export function linkInfo({ data }: LinkEntry, devices: Devices): LinkInfo {
  if (data.type === 'ipip') {
    const { local, remote, pathMtuDiscovery } = data
    return { kind: 'ipip', data: { local, remote, pathMtuDiscovery } }
  }
  if (data.type !== 'vxlan') return { kind: data.type }
  const { vni, local, dev, port, learning, gbp } = data
  return {
    kind: 'vxlan',
    data: { id: vni, local, link: indexOf(dev, devices), port, learning, ...(gbp ? { gbp } : {}) },
  }
}

function indexOf(dev: string, devices: Devices): number {
  const index = devices.indexOf(dev)
  if (index === undefined) throw new DeviceMissing(dev)
  return index
}
