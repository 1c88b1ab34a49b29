/** The way of packets with neutron-veth, in a network whose ports refuse every source that is not theirs. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonObject } from '#cni/json.ts'
import type { Result } from '#cni/result.ts'
import { neutronVeth } from '#plugins/neutron-veth/plugin.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { CloudLan, dropsStrangers, OUTSIDE, reaches, type Vm } from './cloud-lan.ts'
import { inputOf } from './input.ts'
import { connects, execIn, ping, serve } from './network-host.ts'

const options = { skip: needsRoot, timeout: 120_000 * slowness }

const confOf = (ips: readonly string[], extra: JsonObject = {}): JsonObject => ({
  name: 'neutron',
  type: 'neutron-veth',
  ipam: { type: 'static', addresses: ips.map((ip) => ({ address: `${ip}/${ip.includes(':') ? 64 : 24}` })) },
  ...extra,
})

interface Made {
  readonly netns: string
  readonly result: Result
  readonly del: () => Promise<void>
}

/** A pod whose addresses Neutron has put on the machine's port. */
async function podOn(lan: CloudLan, vm: Vm, ips: readonly string[], extra: JsonObject = {}): Promise<Made> {
  const netns = vm.pod()
  for (const ip of ips) lan.allow(vm, ip)
  const call = { containerId: `pod-${ips[0]}`.replaceAll(':', '-'), netns }
  const result = await neutronVeth.add(inputOf(confOf(ips, extra), call), vm.host)
  return {
    netns,
    result,
    del: () => neutronVeth.del(inputOf(confOf(ips, extra), { ...call, prevResult: result }), vm.host),
  }
}

test('every way to and from a pod, with nothing but the port’s addresses and proxy neighbours', options, async () => {
  using lan = new CloudLan()
  const [node1, node2, neighbour, elsewhere] = [lan.vm('a'), lan.vm('a'), lan.vm('a'), lan.vm('b')]
  const [ip1, ip2, ip3] = ['10.30.0.101', '10.30.0.102', '10.30.0.103']
  const a = await podOn(lan, node1, [ip1])
  const b = await podOn(lan, node1, [ip2])
  const c = await podOn(lan, node2, [ip3])
  const ways: readonly (readonly [string, string, string])[] = [
    ['pod to a pod of the same node', a.netns, ip2],
    ['pod to a pod of another node in the same network', a.netns, ip3],
    ['and back', c.netns, ip1],
    ['pod to a machine of its network', a.netns, neighbour.v4],
    ['pod to a machine of another network', a.netns, elsewhere.v4],
    ['pod to the outside', a.netns, OUTSIDE],
    ['pod to its node', a.netns, node1.v4],
    ['pod to another node', a.netns, node2.v4],
    ['node to its pod', node1.path, ip1],
    ['node to a pod of another node', node1.path, ip3],
    ['machine to pod', neighbour.path, ip1],
    ['machine of another network to pod', elsewhere.path, ip1],
    ['outside to pod', lan.outside, ip1],
  ]
  for (const [what, from, to] of ways) assert.ok(await reaches(from, to), what)
  assert.ok(await dropsStrangers(node1, a.netns, a.result.interfaces[0]?.name ?? '', neighbour.v4))
  await b.del()
  assert.equal(await ping(a.netns, ip2), false, 'a pod that is gone')
})

test('without proxy neighbours nobody outside the node finds the pod', options, async () => {
  using lan = new CloudLan()
  const [node1, node2, neighbour] = [lan.vm('a'), lan.vm('a'), lan.vm('a')]
  const bare = { proxyNeighbours: false, announce: false }
  const a = await podOn(lan, node1, ['10.30.0.101'], bare)
  const b = await podOn(lan, node1, ['10.30.0.102'], bare)
  await podOn(lan, node2, ['10.30.0.103'], bare)
  assert.ok(await reaches(a.netns, '10.30.0.102'), 'on the node itself')
  for (const to of ['10.30.0.103', neighbour.v4, OUTSIDE]) assert.equal(await ping(a.netns, to), false, to)
  assert.equal(await ping(neighbour.path, '10.30.0.101'), false)
  await b.del()
})

test('IPv6: every way', options, async () => {
  using lan = new CloudLan()
  const [node1, node2, neighbour, elsewhere] = [lan.vm('a'), lan.vm('a'), lan.vm('a'), lan.vm('b')]
  const [ip1, ip2, ip3] = ['fd30:0:0:a::101', 'fd30:0:0:a::102', 'fd30:0:0:a::103']
  const a = await podOn(lan, node1, ['10.30.0.101', ip1])
  await podOn(lan, node1, [ip2])
  const c = await podOn(lan, node2, [ip3])
  for (const [what, from, to] of [
    ['pod to a pod of the same node', a.netns, ip2],
    ['pod to a pod of another node', a.netns, ip3],
    ['and back', c.netns, ip1],
    ['pod to a machine of its network', a.netns, neighbour.v6],
    ['pod to a machine of another network', a.netns, elsewhere.v6],
    ['pod to its node', a.netns, node1.v6],
    ['node to its pod', node1.path, ip1],
    ['machine to pod', neighbour.path, ip1],
    ['machine of another network to pod', elsewhere.path, ip1],
    ['the other family of the same pod', neighbour.path, '10.30.0.101'],
  ] as const)
    assert.ok(await reaches(from, to), what)
  assert.match(execIn(a.netns, 'ip', '-6', 'route'), /default via fe80::1 dev eth0/)
  assert.doesNotMatch(execIn(a.netns, 'ip', 'address'), /tentative|dadfailed/)
})

