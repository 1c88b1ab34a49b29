/** Finding this node's place in the cloud: its port, the subnets of its pods, and the right to write. */

import type { IpText } from '#ip/text.ts'
import { OpenStackError } from '#openstack/errors.ts'
import { getNetwork, getSubnet, type Subnet } from '#openstack/neutron/network.ts'
import type { Port } from '#openstack/neutron/port.ts'
import type { Backing, BackingEvent } from './backing.ts'
import { claim } from './claim.ts'
import { writeFacts, type Facts, type Validity } from './facts.ts'
import { FixedIps } from './fixed-ips.ts'
import type { HostCard } from './host-card.ts'
import type { KeeperOptions } from './keeper.ts'
import { findPort, LookupError } from './lookup.ts'
import { serverId } from './metadata.ts'
import { Reserved } from './reserved.ts'

export interface AttachOptions extends KeeperOptions {
  /** That of before, if there was any. */
  readonly validity: Validity | undefined
  readonly onBacking: (event: BackingEvent, ips: readonly IpText[]) => void
}

export interface Attached {
  readonly facts: Facts
  readonly backing: Backing
  /** Nothing is remembered, and the cloud tells of an earlier life of this machine: what it shows is of then. */
  readonly isNew: boolean
}

/** @throws LookupError, ClaimError, OpenStackError, CniError */
export async function attach(options: AttachOptions): Promise<Attached> {
  const { conf, api, book, clock, log, random, failpoint, onBacking } = options
  const card = options.card()
  const port = await portOf(options, card)
  const subnets = await subnetsOf(options, port)
  const validity: Validity = conf.validity === 'auto' ? 'fixed_ips' : conf.validity
  const { node: before, addresses } = book.pool
  if (options.validity !== undefined && options.validity !== validity && addresses.size > 0)
    throw new OpenStackError(
      'config',
      `validity is ${validity} now, and ${addresses.size} addresses are held by ${options.validity}: drain the node and let them be given back (pool.minimum and warm 0), or set it back`,
    )
  let earlier = false
  if (port !== undefined) {
    const claimed = await claim(api, port, { boot: book.boot, writer: book.pool.writer })
    earlier = claimed.earlier || (!claimed.claimable && conf.subnetIds.length > 0)
    if (!claimed.claimable)
      log('warn', 'this cloud lets no tag be set on the port: only the lock file keeps other writers out', {
        port: port.id,
      })
    if (before !== undefined && before.port !== '' && before.port !== port.id)
      await replaced(options, before.port, port.id)
  }
  await own(options, port, card)
  const facts = factsOf(card, port, validity, subnets)
  await writeFacts(conf.factsFile, facts)
  const common = { api, clock, random, failpoint, onEvent: onBacking, port: port?.id ?? '' }
  const backing =
    validity === 'fixed_ips'
      ? new FixedIps(common)
      : new Reserved({
          ...common,
          kind: validity,
          subnets: new Map(subnets.map(({ subnet }) => [subnet.id, subnet])),
          cluster: conf.cluster,
          node: await nodeName(options, port),
          boot: book.boot,
        })
  log('info', 'the port of this node is found', { port: port?.id, interface: card.interface, validity })
  return { facts, backing, isNew: before === undefined && earlier }
}

/** Without a port only validity `port` works: then each pod has one, and this host none. */
async function portOf({ conf, api, signal }: AttachOptions, card: HostCard): Promise<Port | undefined> {
  try {
    return await findPort({ conf, api, card, signal })
  } catch (error) {
    if (conf.validity === 'port' && error instanceof LookupError && conf.subnetIds.length > 0) return undefined
    throw error
  }
}

interface KnownSubnet {
  readonly subnet: Subnet
  /** Of its network. */
  readonly mtu: number
}

