/** What becomes of a port's fixed IPs: Neutron's rules as measured, pure but for the choice among free addresses. */

import { formatIp, ipText, parseIp, tryParseIp, addToIp, compareIp } from '#ip/address.ts'
import type { IpText } from '#ip/address.ts'
import { contains, parseCidr } from '#ip/prefix.ts'
import { badInput, internal, neutron } from './failure.ts'
import type { FakeSubnet, Fixed } from './model.ts'

export interface Asked {
  readonly subnet_id?: string | undefined
  readonly ip_address?: string | undefined
}

/** Asked for, with the subnet that an address lies in. */
interface Settled {
  readonly subnet: FakeSubnet
  readonly address: IpText | undefined
}

/** What a request changes, seen from the addresses that it was made against. */
export interface Changes {
  readonly add: readonly Settled[]
  readonly remove: readonly Fixed[]
}

const inside = (subnet: FakeSubnet, address: string): boolean => contains(parseCidr(subnet.cidr), parseIp(address))

function settle(asked: Asked, subnets: readonly FakeSubnet[], network: string): Settled {
  const { subnet_id: id, ip_address: text } = asked
  if (text !== undefined && tryParseIp(text) === undefined) {
    throw badInput(`Invalid input for fixed_ips. Reason: '${text}' is not a valid IP address.`)
  }
  const address = text === undefined ? undefined : ipText(text)
  if (id === undefined) {
    // Neutron 21 does not foresee this one.
    if (address === undefined) throw internal()
    const subnet = subnets.find((one) => inside(one, address))
    if (subnet !== undefined) return { subnet, address }
    const message = `IP address ${address} is not a valid IP for any of the subnets on the specified network.`
    throw neutron(400, 'InvalidIpForNetwork', message)
  }
  const subnet = subnets.find((one) => one.id === id)
  if (subnet === undefined) {
    const message = `Failed to create port on network ${network}, because fixed_ips included invalid subnet ${id}`
    throw neutron(400, 'InvalidInput', `Invalid input for operation: ${message}.`)
  }
  if (address !== undefined && !inside(subnet, address)) {
    throw neutron(400, 'InvalidIpForSubnet', `IP address ${address} is not a valid IP for the specified subnet.`)
  }
  return { subnet, address }
}

/**
 * From the addresses that a port has to those that a request asks for. Named ones first; then each bare `{subnet_id}` takes what the port has
 * of that subnet and the request did not name: so it is one address for all who ask at once.
 */
export function changesOf(
  held: readonly Fixed[],
  asked: readonly Asked[],
  subnets: readonly FakeSubnet[],
  network: string,
): Changes {
  const settled = asked.map((one) => settle(one, subnets, network))
  const named = settled.flatMap(({ address }) => (address === undefined ? [] : [address]))
  const twice = named.find((address, index) => named.indexOf(address) !== index)
  if (twice !== undefined) throw badInput(`Invalid input for fixed_ips. Reason: Duplicate IP address '${twice}'.`)
  const left = held.filter((fixed) => !named.includes(fixed.ip_address))
  const add: Settled[] = settled.filter(
    ({ address }) => address !== undefined && !held.some((fixed) => fixed.ip_address === address),
  )
  for (const one of settled.filter(({ address }) => address === undefined)) {
    const index = left.findIndex((fixed) => fixed.subnet_id === one.subnet.id)
    if (index < 0) add.push(one)
    else left.splice(index, 1)
  }
  return { add, remove: left }
}

function* pool(subnet: FakeSubnet): Generator<IpText> {
  for (const { start, end } of subnet.pools) {
    const last = parseIp(end)
    // A window is enough to choose from: nobody fills more of an IPv6 pool.
    for (let ip = parseIp(start), n = 0; compareIp(ip, last) <= 0 && n < 4096; ip = addToIp(ip, 1), n += 1)
      yield formatIp(ip)
  }
}

/** Neutron chooses at random in a window of the first free ones, so nobody may rely on the lowest. */
const WINDOW = 10

/** Any free address. @throws Failure IpAddressGenerationFailure */
export function anyFree(subnet: FakeSubnet, taken: ReadonlySet<string>, random: () => number): IpText {
  const free: IpText[] = []
  for (const address of pool(subnet)) {
    if (!taken.has(address)) free.push(address)
    if (free.length >= WINDOW) break
  }
  const chosen = free[Math.floor(random() * free.length)]
  if (chosen !== undefined) return chosen
  const message = `No more IP addresses available on network ${subnet.network}.`
  throw neutron(409, 'IpAddressGenerationFailure', message)
}

/** The addresses to add, all or none. The gateway's is given like any other: so Neutron does. @throws Failure */
export function allocate(
  add: readonly Settled[],
  takenOf: (subnet: string) => ReadonlySet<string>,
  random: () => number,
): readonly Fixed[] {
  const mine = new Set<string>()
  const result: Fixed[] = []
  // Named ones first: what is chosen freely must not take them.
  for (const { subnet, address } of add.toSorted(
    (a, b) => Number(a.address === undefined) - Number(b.address === undefined),
  )) {
    const taken = new Set([...takenOf(subnet.id), ...mine])
    if (address !== undefined && taken.has(address)) {
      const message = `IP address ${address} already allocated in subnet ${subnet.id}`
      throw neutron(409, 'IpAddressAlreadyAllocated', message)
    }
    const chosen = address ?? anyFree(subnet, taken, random)
    mine.add(chosen)
    result.push({ subnet_id: subnet.id, ip_address: chosen })
  }
  return result
}

/** As Neutron shows them: in the order of text, which is that of its primary key. */
export const shown = (fixed: readonly Fixed[]): readonly Fixed[] =>
  fixed.toSorted((a, b) => (a.ip_address < b.ip_address ? -1 : a.ip_address > b.ip_address ? 1 : 0))
