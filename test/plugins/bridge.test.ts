import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bridge } from '#plugins/bridge/plugin.ts'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { getLink } from '#netlink/link.ts'
import { deleteNetns } from '#sys/netns.ts'
import { difference, execIn, NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'

const conf = (extra: object = {}) => ({
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
  ...extra,
})

test('ADD, CHECK, DEL: two pods reach each other and the gateway, and nothing stays', async () => {
  using made = new NetworkHost()
  const [a, b] = [made.pod(), made.pod()]
  const first = await bridge.add(inputOf(conf(), { containerId: 'a', netns: a }), made.host)
  const baseline = made.dump()
  const second = await bridge.add(inputOf(conf(), { containerId: 'b', netns: b }), made.host)
  assert.deepEqual(
    second.interfaces.map(({ name, sandbox }) => [name.replace(/^veth.*/, 'veth'), sandbox]),
    [
      ['br0', undefined],
      ['veth', undefined],
      ['eth0', b],
    ],
  )
  assert.deepEqual(second.ips, [
    { address: '10.77.0.3/24', gateway: '10.77.0.1', interface: 2 },
    { address: 'fd00:77::3/64', gateway: 'fd00:77::1', interface: 2 },
  ])
  assert.deepEqual(second.routes, [
    { dst: '0.0.0.0/0', gw: '10.77.0.1' },
    { dst: '::/0', gw: 'fd00:77::1' },
  ])
  for (const to of ['10.77.0.2', '10.77.0.1', 'fd00:77::2', 'fd00:77::1']) assert.ok(await ping(b, to), to)
  await bridge.check(inputOf(conf(), { containerId: 'a', netns: a, prevResult: first }), made.host)
  await bridge.check(inputOf(conf(), { containerId: 'b', netns: b, prevResult: second }), made.host)
  await bridge.del(inputOf(conf(), { containerId: 'b', netns: b, prevResult: second }), made.host)
  await bridge.del(inputOf(conf(), { containerId: 'b' }), made.host)
  assert.deepEqual(difference(baseline, made.dump()), [])
  assert.ok(await ping(a, '10.77.0.1'))
})

test('CHECK finds what is really wrong', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const raw = conf({ macspoofchk: true, hairpinMode: true })
  const prevResult = await bridge.add(inputOf(raw, { netns }), made.host)
  const check = (): Promise<void> => bridge.check(inputOf(raw, { netns, prevResult }), made.host)
  const port = prevResult.interfaces[1]!.name
  const harms: [string, () => string, () => string, RegExp][] = [
    [
      'address',
      () => execIn(netns, 'ip', 'addr', 'del', '10.77.0.2/24', 'dev', 'eth0'),
      () => execIn(netns, 'ip', 'addr', 'add', '10.77.0.2/24', 'dev', 'eth0'),
      /lost its address 10\.77\.0\.2/,
    ],
    [
      'route',
      () => '',
      () => execIn(netns, 'ip', 'route', 'add', 'default', 'via', '10.77.0.1'),
      /route to 0\.0\.0\.0/,
    ],
    [
      'pod link',
      () => execIn(netns, 'ip', 'link', 'set', 'eth0', 'down'),
      () =>
        execIn(
          netns,
          'sh',
          '-c',
          'ip link set eth0 up; ip route add default via 10.77.0.1; ip -6 route add default via fd00:77::1',
        ),
      /eth0.*is down/,
    ],
    [
      'master',
      () => made.exec('ip', 'link', 'set', port, 'nomaster'),
      () => made.exec('ip', 'link', 'set', port, 'master', 'br0'),
      /no port of br0/,
    ],
    ['hairpin', () => '', () => made.exec('bridge', 'link', 'set', 'dev', port, 'hairpin', 'on'), /hairpin/],
    [
      'port down',
      () => made.exec('ip', 'link', 'set', port, 'down'),
      () => made.exec('ip', 'link', 'set', port, 'up'),
      /is down/,
    ],
    [
      'bridge down',
      () => made.exec('ip', 'link', 'set', 'br0', 'down'),
      // Going down cost it its IPv6 addresses.
      () =>
        made.exec('ip', 'link', 'set', 'br0', 'up') +
        made.exec('ip', 'address', 'replace', 'fd00:77::1/64', 'dev', 'br0', 'nodad'),
      /br0 is down/,
    ],
    [
      'gateway address',
      () => made.exec('ip', 'address', 'delete', '10.77.0.1/24', 'dev', 'br0'),
      () => made.exec('ip', 'address', 'add', '10.77.0.1/24', 'dev', 'br0'),
      /br0 does not have the gateway's address 10\.77\.0\.1\/24/,
    ],
    [
      'masquerade',
      () => made.exec('nft', 'delete', 'element', 'inet', 'heddle_cni_masq', 'pods4', '{ 10.77.0.2 }'),
      () => '',
      /10\.77\.0\.2 is not masqueraded/,
    ],
  ]
  await check()
  for (const [what, harm, mend, message] of harms) {
    harm()
    await assert.rejects(check(), { code: 100, message }, what)
    mend()
  }
})

