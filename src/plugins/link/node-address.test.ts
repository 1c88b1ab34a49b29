import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText } from '#ip/prefix.ts'
import type { Facts } from '#ipam/neutron/facts.ts'
import type { Link } from '#netlink/link-codec.ts'
import { mtuFor, networkMtu } from './node-address.ts'

const card = { index: 2, name: 'eth0', mtu: 1500, up: true } as Link
const facts = (...mtus: readonly number[]): Facts => ({
  version: 1,
  node: {
    address: ipText('10.0.0.2'),
    addresses: [ipText('10.0.0.2')],
    mac: parseMac('fa:16:3e:00:00:01'),
    interface: 'eth0',
    port: 'port',
  },
  validity: 'fixed_ips',
  subnets: mtus.map((mtu, i) => ({ id: `s${i}`, network: `n${i}`, cidr: cidrText(`10.${i}.0.0/16`), mtu })),
})
const [first, second, foreign] = [ipText('10.0.0.5'), ipText('10.1.0.5'), ipText('192.0.2.1')]

test('the MTU of a pod', () => {
  for (const [configured, told, ips, wanted] of [
    [1300, facts(1442), [first], 1300],
    [0, facts(1442), [first], 1442],
    [0, facts(1442, 1400), [first], 1442],
    [0, facts(1442, 1400), [first, second], 1400],
    [0, facts(0), [first], 1500],
    [0, facts(9000), [first], 1500],
    [0, facts(1442), [foreign], 1500],
    [0, undefined, [first], 1500],
  ] as const)
    assert.equal(mtuFor(configured, card, told, ips), wanted, JSON.stringify([configured, told?.subnets, ips]))
})

test('the MTU of all networks together; 0 where nothing is known', () => {
  for (const [told, wanted] of [
    [facts(1442, 1400), 1400],
    [facts(9000), 1500],
    [facts(0, 1450), 1450],
    [facts(0), 0],
    [facts(), 0],
    [undefined, 0],
  ] as const)
    assert.equal(networkMtu(card, told), wanted)
})
