import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bridge } from '#plugins/bridge/plugin.ts'
import { difference, NetworkHost, ping } from './network-host.ts'
import { inputOf } from './input.ts'

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
