import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { FlannelError } from './errors.ts'
import { chooseUnderlay, type UnderlayAddress, type UnderlayFacts, type UnderlayWish } from './underlay.ts'

const address = (dev: string, ip: string, more: Partial<UnderlayAddress> = {}): UnderlayAddress => ({
  dev,
  ip: ipText(ip),
  deprecated: false,
  temporary: false,
  permanent: true,
  ...more,
})
const link = (name: string, mtu = 1500, up = true) => ({ index: 1, name, up, mtu, loopback: name === 'lo' })
const facts: UnderlayFacts = {
  links: [link('lo', 65_536), link('eth0'), link('eth1', 9000), link('down', 1500, false)],
  addresses: [
    address('lo', '127.0.0.1'),
    address('eth0', '10.0.2.15', { permanent: false }),
    address('eth1', '192.168.1.9', { permanent: false }),
    address('eth1', '192.168.1.5'),
    address('down', '192.168.9.9'),
    address('eth1', 'fe80::1'),
    address('eth1', '2001:db8::66', { temporary: true }),
    address('eth1', '2001:db8::5'),
    address('eth1', '2001:db8::99', { deprecated: true }),
  ],
  routes: [
    { dst: cidrText('0.0.0.0/0'), via: ipText('10.0.2.2'), dev: 'eth0', priority: 100 },
    { dst: cidrText('0.0.0.0/0'), via: ipText('192.168.1.1'), dev: 'eth1', priority: 200 },
    { dst: cidrText('192.168.1.0/24'), dev: 'eth1', priority: 0 },
    { dst: cidrText('::/0'), via: ipText('fe80::ff'), dev: 'eth1', priority: 1024 },
  ],
}
const wish: UnderlayWish = { ifaces: [], publicIps: {} }

test('the default route with the lowest metric chooses; each family by itself', () => {
  const v4 = chooseUnderlay(facts, wish, 4)
  assert.deepEqual([v4.underlay.dev, v4.underlay.mtu, v4.address], ['eth0', 1500, '10.0.2.15'])
  assert.deepEqual(v4.underlay.routes.length, 3, 'only routes of the family')
  const v6 = chooseUnderlay(facts, wish, 6)
  assert.deepEqual([v6.underlay.dev, v6.underlay.mtu, v6.address], ['eth1', 9000, '2001:db8::5'])
})

test('--iface by name and by address, the first that exists; permanent addresses first', () => {
  assert.equal(chooseUnderlay(facts, { ...wish, ifaces: ['wlan0', 'eth1', 'eth0'] }, 4).address, '192.168.1.5')
  assert.equal(chooseUnderlay(facts, { ...wish, ifaces: ['192.168.1.9'] }, 4).address, '192.168.1.9')
  assert.equal(
    chooseUnderlay(facts, { ...wish, ifaces: ['192.168.1.9'] }, 6).address,
    '2001:db8::5',
    'the other family of that interface',
  )
})

test('--public-ip that an interface has, and --iface-can-reach', () => {
  assert.equal(chooseUnderlay(facts, { ...wish, publicIps: { 4: ipText('192.168.1.9') } }, 4).underlay.dev, 'eth1')
  assert.equal(
    chooseUnderlay(facts, { ...wish, publicIps: { 4: ipText('203.0.113.1') } }, 4).underlay.dev,
    'eth0',
    'translated',
  )
  assert.equal(chooseUnderlay(facts, { ...wish, canReach: ipText('192.168.1.77') }, 4).underlay.dev, 'eth1')
})

test('what was chosen stays while it is there', () => {
  const last = chooseUnderlay(facts, { ...wish, ifaces: ['192.168.1.9'] }, 4)
  assert.equal(chooseUnderlay(facts, wish, 4, last).address, '192.168.1.9')
  const without = { ...facts, addresses: facts.addresses.filter(({ ip }) => ip !== '192.168.1.9') }
  assert.equal(chooseUnderlay(without, wish, 4, last).address, '192.168.1.5', 'another address of the same interface')
  const gone = { ...facts, links: facts.links.filter(({ name }) => name !== 'eth1') }
  assert.equal(chooseUnderlay(gone, wish, 4, last).underlay.dev, 'eth0')
})

test('without a default route the only interface is taken, and of several none', () => {
  const one = { ...facts, routes: [], addresses: facts.addresses.filter(({ dev }) => dev === 'eth1') }
  assert.equal(chooseUnderlay(one, wish, 4).underlay.dev, 'eth1')
  assert.throws(
    () => chooseUnderlay({ ...facts, routes: [] }, wish, 4),
    (error) =>
      error instanceof FlannelError &&
      /several interfaces.*--iface from: .*eth0 10\.0\.2\.15, eth1/.test(error.message),
  )
  assert.throws(() => chooseUnderlay(facts, { ...wish, ifaces: ['wlan0'] }, 4), /"wlan0".*eth1 192\.168\.1\.5/)
  assert.throws(() => chooseUnderlay({ ...facts, addresses: [] }, wish, 4), /no interface has an IPv4 address/)
})
