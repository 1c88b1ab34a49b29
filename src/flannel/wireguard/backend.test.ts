import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { newPrivateKey, publicKeyOf, tryWgKey, type WgKeyText } from '#netlink/wireguard-key.ts'
import { diff } from '#state/diff.ts'
import { FakeKernel } from '#state/fake-kernel.ts'
import { NodeState } from '#state/node-state.ts'
import type { Backend } from '../backend/backend.ts'
import { backendOf } from '../backend/registry.ts'
import { backendDataText } from '../backend-data.ts'
import { localNode, peerNode } from '../fixture.ts'
import type { Local } from '../local.ts'
import { parseNetConf } from '../net-conf.ts'
import type { NodeView } from '../node-view.ts'
import { PeerTable, type PeerChanges } from '../peer-table.ts'
import type { WireguardConf } from './conf.ts'

const keyOf = (i: number): WgKeyText => {
  const key = tryWgKey(Buffer.alloc(32, i).toString('base64'))
  assert.ok(key)
  return key
}
const PSK = Buffer.alloc(32, 0x41).toString('base64')

function confOf(options: object = {}, ipv6 = false): WireguardConf {
  const { backend } = parseNetConf(
    JSON.stringify({
      Network: '10.0.0.0/8',
      ...(ipv6 ? { EnableIPv6: true, IPv6Network: 'fd00:244::/32' } : {}),
      Backend: { Type: 'WireGuard', ...options },
    }),
  )
  assert.ok(backend.type === 'wireguard')
  return backend
}

const privateKey = newPrivateKey((size) => new Uint8Array(size).fill(7))
const publicKey = publicKeyOf(privateKey)

function here(conf: WireguardConf, ipv6 = false): Local {
  const { 4: v4, 6: v6, ...local } = localNode({ conf, ipv6 })
  assert.ok(v4)
  const { mac: _, ...own4 } = v4
  const { mac: __, ...own6 } = v6 ?? {}
  return {
    ...local,
    identity: { kind: 'wireguard', privateKey, publicKey },
    4: own4,
    ...(v6 === undefined ? {} : { 6: { ...v6, ...own6 } }),
  }
}

const wgPeer = (i: number, annotations: NodeView['annotations'] = {}, more: Partial<NodeView> = {}): NodeView =>
  peerNode(
    i,
    {
      backendType: 'wireguard',
      backendData: JSON.stringify({ PublicKey: keyOf(i), Port: 51820 }),
      backendV6Data: JSON.stringify({ PublicKey: keyOf(i), Port: 51821 }),
      ...annotations,
    },
    more,
  )

const entries = (desired: ReturnType<Backend['peerPlan']>): unknown[] => desired.map(({ entry }) => entry)

function peerPlan(local: Local, view: NodeView): unknown[] {
  const backend = backendOf(local.backend)
  const { leases, refused } = new PeerTable(local, backend).update(view)
  assert.deepEqual(refused, [])
  const lease = leases.get(view.name)
  assert.ok(lease)
  return entries(backend.peerPlan(local, lease))
}

test('separate: a device, a key and a port for each family, one route for the whole network', () => {
  const local = here(confOf({}, true), true)
  const backend = backendOf(local.backend)
  const route = { kind: 'route', table: 254, type: 'unicast' }
  assert.deepEqual(entries(backend.devicePlan(local)), [
    { kind: 'link', name: 'flannel-wg', up: true, mtu: 1420, data: { type: 'wireguard' } },
    { kind: 'address', dev: 'flannel-wg', address: '10.244.0.0/32' },
    { kind: 'wireguard', dev: 'flannel-wg', publicKey, privateKey, listenPort: 51820 },
    { ...route, dst: '10.0.0.0/8', priority: 0, dev: 'flannel-wg' },
    { kind: 'link', name: 'flannel-wg-v6', up: true, mtu: 1420, data: { type: 'wireguard' } },
    { kind: 'address', dev: 'flannel-wg-v6', address: 'fd00:244::/128' },
    { kind: 'wireguard', dev: 'flannel-wg-v6', publicKey, privateKey, listenPort: 51821 },
    { ...route, dst: 'fd00:244::/32', priority: 1024, dev: 'flannel-wg-v6' },
  ])
  assert.equal(backend.mtu(local), 1420)
  assert.equal(backendDataText(backend.published(local, 4)), `{"PublicKey":"${publicKey}","Port":51820}`)
  assert.equal(backendDataText(backend.published(local, 6)), `{"PublicKey":"${publicKey}","Port":51821}`)
  assert.deepEqual(peerPlan(local, wgPeer(1)), [
    {
      kind: 'wgpeer',
      dev: 'flannel-wg',
      publicKey: keyOf(1),
      endpoint: { ip: '192.168.0.2', port: 51820 },
      allowedIps: ['10.244.1.0/24'],
      keepalive: 0,
    },
    {
      kind: 'wgpeer',
      dev: 'flannel-wg-v6',
      publicKey: keyOf(1),
      endpoint: { ip: '2001:db8::2', port: 51821 },
      allowedIps: ['fd00:244:0:1::/64'],
      keepalive: 0,
    },
  ])
})

