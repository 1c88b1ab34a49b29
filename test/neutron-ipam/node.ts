/** A node of the tests: a VM's port on a network of its own, its daemon, and the plugin that asks it. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import type { JsonObject } from '#cni/json.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { formatIp } from '#ip/address.ts'
import { parseIpNet } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { journalOf } from '#ipam/neutron/book.ts'
import { ipamConf, type NeutronConf } from '#ipam/neutron/config.ts'
import type { HostCard } from '#ipam/neutron/host-card.ts'
import type { KeeperEvent } from '#ipam/neutron/keeper.ts'
import { neutronIpam } from '#ipam/neutron/plugin.ts'
import { replay } from '#ipam/neutron/pool.ts'
import { parseRecord } from '#ipam/neutron/record.ts'
import { openIpamService, type IpamService, type IpamServiceOptions } from '#ipam/neutron/service.ts'
import type { Attempt } from '#openstack/client.ts'
import type { CloudConfig } from '#openstack/config.ts'
import { Ports, type NewPort, type Port } from '#openstack/neutron/port.ts'
import { readJournal } from '#sys/journal.ts'
import { bootId } from '#sys/bootid.ts'
import { Site } from '../openstack/site.ts'
import { clientOf } from '../openstack/target.ts'
import { gcInputOf, inputOf } from '../plugins/input.ts'
import { slowness } from '../slow.ts'

/** Nothing of it waits longer than a test would like. */
const QUICK = {
  pool: { minimum: 0, warm: 2, batch: 4, cooldownSeconds: 0.2, settleSeconds: 0, idleReclaimSeconds: 3600 },
  api: { qps: 200, burst: 200, timeoutMs: 20_000, addDeadlineMs: 20_000 },
} as const

export interface NodeOptions {
  readonly cloud: CloudConfig
  readonly subnet?: string
  readonly subnets?: readonly string[]
  readonly ipam?: JsonObject
  readonly port?: Partial<NewPort>
}

/** A real Neutron takes its time; all waits are so many times longer. */
let patience = slowness
export const bePatient = (times: number): void => void (patience = slowness * times)

