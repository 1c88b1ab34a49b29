import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { freeTable, routingOf } from './routing.ts'

const route = (dst: string, more: Partial<SeenRoute> = {}): SeenRoute => ({
  dst: cidrText(dst),
  table: 254,
  type: 'unicast',
  protocol: 3,
  scope: 'global',
  priority: 0,
  flags: 0,
  oif: 2,
  ...more,
})
const gw = (text: string) => ({ gateway: ipText(text) })
const V4 = { address: ipNetText('10.1.0.5/24'), ...gw('10.1.0.1') }
const V6 = { address: ipNetText('fd00:1::5/64'), ...gw('fd00:1::1') }
const none = { gateways: new Map(), addSourceHints: false }
const brief = (routes: readonly { dst: string; gateway?: string | undefined; prefSrc?: string | undefined }[]) =>
  routes.map(({ dst, gateway, prefSrc }) => [dst, gateway, prefSrc].filter((part) => part !== undefined).join(' '))

test('the first table from 100 on that nobody uses', () => {
  assert.equal(freeTable([], []), 100)
  const rule = { family: 4, priority: 1, action: 'table' } as const
  assert.equal(freeTable([{ ...rule, table: 100 }], [route('10.0.0.0/8', { table: 101 })]), 102)
})

test('a rule for each address; the interface’s routes move, the direct ones first; a default for each family', () => {
  const present = [
    route('0.0.0.0/0', gw('10.1.0.1')),
    route('192.0.2.0/24', gw('10.1.0.9')),
    route('10.1.0.0/24', { protocol: 2, prefSrc: ipText('10.1.0.5') }),
    route('10.9.0.0/24', { oif: 3 }),
    route('10.8.0.0/24', { table: 77 }),
    route('fe80::/64'),
    route('ff00::/8'),
    route('fd00:1::/64', { protocol: 2 }),
    route('::/0', { protocol: 9, ...gw('fe80::1') }),
  ]
  const { rules, routes, removed } = routingOf(none, 100, 2, [V4, V6], present)
  assert.deepEqual(
    rules.map(({ family, from, table }) => [family, from, table]),
    [
      [4, '10.1.0.5/32', 100],
      [6, 'fd00:1::5/128', 100],
    ],
  )
  assert.deepEqual(brief(routes), [
    '10.1.0.0/24 10.1.0.5',
    'fd00:1::/64',
    '0.0.0.0/0 10.1.0.1',
    '192.0.2.0/24 10.1.0.9',
    '::/0 fd00:1::1',
  ])
  assert.ok(routes.every(({ table, oif }) => table === 100 && oif === 2))
  assert.deepEqual(brief(removed), [
    '10.1.0.0/24 10.1.0.5',
    'fd00:1::/64',
    '0.0.0.0/0 10.1.0.1',
    '192.0.2.0/24 10.1.0.9',
  ])
})

test('gateways of the configuration instead of those of addresses and routes; source hints', () => {
  const conf = { gateways: new Map([[4, ipText('10.1.0.254')]] as const), addSourceHints: true }
  const present = [route('0.0.0.0/0', gw('10.1.0.1')), route('10.1.0.0/24'), route('fd00:1::/64')]
  const { routes, removed } = routingOf(conf, 5, 2, [V4, V6], present)
  assert.deepEqual(brief(routes), [
    '10.1.0.0/24 10.1.0.5',
    'fd00:1::/64 fd00:1::5',
    '0.0.0.0/0 10.1.0.254 10.1.0.5',
    '::/0 fd00:1::1 fd00:1::5',
  ])
  assert.equal(removed.length, 3)
})

test('of a route over several interfaces, which IPv6 makes of two with one destination, only this one’s part', () => {
  const nexthops = [
    { oif: 3, ...gw('fd00:9::1'), weight: 1 },
    { oif: 2, ...gw('fd00:1::1'), weight: 1 },
  ] as const
  const { oif: _, ...shared } = route('::/0', { nexthops })
  const { routes, removed } = routingOf(none, 100, 2, [V6], [shared])
  assert.deepEqual(brief(routes), ['::/0 fd00:1::1'])
  assert.deepEqual(brief(removed), ['::/0 fd00:1::1'])
  assert.equal(removed[0]?.nexthops, undefined)
})