test('options reach device and peers; a peer that says no port has ours', () => {
  const conf = confOf({ ListenPort: 4000, MTU: 9000, psk: PSK, PersistentKeepaliveInterval: 25 })
  const local = here(conf)
  const backend = backendOf(conf)
  assert.equal(backend.mtu(local), 8920)
  const view = wgPeer(1, { backendData: JSON.stringify({ PublicKey: keyOf(1) }) })
  const [peer] = peerPlan(local, view)
  assert.deepEqual(peer, {
    kind: 'wgpeer',
    dev: 'flannel-wg',
    publicKey: keyOf(1),
    endpoint: { ip: '192.168.0.2', port: 4000 },
    allowedIps: ['10.244.1.0/24'],
    keepalive: 25,
    presharedKey: conf.psk,
  })
  assert.equal(conf.psk?.reveal()[0], 0x41)
  assert.ok(!JSON.stringify([local, conf, peer]).includes(PSK.slice(0, 12)))
})

const PUBLIC4 = '198.51.100.2'
const endpointIn = (mode: string, own6: string, peerIps: { v4: string; v6: string }): unknown => {
  const local = here(confOf({ Mode: mode }, true), true)
  const v6 = local[6]
  assert.ok(v6)
  const placed: Local = { ...local, 6: { ...v6, address: ipText(own6), publicIp: ipText(own6) } }
  const [peer, ...others] = peerPlan(placed, wgPeer(1, { publicIp: peerIps.v4, publicIpv6: peerIps.v6 }))
  assert.deepEqual(others, [])
  assert.ok(typeof peer === 'object' && peer !== null && 'endpoint' in peer && 'allowedIps' in peer)
  assert.deepEqual(peer.allowedIps, ['10.244.1.0/24', 'fd00:244:0:1::/64'])
  return peer.endpoint
}

test('one device for both families: over IPv4, over IPv6, or what suits the peer; always on the one port', () => {
  const global6 = '2001:db8:9::1'
  const at = (ip: string): object => ({ ip, port: 51820 })
  const both = { v4: PUBLIC4, v6: '2001:db8::2' }
  const inside = { v4: '192.168.0.2', v6: '2001:db8::2' }
  assert.deepEqual(endpointIn('ipv4', global6, both), at(PUBLIC4))
  assert.deepEqual(endpointIn('ipv6', global6, both), at('2001:db8::2'))
  assert.deepEqual(endpointIn('auto', global6, both), at(PUBLIC4), 'a public IPv4 address wins')
  assert.deepEqual(endpointIn('auto', global6, inside), at('2001:db8::2'), 'else public IPv6 addresses on both sides')
  assert.deepEqual(endpointIn('auto', 'fd00:1::1', inside), at('192.168.0.2'), 'else IPv4')
  const local = here(confOf({ Mode: 'auto' }, true), true)
  const backend = backendOf(local.backend)
  assert.deepEqual(
    backend.devicePlan(local).map(({ entry }) => entry.kind),
    ['link', 'address', 'address', 'wireguard', 'route', 'route'],
  )
  assert.equal(backendDataText(backend.published(local, 6)), `{"PublicKey":"${publicKey}","Port":51820}`)
})

