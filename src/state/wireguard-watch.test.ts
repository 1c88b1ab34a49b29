import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import type { Endpoint, SeenWgDevice, SeenWgPeer } from '#netlink/wireguard.ts'
import { tryWgKey, type WgKeyText } from '#netlink/wireguard-key.ts'
import { Secret } from '#sys/secret.ts'
import type { Entry, WgPeerEntry } from './entry.ts'
import { NodeState } from './node-state.ts'
import { printEntry, printRemoval } from './print.ts'
import { same } from './same.ts'
import { WireguardWatch } from './wireguard-watch.ts'

const NOW = 1_800_000_000

function key(fill: number): WgKeyText {
  const text = tryWgKey(Buffer.alloc(32, fill).toString('base64'))
  assert.ok(text)
  return text
}

const at = (ip: string, port = 51820): Endpoint => ({ ip: ipText(ip), port })

const wantedPeer: WgPeerEntry = {
  kind: 'wgpeer',
  dev: 'flannel-wg',
  publicKey: key(1),
  endpoint: at('192.0.2.2'),
  allowedIps: [cidrText('10.244.1.0/24')],
  keepalive: 0,
}
const wanted = NodeState.of([wantedPeer])

const peer = (more: Partial<SeenWgPeer> = {}): SeenWgPeer => ({
  publicKey: key(1),
  endpoint: at('192.0.2.2'),
  allowedIps: [cidrText('10.244.1.0/24')],
  keepalive: 0,
  lastHandshake: 0,
  rxBytes: 0n,
  ...more,
})
const device = (...peers: SeenWgPeer[]): SeenWgDevice => ({ publicKey: key(9), listenPort: 51820, fwmark: 0, peers })

const isAsWanted = (entries: readonly Entry[]): boolean =>
  entries.some((entry) => entry.kind === 'wgpeer' && same(wantedPeer, entry))

const open = (): WireguardWatch => new WireguardWatch(() => NOW * 1000)

test('what a device holds is told once, and again only when it is other', () => {
  const watch = open()
  assert.deepEqual(
    watch.changes('flannel-wg', device(peer()), wanted).map(({ what }) => what),
    ['seen', 'seen'],
  )
  assert.deepEqual(watch.changes('flannel-wg', device(peer({ rxBytes: 9n })), wanted), [])
  const [moved] = watch.changes('flannel-wg', { ...device(peer()), listenPort: 1 }, wanted)
  assert.equal(moved?.what === 'seen' && moved.entry.kind, 'wireguard')
  const gone = watch.changes('flannel-wg', { listenPort: 1, fwmark: 0, peers: [] }, wanted)
  assert.deepEqual(gone, [
    { what: 'gone', key: `wgpeer flannel-wg ${key(1)}` },
    { what: 'gone', key: 'wireguard flannel-wg' },
  ])
})

test('an endpoint that changes without a byte from there was changed by somebody', () => {
  const watch = open()
  watch.take('flannel-wg', device(peer({ rxBytes: 5n, lastHandshake: NOW - 9 })), wanted)
  const bent = device(peer({ rxBytes: 5n, lastHandshake: NOW - 9, endpoint: at('192.0.2.99') }))
  assert.equal(isAsWanted(watch.take('flannel-wg', bent, wanted)), false)
  assert.equal(isAsWanted(watch.take('flannel-wg', bent, wanted)), false, 'until it is mended')
})

test('a peer that roams is left where the kernel found it, as long as its session lives', () => {
  const watch = open()
  const fresh = { lastHandshake: NOW - 9 }
  watch.take('flannel-wg', device(peer({ ...fresh, rxBytes: 5n })), wanted)
  const roaming = peer({ ...fresh, rxBytes: 6n, endpoint: at('203.0.113.7', 1024) })
  assert.equal(isAsWanted(watch.take('flannel-wg', device(roaming), wanted)), true)
  assert.equal(isAsWanted(watch.take('flannel-wg', device(roaming), wanted)), true)
  const next = NodeState.of([{ ...wantedPeer, endpoint: at('192.0.2.3') }])
  const [, entry] = watch.take('flannel-wg', device(roaming), next)
  assert.ok(entry?.kind === 'wgpeer')
  assert.deepEqual(entry.endpoint, at('192.0.2.2'), 'where it was said to be before, so that the new word is followed')
  const stale = { ...roaming, lastHandshake: NOW - 200 }
  assert.equal(isAsWanted(watch.take('flannel-wg', device(stale), wanted)), false)
})

test('who undoes a repair before the next look is seen nevertheless', () => {
  const watch = open()
  const bent = device(peer({ allowedIps: [cidrText('10.244.1.0/25')], lastHandshake: NOW - 9, rxBytes: 5n }))
  watch.changes('flannel-wg', device(peer({ lastHandshake: NOW - 9, rxBytes: 5n })), wanted)
  for (let i = 0; i < 2; i++) {
    assert.equal(watch.changes('flannel-wg', bent, wanted).length, 1, 'the same damage again')
    watch.applied({ do: 'change', entry: wantedPeer, from: wantedPeer })
  }
  assert.deepEqual(
    watch.changes('flannel-wg', device(), wanted).map(({ what }) => what),
    ['gone'],
    'removed right after it was put back',
  )
  watch.applied({ do: 'add', entry: wantedPeer })
  const moved = device(peer({ endpoint: at('192.0.2.99') }))
  const [change] = watch.changes('flannel-wg', moved, wanted)
  assert.equal(change?.what === 'seen' && same(wantedPeer, change.entry), false, 'an endpoint bent right after it')
})

test('at the first look a live session tells that an endpoint is right', () => {
  const elsewhere = { endpoint: at('203.0.113.7', 1024), rxBytes: 5n }
  assert.equal(
    isAsWanted(open().take('flannel-wg', device(peer({ ...elsewhere, lastHandshake: NOW - 9 })), wanted)),
    true,
  )
  assert.equal(
    isAsWanted(open().take('flannel-wg', device(peer({ ...elsewhere, lastHandshake: NOW - 200 })), wanted)),
    false,
  )
  assert.equal(isAsWanted(open().take('flannel-wg', device(peer({ ...elsewhere, rxBytes: 0n })), wanted)), false)
})

test('keys, secrets and allowed IPs are compared, and no secret is printed', () => {
  const secret = new Secret(new Uint8Array(32).fill(65))
  const entry: WgPeerEntry = { ...wantedPeer, presharedKey: secret }
  assert.equal(same(entry, { ...entry, presharedKey: new Secret(secret.reveal()) }), true)
  assert.equal(same(entry, wantedPeer), false)
  assert.equal(same(wantedPeer, entry), false)
  assert.equal(same(wantedPeer, { ...wantedPeer, allowedIps: [] }), false)
  assert.equal(same(wantedPeer, { ...wantedPeer, keepalive: 1 }), false)
  assert.equal(
    printEntry(entry),
    `wg set flannel-wg peer ${key(1)} endpoint 192.0.2.2:51820 allowed-ips 10.244.1.0/24 persistent-keepalive 0 preshared-key (secret)`,
  )
  assert.equal(printRemoval(entry), `wg set flannel-wg peer ${key(1)} remove`)
  const own: Entry = { kind: 'wireguard', dev: 'flannel-wg', publicKey: key(9), privateKey: secret, listenPort: 51820 }
  assert.equal(printEntry(own), `wg set flannel-wg listen-port 51820 private-key (that of ${key(9)})`)
  assert.ok(!JSON.stringify([own, entry]).includes('QUFB'))
})
