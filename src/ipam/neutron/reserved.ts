/**
 * Addresses that ports of their own reserve: one port for each (`port`, `address_pairs`) or one for sixteen (`prefix`). With pairs on the VM's port, what they
 * reserve may be used by its pods. All of them bear this node's mark, so that they are found again after a crash, and by whoever clears up after a dead node.
 */

import { addToIp, compareIp, formatIp, parseIp } from '#ip/address.ts'
import { cidrOf, contains, formatCidr, hostCidr, parseCidr, type CidrText } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { isCode, OpenStackError } from '#openstack/errors.ts'
import { markFields, markOf, type Mark } from '#openstack/mark.ts'
import type { Subnet } from '#openstack/neutron/network.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { setTags } from '#openstack/neutron/tag.ts'
import { NothingDone, type Backing, type BackingEvent, type Ledger, type Seen, type View } from './backing.ts'
import { claimsOf } from './claim.ts'
import type { CloudApi } from './cloud.ts'
import { Pairs } from './pairs.ts'
import type { Address, Intent } from './record.ts'

export interface ReservedOptions {
  readonly api: CloudApi
  readonly kind: 'port' | 'address_pairs' | 'prefix'
  /** The VM's port, which gets the pairs; '' for kind `port`. */
  readonly port: string
  readonly subnets: ReadonlyMap<string, Pick<Subnet, 'id' | 'network_id' | 'cidr' | 'allocation_pools' | 'gateway_ip'>>
  readonly cluster: string
  readonly node: string
  readonly boot: string
  readonly clock: Clock
  readonly random: () => number
  readonly failpoint: (name: string) => void
  readonly onEvent: (event: BackingEvent, ips: readonly IpText[]) => void
}

/** Addresses of a prefix: a /28, or a /124. */
const SIZE = 16
/** Free prefixes that one chooses among at random, so that nodes seldom choose the same. */
const CANDIDATES = 32
/** A port may have ten pairs unless the operator allows more; its own count too. */
const MAX_PAIRS = 10
/** Steps of sixteen that are looked at: a /16 has 4,096. */
const MAX_STEPS = 8_192

const DEVICE = 'heddle-ipam'

export class Reserved implements Backing {
  readonly kind: 'port' | 'address_pairs' | 'prefix'
  readonly #options: ReservedOptions
  readonly #mark: Mark
  readonly #pairs: Pairs | undefined

  constructor(options: ReservedOptions) {
    const { kind, cluster, node, port, api, clock, random } = options
    this.kind = kind
    this.#options = options
    const what = kind === 'port' ? 'pod' : kind === 'prefix' ? 'prefix' : 'address'
    this.#mark = { cluster, kind: what, node, ...(port === '' ? {} : { subject: port }) }
    const onEvent = (event: BackingEvent): void => options.onEvent(event, [])
    this.#pairs = kind === 'port' ? undefined : new Pairs({ api, port, clock, random, onEvent })
  }

