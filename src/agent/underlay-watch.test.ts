import assert from 'node:assert/strict'
import { test } from 'node:test'

import { cidrText, ipNetText } from '#ip/prefix.ts'
import type { NetlinkEvent } from '#netlink/monitor.ts'
import { HEDDLE_PROTOCOL } from '#state/protocol.ts'
import { concernsUnderlay } from './underlay-watch.ts'

const interest = { devices: new Set(['eth0']), podNetworks: [cidrText('10.244.0.0/16')] }
const nameOf = (index: number): string | undefined => ({ 2: 'eth0', 7: 'veth1' })[index]
const concerns = (
  event: NetlinkEvent,
  wanted: { devices: ReadonlySet<string>; podNetworks: typeof interest.podNetworks } = interest,
): boolean => concernsUnderlay(event, wanted, nameOf)
const link = (name: string): NetlinkEvent => ({
  kind: 'link',
  change: 'new',
  link: { index: 2, name, up: true, mtu: 1500, flags: 1, hardwareType: 1, operState: 'up', carrier: true },
})
const addr = (index: number): NetlinkEvent => ({
  kind: 'addr',
  change: 'new',
  addr: { index, address: ipNetText('192.0.2.1/24'), flags: 0, scope: 'global' },
})
const route = (dst: string, more = {}): NetlinkEvent => ({
  kind: 'route',
  change: 'new',
  route: {
    dst: cidrText(dst),
    table: 254,
    protocol: 3,
    type: 'unicast',
    scope: 'global',
    priority: 0,
    tos: 0,
    flags: 0,
    ...more,
  },
})

test('pods that come and go cost no reading of the interfaces', () => {
  for (const event of [
    link('veth1'),
    link('cni0'),
    addr(7),
    route('10.244.0.0/24'),
    route('fe80::/64'),
    route('ff00::/8'),
    route('192.0.2.0/24', { protocol: HEDDLE_PROTOCOL }),
    route('192.0.2.1/32', { table: 255 }),
  ])
    assert.equal(concerns(event), false, JSON.stringify(event))
})

test('what happens to the interface in use, to routes, or before anything is known, does', () => {
  for (const event of [
    link('eth0'),
    addr(2),
    addr(99),
    route('192.0.2.0/24'),
    route('0.0.0.0/0'),
    route('10.0.0.0/8'),
    { kind: 'overrun' } as const,
  ])
    assert.equal(concerns(event), true, JSON.stringify(event))
  const unknown = { ...interest, devices: new Set<string>() }
  assert.equal(concerns(link('veth1'), unknown), true)
  assert.equal(concerns(addr(7), unknown), true)
})