test('DEL works with the namespace gone, without a result, and twice', async () => {
  using made = new NetworkHost()
  await bridge.del(inputOf(conf(), { containerId: 'never' }), made.host)
  const netns = made.pod()
  await bridge.add(inputOf(conf(), { netns }), made.host)
  deleteNetns(netns)
  await bridge.del(inputOf(conf(), { netns }), made.host)
  await bridge.del(inputOf(conf()), made.host)
  assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
  assert.doesNotMatch(made.exec('nft', 'list', 'ruleset'), /10\.77\.0\.2/)
  assert.ok(!existsSync(join(made.root, 'var/lib/cni/networks/net1/10.77.0.2')))
})

test('an existing interface is refused and left alone; so is a second ADD', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const first = await bridge.add(inputOf(conf(), { containerId: 'a', netns }), made.host)
  const before = made.dump()
  await assert.rejects(bridge.add(inputOf(conf(), { containerId: 'b', netns }), made.host), {
    code: 4,
    message: /eth0/,
  })
  await assert.rejects(bridge.add(inputOf(conf(), { containerId: 'a', netns: made.pod() }), made.host), {
    code: 11,
    message: /already/,
  })
  assert.deepEqual(difference(before, made.dump()), [])
  await bridge.check(inputOf(conf(), { containerId: 'a', netns, prevResult: first }), made.host)
})

test('a full pool, a bad namespace, a foreign device and a conflicting address are clear errors that leave nothing', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  await bridge.add(inputOf(conf(), { containerId: 'keep', netns: made.pod() }), made.host)
  const before = made.dump()
  const tiny = conf({
    name: 'net2',
    isDefaultGateway: false,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/30', rangeEnd: '10.99.0.1' }]] },
  })
  const add = (raw: object, at = netns) =>
    bridge.add(inputOf({ ...raw, name: 'net2', type: 'bridge' }, { netns: at }), made.host)
  await assert.rejects(add(tiny), { code: 11, message: /no IP addresses available/ })
  await assert.rejects(add(conf(), '/nonexistent'), { code: 8, message: /nonexistent/ })
  await assert.rejects(add(conf(), '/dev/null'), { code: 8 })
  await assert.rejects(add(conf({ bridge: 'lo' })), { code: 7, message: /"lo" is a/ })
  const other = conf({ ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24' }]] } })
  await assert.rejects(add(other), {
    code: 7,
    message: /already has an IP address different from 10\.99\.0\.1\/24: 10\.77\.0\.1\/24/,
  })
  const left = difference(before, made.dump()).filter((line) => !line.endsWith('lock'))
  assert.deepEqual(left, [])
  await add({ ...other, forceAddress: true })
  assert.match(made.exec('ip', 'address', 'show', 'br0'), /10\.99\.0\.1\/24/)
  assert.doesNotMatch(made.exec('ip', 'address', 'show', 'br0'), /10\.77\.0\.1\/24/)
})

test('L2 only, MAC, MTU, isolation, promiscuity, and an interface that stays down', async () => {
  using made = new NetworkHost()
  const [a, b] = [made.pod(), made.pod()]
  const raw = { name: 'l2', type: 'bridge', bridge: 'br1', mtu: 1300, portIsolation: true, promiscMode: true }
  const result = await bridge.add(
    inputOf({ ...raw, runtimeConfig: { mac: '0a:11:22:33:44:55' } }, { netns: a }),
    made.host,
  )
  assert.deepEqual([result.ips, result.interfaces[2]?.mac, result.interfaces[2]?.mtu], [[], '0a:11:22:33:44:55', 1300])
  const port = getLink(made.netlink, result.interfaces[1]!.name)
  assert.equal(port.port?.isolated, true)
  assert.equal(port.mtu, 1300)
  assert.match(made.exec('ip', 'link', 'show', 'br1'), /PROMISC/)
  await bridge.check(inputOf(raw, { netns: a, prevResult: result }), made.host)
  const down = { ...raw, disableContainerInterface: true }
  const second = await bridge.add(inputOf(down, { containerId: 'c2', netns: b }), made.host)
  assert.doesNotMatch(execIn(b, 'ip', 'link', 'show', 'eth0'), /[<,]UP[,>]/)
  await bridge.check(inputOf(down, { containerId: 'c2', netns: b, prevResult: second }), made.host)
})

test('router advertisements and redirects are not believed, and IPv6 addresses are usable at once', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const result = await bridge.add(inputOf(conf(), { netns }), made.host)
  for (const name of ['br0', result.interfaces[1]!.name]) {
    for (const key of ['accept_ra', 'accept_redirects']) {
      assert.equal(made.exec('cat', `/proc/sys/net/ipv6/conf/${name}/${key}`).trim(), '0', `${name} ${key}`)
    }
  }
  assert.doesNotMatch(execIn(netns, 'ip', '-6', 'address', 'show', 'eth0'), /tentative/)
  assert.ok(await ping(netns, 'fd00:77::1'))
})