/** Waits until it is so. */
export async function until(what: string, is: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const end = performance.now() + ms * patience
  while (!(await is())) {
    if (performance.now() > end) throw new Error(`it did not happen in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export class TestNode implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), 'heddle-neutron-'))
  readonly site: Site
  readonly ports: Ports
  readonly cloud: CloudConfig
  readonly raw: JsonObject
  readonly subnets: readonly string[]
  readonly network: string
  port: string
  card: HostCard
  readonly events: { event: KeeperEvent; count: number }[] = []
  readonly attempts: Attempt[] = []
  readonly lines: string[] = []
  boot = bootId()
  #service: IpamService | undefined

  private constructor(
    cloud: CloudConfig,
    site: Site,
    network: string,
    subnets: readonly string[],
    port: Port,
    raw: JsonObject,
  ) {
    this.cloud = cloud
    this.site = site
    this.ports = new Ports(site.client)
    this.network = network
    this.subnets = subnets
    this.port = port.id
    this.card = cardOf(port)
    this.raw = raw
  }

  static async make(options: NodeOptions): Promise<TestNode> {
    const { cloud, subnets: cidrs = [options.subnet ?? '10.77.0.0/24'] } = options
    const site = new Site(clientOf(cloud, { timeoutMs: 120_000, attemptMs: 60_000 }))
    const network = await site.network({ mtu: 1400 })
    const subnets: string[] = []
    for (const cidr of cidrs) subnets.push(await site.subnet(network, cidr))
    const [subnet_id = ''] = subnets
    const port = await new Ports(site.client).create({
      network_id: network,
      name: 'vm',
      fixed_ips: [{ subnet_id }],
      ...options.port,
    })
    const ipam = {
      type: 'neutron-ipam',
      portId: port.id,
      portLookup: ['config'],
      subnetIds: subnets,
      ...QUICK,
      ...(patience > 1 ? { api: { ...QUICK.api, timeoutMs: 60_000, addDeadlineMs: 50_000 } } : {}),
      ...options.ipam,
    }
    return new TestNode(cloud, site, network, subnets, port, { name: 'pods', type: 'ipvlan', ipam })
  }

  /** Another program on the same host, with its own state and its own idea of where the lock is. */
  static beside(node: TestNode): Promise<TestNode> {
    const { cloud, network, subnets, raw } = node
    const site = new Site(clientOf(cloud))
    return node.ports.get(node.port).then((port) => {
      const ipam = { ...(raw['ipam'] as JsonObject), api: { ...QUICK.api, addDeadlineMs: 1_000 } }
      const made = new TestNode(cloud, site, network, subnets, port, { ...raw, ipam })
      made.card = node.card
      return made
    })
  }

  get conf(): NeutronConf {
    return ipamConf(this.raw['ipam'] as JsonObject, this.root, 'test')
  }

  get service(): IpamService {
    if (this.#service === undefined) throw new Error('the daemon does not run')
    return this.#service
  }

  async start(more: Partial<IpamServiceOptions> = {}): Promise<IpamService> {
    this.#service = await openIpamService({
      conf: this.conf,
      cloud: this.cloud,
      card: () => this.card,
      boot: this.boot,
      log: (level, message, fields) => void this.lines.push(`${level} ${message} ${JSON.stringify(fields)}`),
      onEvent: (event, count) => void this.events.push({ event, count }),
      onAttempt: (attempt) => void this.attempts.push(attempt),
      ...more,
    })
    return this.#service
  }

  async stop(): Promise<void> {
    await this.#service?.[Symbol.asyncDispose]()
    this.#service = undefined
  }

  count(event: KeeperEvent): number {
    return this.events.reduce((sum, one) => sum + (one.event === event ? one.count : 0), 0)
  }

  get host(): PluginHost {
    const { root } = this
    return {
      root,
      get netlink(): never {
        throw new Error('a daemon has the card')
      },
      delegate: (): Promise<never> => Promise.reject(new Error('it delegates nothing')),
      failpoint: () => {},
      log: (level, message) => void this.lines.push(`${level} ${message}`),
    }
  }

  add(containerId: string, ifname = 'eth0'): Promise<Result> {
    return neutronIpam.add(inputOf(this.raw, { containerId, ifname }), this.host)
  }

  /** The first address that the pod got. */
  async address(containerId: string): Promise<IpText> {
    return ipsOf(await this.add(containerId))[0] ?? ('' as IpText)
  }

  del(containerId: string, ifname = 'eth0'): Promise<void> {
    return neutronIpam.del(inputOf(this.raw, { containerId, ifname }), this.host)
  }

  check(containerId: string, prevResult: Result): Promise<void> {
    return neutronIpam.check(inputOf(this.raw, { containerId, prevResult }), this.host)
  }

  status(): Promise<void> {
    return neutronIpam.status(inputOf(this.raw, { containerId: '' }), this.host)
  }

  gc(...valid: readonly string[]): Promise<void> {
    return neutronIpam.gc(
      gcInputOf(
        this.raw,
        valid.map((containerId) => ({ containerId, ifname: 'eth0' })),
      ),
      this.host,
    )
  }

  /** What Neutron says the VM's port has. */
  async held(): Promise<readonly IpText[]> {
    return (await this.ports.get(this.port)).fixed_ips.map(({ ip_address: ip }) => ip)
  }

  /** What is on disk. */
  journal() {
    const { records } = readJournal(readFileSync(journalOf(this.conf.stateDir)))
    return replay(records.flatMap((record) => parseRecord(record) ?? []))
  }

  /** A journal as a crash may have left it. */
  writeJournal(text: string | Uint8Array): void {
    writeFileSync(join(dirname(journalOf(this.conf.stateDir)), 'pool.journal'), text)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop()
      await this.site[Symbol.asyncDispose]()
    } finally {
      this.site.client[Symbol.dispose]()
      rmSync(this.root, { recursive: true, force: true })
    }
  }
}

export const cardOf = (port: Port): HostCard => ({
  interface: 'eth0',
  mac: port.mac_address,
  addresses: port.fixed_ips.map(({ ip_address: ip }) => ip),
})

export const ipsOf = (result: Result): readonly IpText[] =>
  result.ips.map(({ address }) => formatIp(parseIpNet(address).ip))