/** Those of the configuration, else those that the port has addresses of. */
async function subnetsOf({ conf, api }: AttachOptions, port: Port | undefined): Promise<readonly KnownSubnet[]> {
  const ids = conf.subnetIds.length > 0 ? conf.subnetIds : new Set(port?.fixed_ips.map(({ subnet_id: id }) => id))
  const mtus = new Map<string, number>()
  const found: KnownSubnet[] = []
  for (const id of ids) {
    const subnet = await getSubnet(api.client, id, await api.turn())
    const { network_id: network } = subnet
    if (port !== undefined && conf.validity !== 'port' && network !== port.network_id)
      throw new OpenStackError(
        'config',
        `subnet ${id} is of network ${network}, and port ${port.id} of ${port.network_id}: its addresses cannot be that port's`,
      )
    const mtu = mtus.get(network) ?? (await getNetwork(api.client, network, await api.turn())).mtu
    mtus.set(network, mtu)
    found.push({ subnet, mtu })
  }
  if (found.length > 0) return found
  throw new OpenStackError('config', 'the port has no address, so its subnet is not known: name it in subnetIds')
}

/** Notes which of the port's addresses are the node's own: those that its card has; at first sight all of them, where it has none. */
async function own({ book }: AttachOptions, port: Port | undefined, card: HostCard): Promise<void> {
  const before = book.pool.node
  const held = port?.fixed_ips.map(({ ip_address: ip }) => ip) ?? []
  const configured = held.filter((ip) => card.addresses.includes(ip))
  const kept = before?.port === port?.id ? (before?.own ?? []).filter((ip) => held.includes(ip)) : []
  const first = before === undefined && configured.length === 0 ? held : []
  const mine = [...new Set([...configured, ...kept, ...first])].filter((ip) => !book.pool.addresses.has(ip))
  const node = { port: port?.id ?? '', network: port?.network_id ?? '', mac: card.mac, own: mine }
  if (JSON.stringify(node) !== JSON.stringify(before)) await book.write({ is: 'node', node })
}

/** The VM has another port now: what was free on the old one went with it, what pods have comes along. */
async function replaced({ book, log, onEvent }: AttachOptions, from: string, to: string): Promise<void> {
  const pods = book.pool.inState('assigned').filter(({ port }) => port === from).length
  log('warn', 'the VM has another port; the addresses of its pods move there', { from, to, pods })
  await book.write({ is: 'moved', from, to })
  onEvent('port-replaced', 1)
}

function factsOf(card: HostCard, port: Port | undefined, validity: Validity, subnets: readonly KnownSubnet[]): Facts {
  const address = card.addresses[0] ?? port?.fixed_ips[0]?.ip_address
  if (address === undefined)
    throw new OpenStackError('config', `${card.interface} has no address: pods would have no way to their node`)
  return {
    version: 1,
    node: {
      address,
      addresses: [...card.addresses],
      mac: card.mac,
      interface: card.interface,
      port: port?.id ?? 'none',
    },
    validity,
    subnets: subnets.map(({ subnet, mtu }) => ({
      id: subnet.id,
      network: subnet.network_id,
      cidr: subnet.cidr,
      ...(subnet.gateway_ip === undefined ? {} : { gateway: subnet.gateway_ip }),
      mtu,
    })),
  }
}

const isNodeName = (text: string): boolean => /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,46}[A-Za-z0-9])?$/.test(text)

/** For marks: the configured name, the server's id, or the host's name. */
async function nodeName({ conf, hostname, signal }: AttachOptions, port: Port | undefined): Promise<string> {
  if (conf.node !== '') return conf.node
  if (port !== undefined && isNodeName(port.device_id)) return port.device_id
  const id = await serverId(conf.metadataUrl, signal).catch(() => undefined)
  if (id !== undefined && isNodeName(id)) return id
  const name = hostname()
    .replaceAll(/[^A-Za-z0-9.-]/g, '-')
    .slice(0, 48)
  return isNodeName(name) ? name : 'node'
}