test('enabledad: a duplicate address is found', async () => {
  using made = new NetworkHost()
  const raw = conf({ enabledad: true })
  await bridge.add(inputOf(raw, { containerId: 'a', netns: made.pod() }), made.host)
  const stat = conf({ enabledad: true, ipam: { type: 'static', addresses: [{ address: 'fd00:77::2/64' }] } })
  const twin = inputOf(stat, { containerId: 'b', netns: made.pod() })
  await assert.rejects(bridge.add(twin, made.host), { code: 11, message: /fd00:77::2/ })
})

test('a pod that lies about its MAC address is not heard (macspoofchk)', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  await bridge.add(inputOf(conf({ macspoofchk: true }), { netns }), made.host)
  assert.ok(await ping(netns, '10.77.0.1'))
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'address', '0a:00:00:00:00:99')
  assert.ok(!(await ping(netns, '10.77.0.1')))
})

test('masquerade: what leaves the subnet has the address of the host, what stays keeps its own', async () => {
  using made = new NetworkHost()
  const [netns, far] = [made.pod(), made.pod()]
  made.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far.split('/').at(-1)!)
  made.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0')
  made.exec('ip', 'link', 'set', 'up0', 'up')
  execIn(far, 'ip', 'address', 'add', '192.0.2.2/24', 'dev', 'eth0')
  execIn(far, 'ip', 'link', 'set', 'eth0', 'up')
  await bridge.add(inputOf(conf(), { containerId: 'a', netns }), made.host)
  // Without a route back, an answer proves the translation.
  assert.ok(await ping(netns, '192.0.2.2'))
  await bridge.add(
    inputOf(
      conf({ name: 'plain', bridge: 'br2', ipMasq: false, ipam: { type: 'host-local', subnet: '10.79.0.0/24' } }),
      { containerId: 'b', netns: made.pod() },
    ),
    made.host,
  )
  assert.ok(!(await ping(made.pods.at(-1)!, '192.0.2.2')))
})

test("GC removes what no valid attachment owns, of its own network only; a late DEL spares the address's new owner", async () => {
  using made = new NetworkHost()
  const ids = ['a', 'b', 'c']
  const results = new Map<string, Awaited<ReturnType<typeof bridge.add>>>()
  for (const containerId of ids) {
    results.set(containerId, await bridge.add(inputOf(conf(), { containerId, netns: made.pod() }), made.host))
  }
  await bridge.gc(gcInputOf(conf({ name: 'other' }), []), made.host)
  assert.equal(made.exec('ip', '-o', 'link').match(/veth/g)?.length, 3)
  await bridge.gc(gcInputOf(conf(), [{ containerId: 'b', ifname: 'eth0' }]), made.host)
  assert.equal(made.exec('ip', '-o', 'link').match(/veth/g)?.length, 1)
  await bridge.check(
    inputOf(conf(), { containerId: 'b', netns: made.pods[1]!, prevResult: results.get('b')! }),
    made.host,
  )
  // d gets the address that c had; c's DEL comes late.
  const again = { ...conf(), runtimeConfig: { ips: ['10.77.0.4'] } }
  const netns = made.pod()
  const taken = await bridge.add(inputOf(again, { containerId: 'd', netns }), made.host)
  await bridge.del(inputOf(conf(), { containerId: 'c', prevResult: results.get('c')! }), made.host)
  await bridge.check(inputOf(conf(), { containerId: 'd', netns, prevResult: taken }), made.host)
})

test('VLANs on a kernel without them are a clear error', async (t) => {
  using made = new NetworkHost()
  const raw = { name: 'v', type: 'bridge', bridge: 'brv', vlan: 100 }
  try {
    await bridge.add(inputOf(raw, { netns: made.pod() }), made.host)
    t.diagnostic('this kernel filters VLANs: nothing to refuse')
    assert.match(made.exec('bridge', 'vlan', 'show'), /100 PVID Egress Untagged/)
  } catch (error) {
    assert.match(String(error), /this kernel has none/)
    assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
  }
})
