import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loopback } from '#plugins/loopback.ts'
import { ptp } from '#plugins/ptp/plugin.ts'
import { deleteNetns } from '#sys/netns.ts'
import { difference, execIn, NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'

const conf = (extra: object = {}) => ({
  name: 'net1',
  type: 'ptp',
  ipMasq: true,
  mtu: 1400,
  dns: { nameservers: ['10.0.0.10'] },
  ipam: {
    type: 'host-local',
    ranges: [[{ subnet: '10.78.0.0/24' }], [{ subnet: 'fd00:78::/64' }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  },
  ...extra,
})

test('ptp: two pods reach each other through the host, which is their only neighbour', async () => {
  using made = new NetworkHost()
  const [a, b] = [made.pod(), made.pod()]
  const baseline = made.dump()
  const first = await ptp.add(inputOf(conf(), { containerId: 'a', netns: a }), made.host)
  const second = await ptp.add(inputOf(conf(), { containerId: 'b', netns: b }), made.host)
  assert.deepEqual(
    first.interfaces.map(({ name, sandbox, mtu }) => [name.slice(0, 4), sandbox, mtu]),
    [
      ['veth', undefined, 1400],
      ['eth0', a, 1400],
    ],
  )
  assert.deepEqual(first.ips, [
    { address: '10.78.0.2/24', gateway: '10.78.0.1', interface: 1 },
    { address: 'fd00:78::2/64', gateway: 'fd00:78::1', interface: 1 },
  ])
  assert.deepEqual(first.dns, { nameservers: ['10.0.0.10'] })
  for (const to of ['10.78.0.2', '10.78.0.1', 'fd00:78::2', 'fd00:78::1']) assert.ok(await ping(b, to), to)
  assert.match(
    execIn(a, 'ip', 'route'),
    /default via 10\.78\.0\.1 dev eth0[^]*10\.78\.0\.0\/24 via 10\.78\.0\.1[^]*10\.78\.0\.1 dev eth0 scope link/,
  )
  const call = { containerId: 'a', netns: a, prevResult: first }
  await ptp.check(inputOf(conf(), call), made.host)
  made.exec('ip', 'route', 'delete', '10.78.0.2/32')
  await assert.rejects(ptp.check(inputOf(conf(), call), made.host), { code: 100, message: /route to 10\.78\.0\.2/ })
  await ptp.del(inputOf(conf(), call), made.host)
  await ptp.gc(gcInputOf(conf(), []), made.host)
  await ptp.del(inputOf(conf(), { containerId: 'b', netns: b, prevResult: second }), made.host)
  const left = difference(baseline, made.dump()).filter((line) => !/heddle|lock$|^. (table|\t|\}|set|chain)/.test(line))
  assert.deepEqual(left, [])
})

test('ptp without IPAM is refused; STATUS asks IPAM', async () => {
  using made = new NetworkHost()
  const input = inputOf(conf({ ipam: {} }), { netns: made.pod() })
  await assert.rejects(ptp.add(input, made.host), { code: 7, message: /ipam/ })
  await ptp.status(inputOf(conf()), made.host)
  const broken = inputOf(conf({ ipam: { type: 'host-local', subnet: '10.0.0.0/31' } }))
  await assert.rejects(ptp.status(broken, made.host), { code: 7, message: /too small/ })
})

test('loopback: up, down, and nothing to do when the namespace is gone', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const input = inputOf({ name: 'lo', type: 'loopback' }, { netns, ifname: 'lo' })
  const result = await loopback.add(input, made.host)
  assert.deepEqual(result, {
    interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', mtu: 65_536, sandbox: netns }],
    ips: [
      { address: '127.0.0.1/8', interface: 0 },
      { address: '::1/128', interface: 0 },
    ],
    routes: [],
    dns: {},
  })
  assert.ok(await ping(netns, '127.0.0.1'))
  await loopback.check(input, made.host)
  const chained = inputOf({ name: 'lo', type: 'loopback' }, { netns, prevResult: { ...result, dns: { domain: 'x' } } })
  assert.deepEqual((await loopback.add(chained, made.host)).dns, { domain: 'x' })
  await loopback.del(input, made.host)
  await assert.rejects(loopback.check(input, made.host), { code: 100, message: /down/ })
  deleteNetns(netns)
  await loopback.del(input, made.host)
  await assert.rejects(loopback.add(input, made.host), { code: 8 })
})