test('wrong options are named, and no secret is repeated', () => {
  const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA=='
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ Mode: 'fast' }, /Backend\.Mode: it is "fast"; expected one of separate, auto, ipv4, ipv6/],
    [{ ListenPort: 0 }, /Backend\.ListenPort: it is 0; expected a port/],
    [{ ListenPort: 51821 }, /two devices cannot share a port/],
    [{ PSK: secret }, /Backend\.PSK: it is no key; write 32 bytes in base64/],
    [{ PSK: 7 }, /Backend\.PSK: it is not what it should be/],
    [{ PersistentKeepaliveInterval: 70_000 }, /at most 65535/],
    [{ Mode: 'ipv6' }, /Backend\.Mode: it is "ipv6", and IPv6 is off; set EnableIPv6 to true/],
  ]
  for (const [options, message] of wrong)
    assert.throws(
      () => confOf(options),
      (error) => error instanceof Error && message.test(error.message) && !error.message.includes(secret.slice(0, 10)),
      JSON.stringify(options),
    )
})

test('the plan can be applied; a peer with another key leaves nothing of the old one', () => {
  const local = here(confOf())
  const backend = backendOf(local.backend)
  const table = new PeerTable(local, backend)
  const wanted = (): NodeState =>
    NodeState.of(
      [...backend.devicePlan(local), ...[...table.leases()].flatMap((lease) => backend.peerPlan(local, lease))].map(
        ({ entry }) => entry,
      ),
    )
  table.update(wgPeer(1))
  const kernel = new FakeKernel([], ['eth0'])
  kernel.apply(diff(wanted(), kernel.state))
  assert.deepEqual(diff(wanted(), kernel.state), [])
  table.update(wgPeer(1, { backendData: JSON.stringify({ PublicKey: keyOf(9) }) }))
  assert.deepEqual(
    diff(wanted(), kernel.state).map(({ do: verb, entry }) => [verb, entry.kind === 'wgpeer' && entry.publicKey]),
    [
      ['add', keyOf(9)],
      ['remove', keyOf(1)],
    ],
    'the new one takes the allowed IPs over before the old one goes',
  )
})

const codes = ({ refused }: PeerChanges): string[] => refused.map(({ code }) => code)

const lies: readonly (readonly [string, string, string])[] = [
  ['our own key', JSON.stringify({ PublicKey: publicKey }), 'own-key'],
  ['the key of another node', JSON.stringify({ PublicKey: keyOf(2) }), 'key-taken'],
  ['the zero key', JSON.stringify({ PublicKey: Buffer.alloc(32).toString('base64') }), 'unreadable'],
  ['a short key', JSON.stringify({ PublicKey: 'AAAA' }), 'unreadable'],
  ['a key that is no canonical base64', JSON.stringify({ PublicKey: `${'A'.repeat(42)}B=` }), 'unreadable'],
  ['a shell as key', JSON.stringify({ PublicKey: '$(reboot)'.padEnd(44, 'A') }), 'unreadable'],
  ['a port that is none', JSON.stringify({ PublicKey: keyOf(1), Port: 70_000 }), 'unreadable'],
  ['a number as key', JSON.stringify({ PublicKey: 5 }), 'unreadable'],
  ['no data', 'null', 'unreadable'],
  ['a MAC instead', '{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}', 'unreadable'],
]

for (const [what, backendData, code] of lies) {
  test(`refused, and nobody else suffers: ${what}`, () => {
    const local = here(confOf())
    const table = new PeerTable(local, backendOf(local.backend))
    table.update(wgPeer(2))
    const before = [...table.leases()]
    const changes = table.update(wgPeer(1, { backendData }))
    assert.deepEqual(codes(changes), [code])
    assert.deepEqual([...table.leases()], before)
  })
}

test('a key is one node’s in both families; its own in both is no theft, and it is free when given up', () => {
  const local = here(confOf({ Mode: 'auto' }, true), true)
  const table = new PeerTable(local, backendOf(local.backend))
  assert.deepEqual(codes(table.update(wgPeer(2))), [], 'one key in both families')
  const thief = wgPeer(1, { backendV6Data: JSON.stringify({ PublicKey: keyOf(2) }) })
  assert.deepEqual(codes(table.update(thief)), ['key-taken'], 'taken through the other family')
  table.update(wgPeer(2, { backendV6Data: 'null' }))
  assert.deepEqual(codes(table.update({ ...thief })), [], 'still refused, and not told again')
  table.remove('node-2')
  assert.ok([...table.leases()].some(({ node, 6: v6 }) => node === 'node-1' && v6 !== undefined))
})