  async observe(): Promise<View> {
    const ports = await this.#ports()
    const vm = await this.#pairs?.get()
    const paired =
      vm === undefined ? undefined : new Set<string>(vm.allowed_address_pairs.map(({ ip_address: ip }) => ip))
    const seen = ports
      .flatMap((port) => this.#seenOf(port))
      .filter((one) => paired === undefined || paired.has(pairOf(one)))
    return { seen: new Map(seen.map((one) => [one.ip, one])), claims: claimsOf(vm?.tags ?? []) }
  }

  async plan(subnet: string, count: number): Promise<Pick<Intent, 'count' | 'before' | 'prefix'>> {
    if (this.kind === 'port') return { count, before: [] }
    const room = MAX_PAIRS - (await this.#vm()).allowed_address_pairs.length
    if (this.kind === 'address_pairs') return { count: Math.max(1, Math.min(count, room)), before: [] }
    return { count: SIZE, before: [], prefix: await this.#freePrefix(subnet) }
  }

  async grow(intent: Intent): Promise<readonly Seen[]> {
    const { api, failpoint } = this.#options
    const network_id = this.#subnet(intent.subnet).network_id
    const common = {
      network_id,
      name: markFields(this.#mark).name,
      device_id: this.#deviceOf(intent.id),
      // What is only reserved must answer to nobody; what is a pod's own may.
      admin_state_up: this.kind === 'port',
    }
    const wanted =
      intent.prefix === undefined
        ? Array.from({ length: intent.count }, () => ({ ...common, fixed_ips: [{ subnet_id: intent.subnet }] }))
        : [
            {
              ...common,
              fixed_ips: addressesOf(intent.prefix).map((ip) => ({ subnet_id: intent.subnet, ip_address: ip })),
            },
          ]
    let made: readonly Port[]
    try {
      made = await api.ports.createMany(wanted, await api.turn())
    } catch (error) {
      if (error instanceof OpenStackError && error.perhapsDone) throw error
      throw new NothingDone(error)
    }
    failpoint('neutron.post')
    return this.#finish(made)
  }

  async recover(intent: Intent): Promise<readonly Seen[]> {
    const ports = (await this.#ports()).filter(({ device_id: device }) => device === this.#deviceOf(intent.id))
    return this.#finish(ports)
  }

  /** Tags and pairs, where they are missing. */
  async #finish(ports: readonly Port[]): Promise<readonly Seen[]> {
    const { api, failpoint } = this.#options
    const { tags } = markFields(this.#mark)
    for (const port of ports) {
      if (tags.every((tag) => port.tags.includes(tag))) continue
      await setTags(api.client, 'ports', port.id, [...new Set([...port.tags, ...tags])], await api.turn())
    }
    failpoint('neutron.tagged')
    const seen = ports.flatMap((port) => this.#seenOf(port))
    if (this.#pairs !== undefined && seen.length > 0) await this.#pairs.add([...new Set(seen.map(pairOf))])
    failpoint('neutron.put')
    return seen
  }

  /** Whole ports only: of a prefix all sixteen are leaving, or it stays. */
  async shrink(addresses: readonly Address[], _ledger: Ledger): Promise<void> {
    const { api, failpoint } = this.#options
    // First nobody may use them any more, then others may.
    await this.#pairs?.remove([...new Set(addresses.map(pairOf))])
    failpoint('neutron.shrunk')
    for (const port of new Set(addresses.map(({ port }) => port))) {
      try {
        await api.ports.delete(port, await api.turn())
      } catch (error) {
        if (!isCode(error, 'not-found')) throw error
      }
    }
  }

  /** Pairs that somebody removed are set again; ports that somebody deleted are made again with the same addresses, where nobody else has them by now. */
  async restore(addresses: readonly Address[]): Promise<readonly IpText[]> {
    const { api } = this.#options
    const lost: IpText[] = []
    const there = new Map((await this.#ports()).map((port) => [port.id, port]))
    for (const [port, group] of Map.groupBy(addresses, (address) => address.port)) {
      if (there.has(port)) continue
      const [first] = group
      if (first === undefined) continue
      const ips = first.prefix === undefined ? group.map(({ ip }) => ip) : addressesOf(first.prefix)
      try {
        await api.ports.createMany(
          [
            {
              network_id: this.#subnet(first.subnet).network_id,
              name: markFields(this.#mark).name,
              device_id: this.#deviceOf('restored'),
              admin_state_up: this.kind === 'port',
              fixed_ips: ips.map((ip) => ({ subnet_id: first.subnet, ip_address: ip })),
              // Where the pod's card has the port's address.
              ...(first.mac === undefined ? {} : { mac_address: first.mac }),
            },
          ],
          await api.turn(),
        )
      } catch (error) {
        if (!isCode(error, 'address-in-use', 'bad-request', 'conflict')) throw error
        lost.push(...group.map(({ ip }) => ip))
      }
    }
    const back = addresses.filter(({ ip }) => !lost.includes(ip))
    if (back.length > 0) await this.#pairs?.add([...new Set(back.map(pairOf))])
    return lost
  }

  async #ports(): Promise<readonly Port[]> {
    const { api } = this.#options
    const { name } = markFields(this.#mark)
    const found = await api.ports.list({ name }, await api.turn())
    // A name alone is quickly given: the device says that it is this program's.
    return found.filter((port) => markOf(port) !== undefined && port.device_id.startsWith(`${DEVICE}:`))
  }

  async #vm(): Promise<Port> {
    if (this.#pairs === undefined) throw new OpenStackError('config', 'there is no port of the VM')
    return this.#pairs.get()
  }

  #subnet(id: string): Pick<Subnet, 'id' | 'network_id' | 'cidr' | 'allocation_pools' | 'gateway_ip'> {
    const subnet = this.#options.subnets.get(id)
    if (subnet === undefined) throw new OpenStackError('config', `subnet ${id} is none of subnetIds`)
    return subnet
  }

  #deviceOf(intent: string): string {
    return `${DEVICE}:${this.#options.boot.slice(0, 18)}:${intent}`
  }

  /** True for what an earlier boot of this machine made: its pods are gone. */
  isEarlier(device: string): boolean {
    return !device.startsWith(`${DEVICE}:${this.#options.boot.slice(0, 18)}:`)
  }

  #seenOf(port: Port): readonly Seen[] {
    const intent = this.isEarlier(port.device_id) ? 'earlier' : port.device_id.split(':')[2]
    const of = { port: port.id, intent, ...(this.kind === 'port' ? { mac: port.mac_address } : {}) }
    return port.fixed_ips.map(({ ip_address: ip, subnet_id: subnet }) => ({
      ip,
      subnet,
      ...of,
      ...(this.kind === 'prefix' ? { prefix: prefixOf(ip) } : {}),
    }))
  }

  /** A free prefix of a subnet, any of the first ones: within its allocation pools, without the gateway, and none of its addresses a port's. */
  async #freePrefix(id: string): Promise<CidrText> {
    const { api, random } = this.#options
    const subnet = this.#subnet(id)
    const used = await api.ports.list({ subnet: id }, await api.turn())
    const taken = new Set(used.flatMap((port) => port.fixed_ips.map(({ ip_address: ip }) => prefixOf(ip))))
    if (subnet.gateway_ip !== undefined) taken.add(prefixOf(subnet.gateway_ip))
    const free: CidrText[] = []
    for (const prefix of prefixesOf(subnet)) {
      if (!taken.has(prefix)) free.push(prefix)
      if (free.length >= CANDIDATES) break
    }
    const chosen = free[Math.floor(random() * free.length)]
    if (chosen !== undefined) return chosen
    throw new OpenStackError('subnet-full', `no sixteen addresses in a row are free in subnet ${id} (${subnet.cidr})`, {
      object: 'POST ports',
    })
  }
}

/** The prefix of sixteen that an address lies in. */
export const prefixOf = (ip: IpText): CidrText => {
  const value = parseIp(ip)
  return formatCidr(cidrOf(value, value.family === 4 ? 28 : 124))
}

/** All sixteen addresses. */
export function addressesOf(prefix: CidrText): readonly IpText[] {
  const { ip } = parseCidr(prefix)
  return Array.from({ length: SIZE }, (_, n) => formatIp(addToIp(ip, n)))
}

const pairOf = ({ ip, prefix }: { readonly ip: IpText; readonly prefix?: CidrText | undefined }): CidrText =>
  prefix ?? formatCidr(hostCidr(parseIp(ip)))

/** Aligned prefixes that lie wholly within the allocation pools, in order. */
export function* prefixesOf(subnet: Pick<Subnet, 'cidr' | 'allocation_pools'>): Generator<CidrText> {
  const whole = parseCidr(subnet.cidr)
  for (const { start, end } of subnet.allocation_pools) {
    const [first, last] = [parseIp(start), parseIp(end)]
    let at = parseCidr(prefixOf(start)).ip
    if (compareIp(at, first) < 0) at = addToIp(at, SIZE)
    for (let step = 0; step < MAX_STEPS; step++) {
      if (!contains(whole, at) || compareIp(addToIp(at, SIZE - 1), last) > 0) break
      yield formatCidr({ ip: at, length: at.family === 4 ? 28 : 124 })
      at = addToIp(at, SIZE)
    }
  }
}
