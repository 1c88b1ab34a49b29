/** The verbs of neutron-veth: what it makes, finds wrong, and takes away. */

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { emptyResult } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { ipNetText } from '#ip/prefix.ts'
import { neutronVeth } from '#plugins/neutron-veth/plugin.ts'
import { listRecords } from '#plugins/link/record.ts'
import { ProxyRestorer } from '#plugins/neutron-veth/restore.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { until } from '../dhcp/servers.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { codeOf, execIn } from './network-host.ts'
import { left, LanHost } from './pod-link-suite.ts'

const options = { skip: needsRoot, timeout: 120_000 * slowness }

const conf: JsonObject = {
  name: 'neutron',
  type: 'neutron-veth',
  master: 'up0',
  ipam: {
    type: 'host-local',
    ranges: [
      [{ subnet: '10.88.0.0/24', rangeStart: '10.88.0.10' }],
      [{ subnet: 'fd00:88::/64', rangeStart: 'fd00:88::10' }],
    ],
    routes: [{ dst: '192.0.2.0/24', gw: '10.88.0.1' }],
  },
}

/** A node with a card, `up0`, that has an address. */
function node(): LanHost {
  const made = new LanHost()
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  made.exec('ip', 'address', 'add', 'fd00:88::2/64', 'dev', 'up0', 'nodad')
  // It stays on when the last pod goes, and shows in the routes.
  made.exec('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
  return made
}

const proxies = (made: LanHost): string =>
  made
    .exec('ip', 'neigh', 'show', 'proxy')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .toSorted()
    .join('; ')

test('ADD, CHECK, DEL, DEL again, DEL without anything; nothing stays', options, async () => {
  using made = node()
  const netns = made.pod()
  const baseline = made.dump()
  const inPod = execIn(netns, 'ip', '-o', 'link')
  const call = { containerId: 'a', netns }
  const result = await neutronVeth.add(inputOf(conf, call), made.host)
  const [outside, inside] = result.interfaces
  assert.deepEqual([inside?.name, inside?.sandbox, outside?.sandbox], ['eth0', netns, undefined])
  assert.deepEqual(result.ips, [
    { address: '10.88.0.10/32', gateway: '169.254.1.1', interface: 1 },
    { address: 'fd00:88::10/128', gateway: 'fe80::1', interface: 1 },
  ])
  assert.deepEqual(result.routes, [
    { dst: '192.0.2.0/24', gw: '169.254.1.1' },
    { dst: '0.0.0.0/0', gw: '169.254.1.1' },
    { dst: '::/0', gw: 'fe80::1' },
  ])
  assert.deepEqual(
    execIn(netns, 'ip', 'route')
      .trim()
      .split('\n')
      .map((line) => line.trim()),
    ['default via 169.254.1.1 dev eth0', '169.254.1.1 dev eth0 scope link', '192.0.2.0/24 via 169.254.1.1 dev eth0'],
  )
  assert.match(execIn(netns, 'ip', 'neigh'), new RegExp(`169\\.254\\.1\\.1 dev eth0 lladdr ${outside?.mac} PERMANENT`))
  assert.match(
    made.exec('ip', 'route'),
    new RegExp(`10\\.88\\.0\\.10 dev ${outside?.name} scope link src 10\\.88\\.0\\.2`),
  )
  assert.match(
    made.exec('ip', 'neigh'),
    new RegExp(`10\\.88\\.0\\.10 dev ${outside?.name} lladdr ${inside?.mac} PERMANENT`),
  )
  assert.equal(proxies(made), '10.88.0.10 dev up0 proxy proto 200; fd00:88::10 dev up0 proxy proto 200')
  await neutronVeth.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  await neutronVeth.status(inputOf(conf), made.host)
  assert.equal(await codeOf(neutronVeth.add(inputOf(conf, call), made.host)), 4)
  await neutronVeth.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  for (const gone of [{ ...call, prevResult: result }, call, { containerId: 'a' }, { containerId: 'never' }])
    await neutronVeth.del(inputOf(conf, gone), made.host)
  assert.equal(execIn(netns, 'ip', '-o', 'link'), inPod)
  assert.deepEqual(left(baseline, made), [])
})

test(
  'every link has an address of its own choice, which udev leaves alone; the same pod has the same again',
  options,
  async () => {
    using made = node()
    const call = { containerId: 'a', netns: made.pod() }
    const macs = async (): Promise<(string | undefined)[]> => {
      const { interfaces } = await neutronVeth.add(inputOf(conf, call), made.host)
      const name = interfaces[0]?.name ?? ''
      // NET_ADDR_SET of linux/netdevice.h; sysfs shows only the namespace that mounted it.
      const shown = made.exec(
        'unshare',
        '--mount',
        'sh',
        '-c',
        `mount -t sysfs sysfs /sys && cat /sys/class/net/${name}/addr_assign_type`,
      )
      assert.equal(shown.trim(), '3')
      await neutronVeth.del(inputOf(conf, call), made.host)
      return interfaces.map(({ mac }) => mac)
    }
    const first = await macs()
    assert.equal(new Set(first).size, 2)
    assert.deepEqual(await macs(), first)
  },
)

test('CHECK finds what is wrong', options, async () => {
  using made = node()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const prevResult = await neutronVeth.add(inputOf(conf, call), made.host)
  const name = prevResult.interfaces[0]?.name ?? ''
  const mac = prevResult.interfaces[1]?.mac ?? ''
  const check = () => neutronVeth.check(inputOf(conf, { ...call, prevResult }), made.host)
  await check()
  const faults: readonly (readonly [RegExp, string[], string[], string?])[] = [
    [
      /route to 0\.0\.0\.0\/0/,
      ['ip', 'route', 'del', 'default'],
      ['ip', 'route', 'add', 'default', 'via', '169.254.1.1'],
      netns,
    ],
    [
      /neighbour 169\.254\.1\.1/,
      ['ip', 'neigh', 'del', '169.254.1.1', 'dev', 'eth0'],
      ['ip', 'neigh', 'replace', '169.254.1.1', 'dev', 'eth0', 'lladdr', prevResult.interfaces[0]?.mac ?? ''],
      netns,
    ],
    [
      /neighbour fe80::1/,
      ['ip', 'neigh', 'replace', 'fe80::1', 'dev', 'eth0', 'lladdr', '02:00:00:00:00:01'],
      ['ip', 'neigh', 'replace', 'fe80::1', 'dev', 'eth0', 'lladdr', prevResult.interfaces[0]?.mac ?? ''],
      netns,
    ],
    [
      /host's route to 10\.88\.0\.10/,
      ['ip', 'route', 'del', '10.88.0.10'],
      ['ip', 'route', 'add', '10.88.0.10', 'dev', name],
    ],
    [
      /host's neighbour fd00:88::10/,
      ['ip', 'neigh', 'del', 'fd00:88::10', 'dev', name],
      ['ip', 'neigh', 'replace', 'fd00:88::10', 'dev', name, 'lladdr', mac],
    ],
    [
      /answer for 10\.88\.0\.10/,
      ['ip', 'neigh', 'del', 'proxy', '10.88.0.10', 'dev', 'up0'],
      ['ip', 'neigh', 'add', 'proxy', '10.88.0.10', 'dev', 'up0'],
    ],
    [
      /proxy_ndp is 0/,
      ['sysctl', '-qw', 'net.ipv6.conf.up0.proxy_ndp=0'],
      ['sysctl', '-qw', 'net.ipv6.conf.up0.proxy_ndp=1'],
    ],
    [/does not forward IPv4/, ['sysctl', '-qw', 'net.ipv4.ip_forward=0'], ['sysctl', '-qw', 'net.ipv4.ip_forward=1']],
    [/is down/, ['ip', 'link', 'set', name, 'down'], ['true']],
  ]
  for (const [message, breaks, mends, where] of faults) {
    execIn(where ?? made.path, ...breaks)
    await assert.rejects(check(), { code: 100, message })
    execIn(where ?? made.path, ...mends)
    if (mends[0] !== 'true') await check()
  }
  await neutronVeth.del(inputOf(conf, call), made.host)
  assert.equal(await codeOf(check()), 100)
  assert.equal(await codeOf(neutronVeth.check(inputOf(conf, call), made.host)), 7)
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC clean up after a kill',
  { ...options, timeout: 300_000 * slowness },
  async () => {
    using made = node()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const baseline = made.dump()
    const inPod = execIn(netns, 'ip', '-o', 'link')
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    await neutronVeth.add(inputOf(conf, call), made.host)
    const ofAdd = points.splice(0)
    await neutronVeth.del(inputOf(conf, call), made.host)
    const ofDel = points.splice(0)
    assert.ok(ofAdd.length >= 7 && ofDel.length >= 3, `${ofAdd.join()} | ${ofDel.join()}`)
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(neutronVeth.add(inputOf(conf, call), made.host), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.equal(execIn(netns, 'ip', '-o', 'link'), inPod, point)
      assert.deepEqual(left(baseline, made), [], point)
    }
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    const kills = [
      ...ofAdd.filter((name) => name.startsWith('neutron-veth.')).map((point) => ['ADD', point] as const),
      ...ofDel.filter((name) => name.startsWith('neutron-veth.')).map((point) => ['DEL', point] as const),
    ]
    // Starting a process takes half a minute where every instruction is emulated.
    const some = slowness > 1 ? kills.filter(([, point]) => point === 'neutron-veth.shared') : kills
    for (const [i, [verb, point]] of some.entries()) {
      const how = ways[i % ways.length] ?? 'GC'
      if (verb === 'DEL') await neutronVeth.add(inputOf(conf, call), made.host)
      await killedAt(made, { verb, conf, call, point })
      if (how === 'GC') await neutronVeth.gc(gcInputOf(conf, []), made.host)
      else await neutronVeth.del(inputOf(conf, how === 'DEL' ? call : { containerId: 'a' }), made.host)
      const what = `${verb} killed at ${point}, then ${how}`
      assert.equal(execIn(netns, 'ip', '-o', 'link'), inPod, what)
      assert.deepEqual(left(baseline, made), [], what)
    }
  },
)

test('a pod whose namespace went first leaves nothing; GC keeps the valid ones', options, async () => {
  using made = node()
  const baseline = made.dump()
  const [kept, lost] = [made.pod(), made.pod()]
  const keeper = { containerId: 'kept', netns: kept }
  const prevResult = await neutronVeth.add(inputOf(conf, keeper), made.host)
  await neutronVeth.add(inputOf(conf, { containerId: 'lost', netns: lost }), made.host)
  deleteNetns(lost)
  assert.match(proxies(made), /10\.88\.0\.11/)
  await neutronVeth.gc(gcInputOf(conf, [{ containerId: 'kept', ifname: 'eth0' }]), made.host)
  assert.doesNotMatch(proxies(made), /10\.88\.0\.11/)
  await neutronVeth.check(inputOf(conf, { ...keeper, prevResult }), made.host)
  createNetns(lost)
  await neutronVeth.add(inputOf(conf, { containerId: 'lost', netns: lost }), made.host)
  deleteNetns(lost)
  await neutronVeth.del(inputOf(conf, { containerId: 'lost' }), made.host)
  await neutronVeth.check(inputOf(conf, { ...keeper, prevResult }), made.host)
  await neutronVeth.del(inputOf(conf, keeper), made.host)
  createNetns(lost)
  assert.deepEqual(left(baseline, made), [])
})

test('the late DEL of one pod leaves alone what another with the same address has', options, async () => {
  using made = node()
  const fixed: JsonObject = { ...conf, ipam: { type: 'static', addresses: [{ address: '10.88.0.50/32' }] } }
  const [first, second] = [made.pod(), made.pod()]
  await neutronVeth.add(inputOf(fixed, { containerId: 'first', netns: first }), made.host)
  deleteNetns(first)
  const call = { containerId: 'second', netns: second }
  const prevResult = await neutronVeth.add(inputOf(fixed, call), made.host)
  await neutronVeth.del(inputOf(fixed, { containerId: 'first' }), made.host)
  await neutronVeth.check(inputOf(fixed, { ...call, prevResult }), made.host)
  await neutronVeth.del(inputOf(fixed, call), made.host)
  assert.equal(proxies(made), '')
  createNetns(first)
})

test('many at once; and where nothing can be written down nothing is made', options, async () => {
  using made = node()
  const baseline = made.dump()
  const calls = Array.from({ length: 8 }, (_, i) => ({ containerId: `c${i}`, netns: made.pod() }))
  const results = await Promise.all(calls.map((call) => neutronVeth.add(inputOf(conf, call), made.host)))
  assert.equal(new Set(results.flatMap(({ ips }) => ips.map(({ address }) => address))).size, 16)
  for (const [i, call] of calls.entries()) {
    const prevResult = results[i]
    assert.ok(prevResult)
    await neutronVeth.check(inputOf(conf, { ...call, prevResult }), made.host)
  }
  // Half of them by GC, at the same time as the others by DEL.
  const dels = calls.slice(0, 4).map((call) => neutronVeth.del(inputOf(conf, call), made.host))
  const valid = calls.slice(0, 4).map(({ containerId }) => ({ containerId, ifname: 'eth0' }))
  await Promise.all([...dels, neutronVeth.gc(gcInputOf(conf, valid), made.host)])
  assert.deepEqual(left(baseline, made), [])

  rmSync(join(made.root, 'run'), { recursive: true, force: true })
  writeFileSync(join(made.root, 'run'), '')
  const fixed: JsonObject = { ...conf, ipam: { type: 'static', addresses: [{ address: '10.88.0.50/32' }] } }
  const call = { containerId: 'a', netns: calls[0]?.netns ?? '' }
  assert.equal(await codeOf(neutronVeth.add(inputOf(fixed, call), made.host)), 5)
  rmSync(join(made.root, 'run'))
  assert.deepEqual(left(baseline, made), [])
  assert.equal(execIn(call.netns, 'ip', '-o', 'link').trim().split('\n').length, 1)
})

test(
  'the card: named, by the default route, by what neutron-ipam knows; its MTU and the network’s',
  options,
  async () => {
    using made = node()
    const call = { containerId: 'a', netns: made.pod() }
    const { master: _, ...bare } = conf
    const add = async (raw: JsonObject): Promise<number | undefined> => {
      const { interfaces } = await neutronVeth.add(inputOf(raw, call), made.host)
      assert.match(proxies(made), /dev up0/)
      await neutronVeth.del(inputOf(raw, call), made.host)
      return interfaces[1]?.mtu
    }
    assert.equal(await codeOf(neutronVeth.add(inputOf(bare, call), made.host)), 7)
    assert.equal(await codeOf(neutronVeth.add(inputOf({ ...conf, master: 'nowhere' }, call), made.host)), 7)
    assert.equal(await codeOf(neutronVeth.add(inputOf({ ...conf, mtu: 9000 }, call), made.host)), 7)
    assert.equal(await codeOf(neutronVeth.status(inputOf({ ...conf, master: 'nowhere' }), made.host)), 50)
    for (const bad of [
      { linkLocal: 'fe80::1' },
      { linkLocal6: '169.254.1.1' },
      { dummy: 'a/b' },
      { mtu: -1 },
      { ipam: {} },
    ])
      assert.equal(await codeOf(neutronVeth.add(inputOf({ ...conf, ...bad }, call), made.host)), 7, JSON.stringify(bad))
    made.exec('ip', 'route', 'add', 'default', 'via', '10.88.0.1')
    assert.equal(await add(bare), 1500)
    assert.equal(await add({ ...conf, mtu: 1400 }), 1400)
  },
)

test('what neutron-ipam wrote down: the card, the node’s address, the network’s MTU', options, async () => {
  using made = node()
  made.exec('ip', 'address', 'add', '10.88.0.3/24', 'dev', 'up0')
  const netns = made.pod()
  const address = ipNetText('10.88.0.60/24')
  const delegate = (verb: string): Promise<never> =>
    Promise.resolve((verb === 'ADD' ? { ...emptyResult, ips: [{ address }] } : undefined) as never)
  const host = { ...made.host, delegate }
  const { master: _, ...bare } = conf
  const raw: JsonObject = { ...bare, ipam: { type: 'neutron-ipam', stateDir: '/var/lib/facts' } }
  const facts = (mtu: number) => ({
    version: 1,
    node: {
      // One that the card has, and one that it has not.
      address: '10.88.0.77',
      addresses: ['10.88.0.77', '10.88.0.3'],
      mac: '02:00:00:00:00:01',
      interface: 'up0',
      port: 'port',
    },
    validity: 'fixed_ips',
    subnets: [{ id: 'subnet', network: 'network', cidr: '10.88.0.0/24', gateway: '10.88.0.1', mtu }],
  })
  mkdirSync(join(made.root, 'var/lib/facts'), { recursive: true })
  for (const [mtu, wanted] of [
    [1442, 1442],
    [0, 1500],
    // More than the card carries.
    [9000, 1500],
  ] as const) {
    writeFileSync(join(made.root, 'var/lib/facts/networks.json'), JSON.stringify(facts(mtu)))
    const result = await neutronVeth.add(inputOf(raw, { netns }), host)
    assert.deepEqual(
      result.interfaces.map((link) => link.mtu),
      [wanted, wanted],
    )
    assert.match(made.exec('ip', 'route', 'show', '10.88.0.60'), /src 10\.88\.0\.3/)
    assert.match(proxies(made), /10\.88\.0\.60 dev up0/)
    await neutronVeth.del(inputOf(raw, { netns }), host)
  }
  writeFileSync(join(made.root, 'var/lib/facts/networks.json'), '{')
  assert.equal(await codeOf(neutronVeth.add(inputOf(raw, { netns }), host)), 6)
})

test('a node that begins to forward IPv6 for pods goes on to listen to its routers', options, async () => {
  using made = new LanHost()
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  const ra = (): string => made.exec('sysctl', '-n', 'net.ipv6.conf.up0.accept_ra').trim()
  const v4: JsonObject = { ...conf, ipam: { type: 'static', addresses: [{ address: '10.88.0.50/32' }] } }
  const call = { containerId: 'a', netns: made.pod() }
  await neutronVeth.add(inputOf(v4, call), made.host)
  assert.equal(ra(), '1')
  await neutronVeth.del(inputOf(v4, call), made.host)
  await neutronVeth.add(inputOf(conf, call), made.host)
  assert.equal(ra(), '2')
  await neutronVeth.del(inputOf(conf, call), made.host)
})

test('the result in every version', options, async () => {
  using made = node()
  const ipam = { type: 'static', addresses: [{ address: '10.88.0.50/32' }] }
  for (const cniVersion of specVersions) {
    const call = { containerId: 'a', netns: made.pods[0] ?? made.pod() }
    const raw: JsonObject = { ...conf, cniVersion, ipam }
    const result = await neutronVeth.add(inputOf(raw, call), made.host)
    assert.match(JSON.stringify(encodeResult(result, cniVersion)), /10\.88\.0\.50\/32/)
    await neutronVeth.del(inputOf(raw, { ...call, prevResult: result }), made.host)
  }
  assert.deepEqual(listRecords(made.host, 'neutron-veth'), [])
})

test('what a card forgets when it goes down comes back; what a DEL removed does not', options, async () => {
  using made = node()
  const [a, b] = [made.pod(), made.pod()]
  const restorer = new ProxyRestorer(made.host)
  assert.deepEqual(await restorer.restore(), [], 'no pods')
  const call = { containerId: 'a', netns: a }
  const prevResult = await neutronVeth.add(inputOf(conf, call), made.host)
  await neutronVeth.add(inputOf(conf, { containerId: 'b', netns: b }), made.host)
  assert.deepEqual(await restorer.restore(), [], 'nothing is missing')
  made.exec('ip', 'link', 'set', 'up0', 'down')
  assert.deepEqual(await restorer.restore(), [], 'a card that is down answers for nobody')
  made.exec('ip', 'link', 'set', 'up0', 'up')
  assert.equal(proxies(made), '')
  // One pod's namespace goes without a DEL, another's address is removed by hand alone.
  deleteNetns(b)
  await until('the kernel has removed its link', () => !made.exec('ip', '-o', 'link').includes(':b:'))
  assert.deepEqual(new Set(await restorer.restore()), new Set(['10.88.0.10', 'fd00:88::10']))
  await neutronVeth.check(inputOf(conf, { ...call, prevResult }), made.host)
  made.exec('ip', 'neigh', 'del', 'proxy', '10.88.0.10', 'dev', 'up0')
  assert.deepEqual(await restorer.restore(), ['10.88.0.10'])
  for (const containerId of ['a', 'b']) await neutronVeth.del(inputOf(conf, { containerId }), made.host)
  assert.deepEqual(await restorer.restore(), [])
  assert.equal(proxies(made), '')
  createNetns(b)
})
