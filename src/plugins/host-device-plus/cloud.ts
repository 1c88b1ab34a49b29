/** What is asked of Neutron and Nova for cards. Each request has a deadline; none is made while the book is held. */

import { statSync } from 'node:fs'

import { invalidConfig, tryAgain } from '#cni/errors.ts'
import { familyOf, formatCidr, ipNetOf, networkOf, parseCidr, parseIpNet } from '#ip/prefix.ts'
import type { MacText } from '#ip/text.ts'
import { OpenStackClient } from '#openstack/client.ts'
import { loadCloud } from '#openstack/clouds-file.ts'
import { isCode } from '#openstack/errors.ts'
import { markFields, markTags } from '#openstack/mark.ts'
import { getNetwork, listSubnets, type Network, type Subnet } from '#openstack/neutron/network.ts'
import { Ports, type Port } from '#openstack/neutron/port.ts'
import { quotaUse, roomOf } from '#openstack/neutron/quota.ts'
import { Compute } from '#openstack/nova/compute.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import { markOfCard, portName, type Card, type CardPort } from './card.ts'
import type { NicConf } from './config.ts'
import { tellAttempt } from './observe.ts'

/** One call of a service, repetitions included. */
const CALL_MS = 20_000
/** What is known of a network is asked for again after so long. */
const FACTS_MS = 300_000
/** Cards that are attached at the same time. */
const AT_ONCE = 4
/** Waits between looks whether a card has gone. */
const POLL = { first: 200, longest: 2_000 } as const

/** The node's server, and the network that its own card is on. */
export interface Home {
  readonly server: string
  readonly networkId: string
}

interface Facts {
  readonly network: Network
  readonly subnets: readonly Subnet[]
  readonly until: number
}

export interface CloudOptions {
  readonly clock?: Clock
  readonly random?: () => number
}

export class NicCloud implements Disposable {
  readonly #client: OpenStackClient
  readonly #ports: Ports
  readonly #compute: Compute
  readonly #clock: Clock
  readonly #random: () => number
  readonly #facts = new Map<string, Facts>()
  readonly #homes = new Map<string, Home>()
  readonly #waiting: (() => void)[] = []
  #attaching = 0

