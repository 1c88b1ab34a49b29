/** What the kernel alone decides: a card that comes out of a namespace that ended, and an address of the hardware's that a pod cannot change. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { listLinks } from '#netlink/link.ts'
import { FakeCloud } from '#openstack/fake/server.ts'
import { Book, bookFolder } from '#plugins/host-device-plus/book.ts'
import { closeClouds } from '#plugins/host-device-plus/cloud.ts'
import { hostDevicePlusPlugin } from '#plugins/host-device-plus/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'
import { gcInputOf, inputOf } from './input.ts'
import { execIn, pluginHostAt } from './network-host.ts'
import { CARD, noCard } from './physical-card.ts'

/** The first namespace, where physical devices go back to. */
const FIRST = '/proc/1/ns/net'
const CHANGED = '02:00:00:00:00:0b'

const plugin = hostDevicePlusPlugin({ settleMs: 0 })
const ip = (...args: readonly string[]): string => execFileSync('ip', args, { encoding: 'utf8' })

const skip = noCard

/** A fake cloud whose next port is that of the card. */
class Machine implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), 'heddle-plus-physical-'))
  readonly host = pluginHostAt(FIRST, this.root, () => {})
  readonly fake: FakeCloud
  readonly serverId: string
  readonly networkId: string
  readonly pod = `/run/netns/plus-physical-${process.pid}`

  constructor(fake: FakeCloud) {
    this.fake = fake
    const { cloud } = fake
    const { project } = fake.addUser('demo', 'secret', 'demo')
    const base = () => cloud.base(project, '', '', Date.now())
    const network = { ...base(), mtu: 1442, shared: false, external: false }
    const pools = [{ start: '10.9.0.10', end: '10.9.0.20' }]
    const subnet = {
      ...base(),
      network: network.id,
      cidr: '10.9.0.0/24',
      family: 4,
      gateway: '10.9.0.1',
      pools,
      dhcp: false,
    } as const
    cloud.networks.set(network.id, network)
    cloud.subnets.set(subnet.id, subnet)
    const set = cloud.ports.set.bind(cloud.ports)
    cloud.ports.set = (id, port) => set(id, Object.assign(port, { mac: CARD }))
    this.serverId = fake.addServer(project, 'node-1').id
    this.networkId = network.id
    const auth = { auth_url: fake.authUrl, username: 'demo', password: 'secret', project_name: 'demo' }
    writeFileSync(join(this.root, 'clouds.yaml'), JSON.stringify({ clouds: { test: { auth } } }))
    createNetns(this.pod)
  }

  conf(onDelete: 'detach' | 'keep') {
    const { serverId, networkId } = this
    const nova = {
      serverId,
      networkId,
      onDelete,
      poolSize: onDelete === 'keep' ? 1 : 0,
      attachTimeoutMs: 20_000 * slowness,
    }
    return { name: 'net1', type: 'host-device-plus', cloudsFile: join(this.root, 'clouds.yaml'), cloud: 'test', nova }
  }

  /** The card's link on the host. */
  card() {
    return listLinks(this.host.netlink).find((link) => (link.permanentMac ?? link.mac) === CARD)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeClouds()
    await this.fake[Symbol.asyncDispose]()
    this.host.netlink[Symbol.dispose]()
    deleteNetns(this.pod)
    rmSync(this.root, { recursive: true })
  }
}

after(() => {
  if (skip !== false) return
  for (const link of JSON.parse(ip('-j', 'link')) as Record<string, unknown>[])
    if (link['permaddr'] === CARD || link['address'] === CARD) {
      ip('link', 'set', String(link['ifname']), 'down')
      ip('link', 'set', String(link['ifname']), 'address', CARD, 'alias', '')
    }
})

test(
  'the card is known by what its hardware says, whatever the pod made of it and however the pod ended',
  { skip },
  async () => {
    await using made = new Machine(await FakeCloud.start())
    const { host, pod } = made
    const before = made.card()?.name
    assert.equal(made.card()?.permanentMac, CARD)
    const book = new Book(made.root, host)
    for (const how of [
      'DEL',
      'DEL after its end',
      'GC after its end',
      'DEL without a namespace after its end',
    ] as const) {
      const call = { containerId: 'a', netns: pod }
      const conf = made.conf('keep')
      const result = await plugin.add(inputOf(conf, call), host)
      assert.equal(result.interfaces[0]?.mac, CARD, how)
      assert.equal(made.card(), undefined)
      await plugin.check(inputOf(conf, { ...call, prevResult: result }), host)
      execIn(pod, 'ip', 'link', 'set', 'eth0', 'down')
      execIn(pod, 'ip', 'link', 'set', 'eth0', 'address', CHANGED, 'mtu', '1300', 'alias', 'mine')
      if (how !== 'DEL') deleteNetns(pod)
      if (how.startsWith('GC')) await plugin.gc(gcInputOf(conf, []), host)
      else await plugin.del(inputOf(conf, how.includes('without') ? { containerId: 'a' } : call), host)
      const { name, mac, mtu, up } = made.card() ?? {}
      assert.deepEqual([name, mac, mtu, up], [before, CARD, 1500, false], how)
      // It is of the pool again: the next pod gets the same port without a request.
      assert.deepEqual(
        book.list().map(({ state, holder }) => [state, holder]),
        [['ready', undefined]],
        how,
      )
      if (how !== 'DEL') createNetns(pod)
    }
    const posts = made.fake.requests.filter(({ method, path }) => method === 'POST' && !path.includes('tokens'))
    assert.equal(posts.length, 2)
    const call = { containerId: 'b', netns: pod }
    await plugin.add(inputOf(made.conf('detach'), call), host)
    await plugin.del(inputOf(made.conf('detach'), call), host)
    assert.equal(made.fake.cloud.ports.size, 0)
    assert.deepEqual(readdirSync(bookFolder(made.root)).toSorted(), ['book.lock', 'networks'])
  },
)
