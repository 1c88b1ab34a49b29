/**
 * A server of the fake cloud: a "host" whose cards are veths that are plugged in when Nova attaches them, and unplugged when it takes them off. All of
 * them lead to one bridge, on which the gateway answers.
 */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JsonObject } from '#cni/json.ts'
import { parseMac } from '#ip/mac.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { createLinkMessage, deleteLink, findLink, listLinks } from '#netlink/link.ts'
import type { FakeOptions } from '#openstack/fake/context.ts'
import { newMac, type FakePort, type FakeServer } from '#openstack/fake/model.ts'
import { FakeCloud } from '#openstack/fake/server.ts'
import { closeClouds } from '#plugins/host-device-plus/cloud.ts'
import { bookFolder } from '#plugins/host-device-plus/book.ts'
import { nativeSys } from '#sys/addon.ts'
import { openNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'
import { execIn, NetworkHost } from './network-host.ts'

const LOOK_MS = 5

export interface NovaHostOptions extends FakeOptions {
  /** Milliseconds between a port's binding and its card. */
  readonly plugMs?: number
}

export class NovaHost extends NetworkHost implements AsyncDisposable {
  readonly fabric: string
  readonly fake: FakeCloud
  readonly server: FakeServer
  readonly project: string
  readonly networkId: string
  readonly subnetId: string
  /** What a hypervisor does wrong: the card never comes. */
  isStuck = false
  /** Most cards that the server ever had at once. */
  most = 0
  readonly #netlink: NetlinkSocket
  readonly #vm: number
  readonly #options: NovaHostOptions
  /** By port, the name of its end on the bridge. */
  readonly #plugged = new Map<string, string>()
  readonly #due = new Map<string, number>()
  readonly #timer: NodeJS.Timeout
  #count = 3
  #working = false

  private constructor(fake: FakeCloud, options: NovaHostOptions) {
    super()
    this.fake = fake
    this.#options = options
    this.fabric = this.pod()
    execIn(this.fabric, 'ip', 'link', 'add', 'br0', 'type', 'bridge')
    for (const address of ['10.9.0.1/24', 'fd00:9::1/64'])
      execIn(this.fabric, 'ip', 'address', 'add', address, 'dev', 'br0', ...(address.includes(':') ? ['nodad'] : []))
    execIn(this.fabric, 'ip', 'link', 'set', 'br0', 'up')
    this.#netlink = NetlinkSocket.open({ netns: this.fabric })
    this.#vm = openNetns(this.path)
    this.project = fake.addUser('demo', 'secret', 'demo').project
    const base = (name: string) => fake.cloud.base(this.project, name, '', Date.now())
    const network = { ...base('pods'), mtu: 1442, shared: false, external: false }
    this.networkId = network.id
    fake.cloud.networks.set(network.id, network)
    const subnet = (cidr: string, family: 4 | 6, gateway: string, start: string, end: string) => {
      const made = { ...base(cidr), network: network.id, cidr, family, gateway, pools: [{ start, end }], dhcp: false }
      fake.cloud.subnets.set(made.id, made)
      return made.id
    }
    this.subnetId = subnet('10.9.0.0/24', 4, '10.9.0.1', '10.9.0.10', '10.9.0.200')
    subnet('fd00:9::/64', 6, 'fd00:9::1', 'fd00:9::10', 'fd00:9::ff')
    this.server = fake.addServer(this.project, 'node-1')
    this.#plugIn(this.#ownPort())
    this.exec('ip', 'address', 'add', '10.9.0.5/24', 'dev', 'ens3')
    this.exec('ip', 'link', 'set', 'ens3', 'up')
    this.exec('ip', 'route', 'add', 'default', 'via', '10.9.0.1')
    const cloud = { auth_url: fake.authUrl, username: 'demo', password: 'secret', project_name: 'demo' }
    writeFileSync(this.cloudsFile, JSON.stringify({ clouds: { test: { auth: cloud } } }))
    this.#timer = setInterval(() => void this.#follow(), LOOK_MS)
  }

  static async start(options: NovaHostOptions = {}): Promise<NovaHost> {
    const fake = await FakeCloud.start(options)
    try {
      return new NovaHost(fake, options)
    } catch (error) {
      await fake[Symbol.asyncDispose]()
      throw error
    }
  }

  get cloudsFile(): string {
    return join(this.root, 'clouds.yaml')
  }

  /** The configuration; without a pool, unless it says so. */
  conf(nova: JsonObject = {}, more: JsonObject = {}): JsonObject {
    const { cloudsFile } = this
    return {
      name: 'net1',
      type: 'host-device-plus',
      cloudsFile,
      cloud: 'test',
      nova: { attachTimeoutMs: 20_000 * slowness, poolSize: 0, ...nova },
      ...more,
    }
  }

  /** Ports of the server besides the node's own. */
  cards(): readonly FakePort[] {
    return [...this.fake.cloud.ports.values()].filter(({ name }) => name !== 'node')
  }

  /** Requests since the last time, tokens aside. */
  requests(): string[] {
    return this.fake.requests
      .splice(0)
      .filter(({ path }) => !path.startsWith('/v3'))
      .map(({ method, path }) => `${method} ${path.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID')}`)
  }

  /** Links of the host, by name. */
  links(): string[] {
    return listLinks(this.netlink)
      .map(({ name }) => name)
      .sort()
  }

  /** Nothing is there but the node's own: in Neutron, on the server, on the bridge, on the disk. */
  async assertNothing(how: string): Promise<void> {
    const deadline = Date.now() + 10_000 * slowness
    const left = (): unknown => ({
      ports: this.cards().map(({ name, device }) => `${name} ${device}`),
      links: this.links(),
      bridge: listLinks(this.#netlink, { kind: 'veth' }).length,
      files: existsSync(bookFolder(this.root))
        ? readdirSync(bookFolder(this.root)).filter((name) => name !== 'networks' && name !== 'book.lock')
        : [],
    })
    const wanted = { ports: [], links: ['ens3', 'lo'], bridge: 1, files: [] }
    // The hypervisor, and namespaces that end, take a moment.
    while (JSON.stringify(left()) !== JSON.stringify(wanted) && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 20))
    assert.deepEqual(left(), wanted, how)
  }

  #ownPort(): FakePort {
    const { cloud } = this.fake
    const port: FakePort = {
      ...cloud.base(this.project, 'node', '', Date.now()),
      network: this.networkId,
      mac: newMac(),
      fixed: [],
      pairs: [],
      security: true,
      groups: [],
      up: true,
      device: this.server.id,
      owner: 'compute:nova',
      host: this.server.host,
      byNova: false,
    }
    cloud.ports.set(port.id, port)
    return port
  }

  #plugIn(port: FakePort): void {
    const tap = `tap${port.id.slice(0, 8)}`
    const peer = { name: `ens${this.#count}`, netnsFd: this.#vm, mac: parseMac(port.mac) }
    this.#count += 1
    const master = findLink(this.#netlink, 'br0')?.index
    this.#netlink.request(createLinkMessage({ name: tap, master, up: true, info: { kind: 'veth', data: { peer } } }))
    this.#plugged.set(port.id, tap)
  }

  /** What libvirt would do. */
  async #follow(): Promise<void> {
    if (this.#working) return
    this.#working = true
    try {
      const ports = this.fake.cloud.portsOf(this.server.id)
      this.most = Math.max(this.most, ports.length)
      for (const port of ports) {
        if (this.isStuck || this.#plugged.has(port.id)) continue
        const due = this.#due.get(port.id) ?? Date.now() + (this.#options.plugMs ?? 0)
        this.#due.set(port.id, due)
        if (due <= Date.now()) this.#plugIn(port)
      }
      for (const [id, tap] of this.#plugged) {
        if (ports.some((port) => port.id === id)) continue
        this.#plugged.delete(id)
        this.#due.delete(id)
        // It may have gone with the pod's namespace.
        await deleteLink(this.#netlink, tap).catch(() => {})
      }
    } finally {
      this.#working = false
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    while (this.#working) await new Promise((resolve) => setTimeout(resolve, 5))
    closeClouds()
    await this.fake[Symbol.asyncDispose]()
    this.#netlink[Symbol.dispose]()
    nativeSys().close(this.#vm)
    this[Symbol.dispose]()
  }
}
