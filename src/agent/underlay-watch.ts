/** The interfaces, addresses and routes between nodes, and word when they change. */

import { contains, containsCidr, parseCidr, parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
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
    links: links.map(({ name, up, mtu, flags }) => ({ name, up, mtu, loopback: (flags & IFF.LOOPBACK) !== 0 })),
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

/** Calls back after changes that may matter to `readUnderlay`. Its socket must be opened before the first reading. */
export class UnderlayWatch implements Disposable {
  readonly #monitor: NetlinkMonitor
  readonly #changed: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(changed: () => void, onError: (error: Error) => void) {
    this.#changed = changed
    this.#monitor = new NetlinkMonitor({
      groups: ['link', 'addr', 'route'],
      onEvent: (event) => this.#hear(event),
      onError,
    })
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#monitor[Symbol.dispose]()
  }

  #hear(event: NetlinkEvent): void {
    // Thousands of these are ours.
    if (event.kind === 'route' && (isHeddleProtocol(event.route.protocol) || event.route.table !== MAIN_TABLE)) return
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#changed()
    }, SETTLE)
  }
}
