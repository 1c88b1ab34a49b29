import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import type { ViciSection, ViciValue } from '#vici/message.ts'
import { decodeMessage, encodeMessage } from '#vici/message.ts'
import { FlannelError } from '../errors.ts'
import { localNode } from '../fixture.ts'
import { backendConf } from '../backend-conf.ts'
import { backendOf } from '../backend/registry.ts'
import type { Lease } from '../lease.ts'
import type { IpsecConf } from './conf.ts'
import { connectionOf, sharedKey, textOf } from './connection.ts'

const PSK = '0123456789abcdef'.repeat(6)

function confOf(options: object = {}): IpsecConf {
  const conf = backendConf({ Type: 'IPsec', psk: PSK, ...options })
  assert.ok(conf.type === 'ipsec')
  return conf
}

const lease: Lease = {
  node: 'node-1',
  4: { subnet: cidrText('10.244.1.0/24'), publicIp: ipText('192.168.0.2'), data: { kind: 'none' } },
}
const own = localNode()[4]
assert.ok(own !== undefined)

test('defaults are flannel’s; its overhead too', () => {
  const conf = confOf()
  assert.deepEqual([conf.udpEncap, conf.espProposal], [false, 'aes128gcm16-sha256-prfsha256-ecp256'])
  assert.equal(backendOf(conf).mtu(localNode({ conf })), 1423)
  const inUdp = confOf({ UDPEncap: true })
  assert.equal(backendOf(inUdp).mtu(localNode({ conf: inUdp })), 1415)
  assert.deepEqual(backendOf(conf).published(localNode({ conf }), 4), { kind: 'none' })
})

for (const options of [
  { psk: undefined },
  { psk: PSK.slice(1) },
  { psk: 7 },
  { psk: 'x'.repeat(5000) },
  { ESPProposal: 'aes128gcm16; reboot' },
  { ESPProposal: '' },
  { UDPEncap: 'yes' },
])
  test(`refused, without repeating the key: ${JSON.stringify(options).slice(0, 60)}`, () =>
    assert.throws(
      () => confOf(options),
      (error) => error instanceof FlannelError && !/0123456789abcdef|xxxx/.test(error.message) && error.field !== '',
    ))

/** A value by its path. */
const at = (section: ViciSection, ...path: readonly string[]): ViciValue | undefined =>
  path.reduce<ViciValue | undefined>((value, key) => (value instanceof Map ? value.get(key) : undefined), section)

test('what charon is told: addresses, subnets, proposals, a policy from the start', () => {
  const made = connectionOf(own, lease, confOf({ UDPEncap: true }))
  assert.ok(made !== undefined)
  const { name, settings } = made
  assert.equal(name, 'heddle-10.244.1.0-24')
  assert.deepEqual(decodeMessage(encodeMessage(settings)), settings)
  const found = [
    at(settings, name, 'local_addrs'),
    at(settings, name, 'remote_addrs'),
    at(settings, name, 'proposals'),
    at(settings, name, 'version'),
    at(settings, name, 'encap'),
    at(settings, name, 'children', name, 'local_ts'),
    at(settings, name, 'children', name, 'remote_ts'),
    at(settings, name, 'children', name, 'start_action'),
  ]
  assert.deepEqual(found, [
    ['192.168.0.1'],
    ['192.168.0.2'],
    ['aes256-sha256-modp4096'],
    '2',
    'yes',
    ['10.244.0.0/24'],
    ['10.244.1.0/24'],
    'trap',
  ])
})

test('behind a translation the node is known by its public address, and binds its own', () => {
  const made = connectionOf({ ...own, publicIp: ipText('203.0.113.7') }, lease, confOf())
  assert.ok(made !== undefined)
  assert.deepEqual(at(made.settings, made.name, 'local-1', 'id'), '203.0.113.7')
  assert.deepEqual(at(made.settings, made.name, 'local_addrs'), ['192.168.0.1'])
})

test('one side of each pair dials', () => {
  const there = localNode()[4]
  assert.ok(there !== undefined)
  const back: Lease = { node: 'node-0', 4: { subnet: own.subnet, publicIp: own.publicIp, data: { kind: 'none' } } }
  const other = {
    ...there,
    subnet: cidrText('10.244.1.0/24'),
    address: ipText('192.168.0.2'),
    publicIp: ipText('192.168.0.2'),
  }
  assert.deepEqual(
    [connectionOf(own, lease, confOf())?.isCaller, connectionOf(other, back, confOf())?.isCaller],
    [true, false],
  )
})

test('the key is in one message only', () => {
  const conf = confOf()
  const made = connectionOf(own, lease, conf)
  assert.ok(made !== undefined)
  assert.equal(sharedKey(made, conf).get('data'), PSK)
  assert.deepEqual(sharedKey(made, conf).get('owners'), ['192.168.0.1', '192.168.0.2'])
  assert.doesNotMatch(textOf(made) + JSON.stringify(conf) + inspect(conf, { depth: 9 }), /0123456789abcdef/)
  assert.notEqual(textOf(made), textOf({ ...made, owners: [] }))
})
