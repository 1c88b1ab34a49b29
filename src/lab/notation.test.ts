import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText } from '#ip/prefix.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { fdbLine, neighLine, routeLine } from './notation.ts'

const nameOf = (index: number): string => ['', 'lo', 'eth0', 'flannel.1', 'cni0', 'veth0a1b2c3d'][index] ?? `if${index}`
const mac = parseMac('ae:69:8d:48:73:fe')

const route = (given: Partial<SeenRoute> & Pick<SeenRoute, 'dst'>): SeenRoute => ({
  table: 254,
  type: 'unicast',
  protocol: 3,
  scope: 'global',
  priority: 0,
  flags: 0,
  ...given,
})

test('routes as ip route prints them, the lines of the articles among them', () => {
  const gateway = ipText('10.244.1.0')
  const lines: readonly (readonly [SeenRoute, string])[] = [
    [
      route({ dst: cidrText('10.244.1.0/24'), gateway, oif: 3, onlink: true }),
      '10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink',
    ],
    [
      route({ dst: cidrText('10.244.1.0/24'), gateway: ipText('192.168.239.110'), oif: 2 }),
      '10.244.1.0/24 via 192.168.239.110 dev eth0',
    ],
    [
      route({ dst: cidrText('10.244.0.0/24'), oif: 4, protocol: 2, scope: 'link', prefSrc: ipText('10.244.0.1') }),
      '10.244.0.0/24 dev cni0 proto kernel scope link src 10.244.0.1',
    ],
    [
      route({ dst: cidrText('0.0.0.0/0'), gateway: ipText('192.168.239.2'), oif: 2, protocol: 4, priority: 100 }),
      'default via 192.168.239.2 dev eth0 proto static metric 100',
    ],
    [route({ dst: cidrText('10.0.0.5/32'), oif: 5, scope: 'link' }), '10.0.0.5 dev veth0a1b2c3d scope link'],
    [
      route({ dst: cidrText('10.244.235.192/26'), type: 'blackhole', protocol: 12 }),
      'blackhole 10.244.235.192/26 proto bird',
    ],
    [
      route({ dst: cidrText('::/0'), gateway: ipText('fd00::1'), oif: 2, protocol: 0x48, priority: 1024 }),
      'default via fd00::1 dev eth0 proto 72 metric 1024 pref medium',
    ],
  ]
  for (const [given, line] of lines) assert.equal(routeLine(given, nameOf), line)
})

test('neighbours and forwarding entries as ip neigh and bridge fdb print them', () => {
  const ip = ipText('10.244.1.0')
  assert.equal(
    neighLine({ index: 3, ip, mac, state: 'permanent', flags: 0 }, nameOf),
    '10.244.1.0 dev flannel.1 lladdr ae:69:8d:48:73:fe PERMANENT',
  )
  assert.equal(neighLine({ index: 2, ip, state: 'failed', flags: 0 }, nameOf), '10.244.1.0 dev eth0 FAILED')
  assert.equal(
    fdbLine({ index: 3, mac, dst: ipText('192.168.239.110'), of: 'self', state: 'permanent', flags: 0 }, nameOf),
    'ae:69:8d:48:73:fe dev flannel.1 dst 192.168.239.110 self permanent',
  )
  assert.equal(
    fdbLine({ index: 5, mac, of: 'master', master: 4, state: 'reachable', flags: 0 }, nameOf),
    'ae:69:8d:48:73:fe dev veth0a1b2c3d master cni0',
  )
})