  /** Throws OpenStackError `config`. */
  constructor(conf: NicConf, options: CloudOptions = {}) {
    const { cloudsFile: file, cloud } = conf
    const config = loadCloud({ ...(file === undefined ? {} : { file }), ...(cloud === undefined ? {} : { cloud }) })
    const { computeUrl: compute } = conf
    const endpoints = compute === undefined ? config.endpoints : { ...config.endpoints, compute }
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#client = new OpenStackClient(
      { ...config, endpoints },
      {
        timeoutMs: CALL_MS,
        // Nova answers an attachment when it is made, which takes longer the more cards there are.
        attemptMs: Math.max(CALL_MS, conf.attachTimeoutMs),
        clock: this.#clock,
        random: this.#random,
        onAttempt: tellAttempt,
      },
    )
    this.#ports = new Ports(this.#client)
    this.#compute = new Compute(this.#client)
  }

  /** By configuration, else by the card whose MAC address the node's interface has. Throws CniError 7, OpenStackError. */
  async home(conf: NicConf, macOf: () => MacText | undefined): Promise<Home> {
    const { serverId, networkId, what } = conf
    if (serverId !== '' && networkId !== '') return { server: serverId, networkId }
    const mac = macOf()
    if (mac === undefined)
      throw invalidConfig(`${what}: the node's interface has no MAC address`, 'set nova.serverId and nova.networkId')
    const key = `${mac} ${serverId} ${networkId}`
    const known = this.#homes.get(key)
    if (known !== undefined) return known
    const found = (await this.#ports.list({ mac })).filter(({ device_owner: owner }) => owner.startsWith('compute:'))
    const [port, ...more] = found.filter(({ device_id: device }) => serverId === '' || device === serverId)
    if (port === undefined || more.length > 0)
      throw invalidConfig(
        `${what}: ${port === undefined ? 'no port' : `more than one port (${found.length})`} of a server has the MAC address ${mac} of this node`,
        'set nova.serverId and nova.networkId, or name another hostInterface',
      )
    const home = { server: serverId || port.device_id, networkId: networkId || port.network_id }
    this.#homes.set(key, home)
    return home
  }

  /** Ports that Nova has on the server. */
  async attached(server: string): Promise<ReadonlySet<string>> {
    return new Set((await this.#compute.interfaces(server)).map(({ port_id: port }) => port))
  }

  portsOf(server: string): Promise<readonly Port[]> {
    return this.#ports.list({ device: server })
  }

  /** Ports that bear this node's mark, attached or not. */
  marked(server: string, cluster: string): Promise<readonly Port[]> {
    return this.#ports.list({ tags: markTags({ cluster, kind: 'nic', node: server }) })
  }

  /** Ports of cards that were begun, whether or not anybody remembers. */
  find(card: Card): Promise<readonly Port[]> {
    return this.#ports.list({ name: portName(card) })
  }

  /** How many more ports the project may have; Infinity where that cannot be asked. */
  async portRoom(): Promise<number> {
    try {
      return roomOf((await quotaUse(this.#client, await this.#client.projectId())).get('port'))
    } catch (error) {
      if (isCode(error, 'forbidden', 'not-found')) return Number.POSITIVE_INFINITY
      throw error
    }
  }

  /** Throws CniError 7 for a network without a subnet, OpenStackError. `perhapsDone`: `find` tells. */
  async create(card: Card, networkId: string, conf: NicConf): Promise<CardPort> {
    // First, so that nothing is made for a network that nobody can use.
    const facts = await this.#factsOf(networkId)
    if (facts.subnets.length === 0)
      throw invalidConfig(`${conf.what}: network ${networkId} has no subnet`, 'add one: a card needs an address')
    const { subnetIds, securityGroups } = conf
    const port = await this.#ports.create({
      network_id: networkId,
      ...markFields(markOfCard(card)),
      ...(subnetIds.length === 0 ? {} : { fixed_ips: subnetIds.map((subnet_id) => ({ subnet_id })) }),
      ...(securityGroups.length === 0 ? {} : { security_groups: securityGroups }),
    })
    return cardPort(port, facts.network, facts.subnets)
  }

  async #factsOf(networkId: string): Promise<Facts> {
    const known = this.#facts.get(networkId)
    if (known !== undefined && known.until > this.#clock.now()) return known
    const [network, subnets] = await Promise.all([
      getNetwork(this.#client, networkId),
      listSubnets(this.#client, { network: networkId }),
    ])
    const facts = { network, subnets, until: this.#clock.now() + FACTS_MS }
    this.#facts.set(networkId, facts)
    return facts
  }

  /**
   * A turn at Nova, which does one card of a server after the other and gets slower with each that waits there. Throws CniError 11 when none comes in
   * time.
   */
  async turn(timeoutMs: number): Promise<Disposable> {
    if (this.#attaching >= AT_ONCE) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      this.#waiting.push(resolve)
      const late = tryAgain(
        `${this.#waiting.length} cards wait for Nova`,
        'it takes seconds for each: keep a larger pool',
      )
      using _timer = this.#clock.timeout(timeoutMs, () => {
        const at = this.#waiting.indexOf(resolve)
        if (at >= 0) this.#waiting.splice(at, 1)
        reject(late)
      })
      await promise
    } else this.#attaching += 1
    return {
      [Symbol.dispose]: () => {
        const next = this.#waiting.shift()
        if (next === undefined) this.#attaching -= 1
        else next()
      },
    }
  }

  /** Throws OpenStackError; with `perhapsDone` the card may come all the same. */
  async attach(server: string, port: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    await this.#compute.attach(server, { port }, { timeoutMs, signal })
  }

  /**
   * The card goes, then its port. Both may have gone already. Nova takes its time: throws CniError 11 when the card is still there after
   * `timeoutMs`, OpenStackError.
   */
  async remove(server: string, ports: readonly string[], timeoutMs: number): Promise<void> {
    const deadline = this.#clock.now() + timeoutMs
    for (const port of ports) {
      await this.#detach(server, port, deadline)
      try {
        await this.#ports.delete(port)
      } catch (error) {
        if (!isCode(error, 'not-found')) throw error
      }
    }
  }

  async #detach(server: string, port: string, deadline: number): Promise<void> {
    for (let wait: number = POLL.first, isAsked = false; ; wait = Math.min(POLL.longest, wait * 2)) {
      try {
        isAsked ||= await this.#compute.detach(server, port)
        // Without a server there is no card.
        if (!(await this.attached(server)).has(port)) return
      } catch (error) {
        if (isCode(error, 'not-found')) return
        // The server is locked, or in the middle of something.
        if (!isCode(error, 'conflict')) throw error
      }
      if (this.#clock.now() + wait > deadline)
        throw tryAgain(`Nova has not taken card ${port} off server ${server} yet`, 'it is asked again')
      await this.#clock.sleep(wait * (0.75 + this.#random() / 2))
    }
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]()
  }
}

/** What a pod needs to know of its port: pure. Routes that another host wrote wrong harm only themselves. */
export function cardPort(port: Port, network: Network, subnets: readonly Subnet[]): CardPort {
  const ofPort = port.fixed_ips.flatMap(({ subnet_id: id, ip_address: ip }) => {
    const subnet = subnets.find((one) => one.id === id)
    return subnet === undefined ? [] : [{ subnet, ip }]
  })
  const used = [...new Set(ofPort.map(({ subnet }) => subnet))]
  return {
    id: port.id,
    mac: port.mac_address,
    mtu: network.mtu,
    ips: ofPort.map(({ subnet: { cidr, gateway_ip: gateway }, ip }) => ({
      address: ipNetOf(ip, parseCidr(cidr).length),
      // The address may be the gateway's own, which Neutron lets one ask for.
      ...(gateway === undefined || gateway === ip ? {} : { gateway }),
    })),
    routes: used.flatMap(({ host_routes: routes }) =>
      routes.flatMap(({ destination, nexthop }) => {
        const dst = networkOf(parseIpNet(destination))
        return dst.ip.family === familyOf(nexthop) ? [{ dst: formatCidr(dst), gw: nexthop }] : []
      }),
    ),
    nameservers: [...new Set(used.flatMap(({ dns_nameservers: servers }) => servers))],
  }
}

/** One for each cloud that is configured, for as long as the process lives: tokens and connections are used again. */
const open = new Map<string, NicCloud>()
const MOST_OPEN = 16

/** The same one while its file is the same. Throws OpenStackError `config`. */
export function cloudOf(conf: NicConf, options: CloudOptions = {}): NicCloud {
  const { cloudsFile = '', cloud = '', computeUrl, attachTimeoutMs } = conf
  const key = JSON.stringify([cloudsFile, fileStamp(cloudsFile), cloud, computeUrl?.href, attachTimeoutMs])
  const known = open.get(key)
  if (known !== undefined) return known
  const made = new NicCloud(conf, options)
  // The oldest: its calls under way still end.
  const [oldest] = open.keys()
  if (open.size >= MOST_OPEN && oldest !== undefined) open.delete(oldest)
  open.set(key, made)
  return made
}

/** For the end of a program that goes on: closes all connections. */
export function closeClouds(): void {
  for (const cloud of open.values()) cloud[Symbol.dispose]()
  open.clear()
}

function fileStamp(path: string): string {
  if (path === '') return ''
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat === undefined ? '' : `${stat.mtimeMs}:${stat.size}`
}