test('services: the host rewrites them and the answers come back through it', options, async () => {
  using lan = new CloudLan()
  const [node1, node2] = [lan.vm('a'), lan.vm('a')]
  const [near, far] = ['10.30.0.102', '10.30.0.103']
  const a = await podOn(lan, node1, ['10.30.0.101'])
  const b = await podOn(lan, node1, [near])
  const c = await podOn(lan, node2, [far])
  for (const { netns } of [b, c]) await serve(netns, 8080, 'PEER')
  node1.exec(
    'nft',
    `table ip proxy {
    chain prerouting {
      type nat hook prerouting priority dstnat;
      ip daddr 10.96.0.2 dnat to ${near}
      ip daddr 10.96.0.3 dnat to ${far}
    }
  }`,
  )
  assert.equal(await connects(a.netns, '10.96.0.2', 8080), '10.30.0.101', 'a backend of the same node sees the pod')
  assert.equal(await connects(a.netns, '10.96.0.3', 8080), '10.30.0.101', 'a backend elsewhere sees the pod')
})

test('with strict reverse path filters on pod and node', options, async () => {
  using lan = new CloudLan()
  const [node1, neighbour, elsewhere] = [lan.vm('a'), lan.vm('a'), lan.vm('b')]
  node1.exec('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.ens3.rp_filter=1')
  const a = await podOn(lan, node1, ['10.30.0.101'])
  execIn(a.netns, 'sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.eth0.rp_filter=1')
  for (const from of [neighbour.path, elsewhere.path, node1.path, lan.outside])
    assert.ok(await reaches(from, '10.30.0.101'), from)
  assert.ok(await reaches(a.netns, OUTSIDE))
  assert.equal(node1.exec('sysctl', '-n', 'net.ipv4.conf.ens3.rp_filter').trim(), '2')
  assert.equal(node1.exec('sysctl', '-n', 'net.ipv4.neigh.ens3.proxy_delay').trim(), '0')
})

test('packets as large as the network takes, and no larger', options, async () => {
  using lan = new CloudLan()
  const [node1, neighbour] = [lan.vm('a'), lan.vm('a')]
  const a = await podOn(lan, node1, ['10.30.0.101'], { mtu: 1442 })
  const link = JSON.parse(execIn(a.netns, 'ip', '-j', 'link', 'show', 'eth0')) as { mtu: number }[]
  assert.equal(link[0]?.mtu, 1442)
  assert.ok(await reaches(a.netns, neighbour.v4, '-M', 'do', '-s', String(1442 - 28)))
  assert.equal(await ping(a.netns, '-M', 'do', '-s', String(1442 - 27), neighbour.v4), false)
  // Without a word the card's.
  const b = await podOn(lan, node1, ['10.30.0.102'])
  assert.equal(b.result.interfaces[1]?.mtu, 1500)
})

/** The MAC address that a machine knows for an address. */
const knownAt = (netns: string, ip: string): string | undefined =>
  (JSON.parse(execIn(netns, 'ip', '-j', 'neigh', 'show', ip)) as { lladdr?: string }[])[0]?.lladdr

async function until(isSo: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 10_000 * slowness; !isSo(); await sleep(20))
    assert.ok(Date.now() < deadline, `not within ${10 * slowness} s: ${what}`)
}

test('an address that moves to another node is announced, again where the port opens late', options, async () => {
  using lan = new CloudLan()
  const [node1, node2, neighbour] = [lan.vm('a'), lan.vm('a'), lan.vm('a')]
  const [ip, ip6] = ['10.30.0.101', 'fd30:0:0:a::101']
  const first = await podOn(lan, node1, [ip, ip6])
  for (const to of [ip, ip6]) assert.ok(await reaches(neighbour.path, to))
  assert.deepEqual([knownAt(neighbour.path, ip), knownAt(neighbour.path, ip6)], [node1.mac, node1.mac])
  await first.del()
  // Not by IPv6: an entry that was tried and failed takes no advertisement, and asks anew instead.
  assert.equal(await ping(neighbour.path, ip), false, 'between two nodes')

  // Nobody asks meanwhile: what the neighbour learns it learns from the announcement alone.
  const quiet = await podOn(lan, node2, [ip, ip6], { announce: false })
  await sleep(300)
  assert.notEqual(knownAt(neighbour.path, ip), node2.mac)
  await quiet.del()

  const second = await podOn(lan, node2, [ip, ip6])
  await until(
    () => knownAt(neighbour.path, ip) === node2.mac && knownAt(neighbour.path, ip6) === node2.mac,
    'announced',
  )
  for (const to of [ip, ip6]) assert.ok(await reaches(neighbour.path, to), to)
  await second.del()

  // The port lets the address through only after the first announcement; again where the machine is too slow to open it before the last.
  const isTold = (): boolean => knownAt(neighbour.path, ip) === node1.mac
  const late = { containerId: 'late', netns: node1.pod() }
  for (let tries = 1; tries <= 3 && !isTold(); tries++) {
    lan.forbid(node1, ip)
    await neutronVeth.del(inputOf(confOf([ip]), late), node1.host)
    await neutronVeth.add(inputOf(confOf([ip]), late), node1.host)
    await sleep(100)
    assert.equal(isTold(), false, 'before the port is open')
    lan.allow(node1, ip)
    for (const end = Date.now() + 5_000; !isTold() && Date.now() < end;) await sleep(20)
  }
  assert.ok(isTold(), 'announced again')
  assert.ok(await reaches(neighbour.path, ip))
})
