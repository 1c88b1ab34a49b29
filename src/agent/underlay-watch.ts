/** The interfaces, addresses and routes between nodes, and word when they change. */

import { contains, containsCidr, parseCidr, parseIpNet } from '#ip/prefix.ts'
import { formatIp, isLinkLocal, isMulticast } from '#ip/address.ts'
import type { CidrText } from '#ip/text.ts'
import { IFA_F, listAddrs } from '#netlink/addr.ts'
import { IFF } from '#netlink/link-codec.ts'
import { listLinks } from '#netlink/link.ts'
import { NetlinkMonitor, type NetlinkEvent } from '#netlink/monitor.ts'
import { listRoutes } from '#netlink/route.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { MAIN_TABLE } from '#state/entry.ts'
import { isHeddleProtocol } from '#state/protocol.ts'
import type { MainRoute, UnderlayFacts } from '#flannel/underlay.ts'

/** Reads what the kernel has. Routes inside the pod networks are left out: they are plans' results, not their input. Throws NetlinkError. */
export function readUnderlay(socket: NetlinkSocket, podNetworks: readonly CidrText[]): UnderlayFacts {
  const pods = podNetworks.map(parseCidr)
  const links = listLinks(socket)
  const names = new Map(links.map(({ index, name }) => [index, name]))
  const routes = listRoutes(socket, { table: MAIN_TABLE, type: 'unicast' }).flatMap((route): MainRoute[] => {
    const dst = parseCidr(route.dst)
    if (isHeddleProtocol(route.protocol) || pods.some((pod) => containsCidr(pod, dst))) return []
    const [hop = { oif: route.oif, gateway: route.gateway }] = route.nexthops ?? []
    const dev = hop.oif === undefined ? undefined : names.get(hop.oif)
    return [
      {
        dst: route.dst,
        priority: route.priority ?? 0,
        ...(hop.gateway === undefined ? {} : { via: hop.gateway }),
        ...(dev === undefined ? {} : { dev }),
      },
    ]
  })
  return {
    links: links.map(({ index, name, up, mtu, flags }) => ({
      index,
      name,
      up,
      mtu,
      loopback: (flags & IFF.LOOPBACK) !== 0,
    })),
    addresses: listAddrs(socket).flatMap(({ index, address, flags }) => {
      const dev = names.get(index)
      const net = parseIpNet(address)
      const own = pods.some((pod) => contains(pod, net.ip))
      if (dev === undefined || own || (flags & (IFA_F.TENTATIVE | IFA_F.DADFAILED)) !== 0) return []
      return {
        dev,
        ip: formatIp(net.ip),
        deprecated: (flags & IFA_F.DEPRECATED) !== 0,
        temporary: net.ip.family === 6 && (flags & IFA_F.SECONDARY) !== 0,
        permanent: (flags & IFA_F.PERMANENT) !== 0,
      }
    }),
    routes,
  }
}

/** Changes come in bunches; one reading serves all of them. */
const SETTLE = 100

/** What a change must concern to matter: the interfaces in use (by name), or anything while they are not known. */
export interface UnderlayInterest {
  readonly devices: ReadonlySet<string>
  readonly podNetworks: readonly CidrText[]
}

/**
 * Whether a reading could come out otherwise after this event. Pods come and go with links, addresses and routes of their own, many a
 * second; none of them concerns the traffic between nodes. `nameOf` gives a link's name by its index.
 */
export function concernsUnderlay(
  event: NetlinkEvent,
  { devices, podNetworks }: UnderlayInterest,
  nameOf: (index: number) => string | undefined,
): boolean {
  switch (event.kind) {
    case 'link':
      return devices.size === 0 || devices.has(event.link.name)
    case 'addr': {
      const name = nameOf(event.addr.index)
      return devices.size === 0 || name === undefined || devices.has(name)
    }
    case 'route': {
      const { protocol, table, dst } = event.route
      // Thousands of them are ours.
      if (isHeddleProtocol(protocol) || table !== MAIN_TABLE) return false
      const cidr = parseCidr(dst)
      if (isLinkLocal(cidr.ip) || isMulticast(cidr.ip)) return false
      return !podNetworks.some((pod) => containsCidr(parseCidr(pod), cidr))
    }
    case 'overrun':
      return true
    default:
      return false
  }
}

export interface UnderlayWatchOptions {
  readonly interest: () => UnderlayInterest
  readonly nameOf: (index: number) => string | undefined
  readonly changed: () => void
  readonly onError: (error: Error) => void
}

/** Calls back after changes that may matter to `readUnderlay`. Must be made before the first reading. */
export class UnderlayWatch implements Disposable {
  readonly #options: UnderlayWatchOptions
  readonly #monitor: NetlinkMonitor
  #timer: NodeJS.Timeout | undefined

  constructor(options: UnderlayWatchOptions) {
    this.#options = options
    this.#monitor = new NetlinkMonitor({
      groups: ['link', 'addr', 'route'],
      onEvent: (event) => this.#hear(event),
      onError: options.onError,
    })
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#monitor[Symbol.dispose]()
  }

  #hear(event: NetlinkEvent): void {
    const { interest, nameOf, changed } = this.#options
    if (this.#timer !== undefined || !concernsUnderlay(event, interest(), nameOf)) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      changed()
    }, SETTLE)
  }
}
