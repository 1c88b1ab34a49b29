import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { decode, encode } from '#codec/codec.ts'
import { Reader, Writer } from '#codec/buffer.ts'
import { Secret } from '#sys/secret.ts'
import { genlmsghdr } from './genl.ts'
import { joinParts, removePeerMessage, setDeviceMessage, setPeerMessages, type WgPeer } from './wireguard.ts'
import {
  keyBytes,
  newPrivateKey,
  publicKeyOf,
  secretKey,
  secretText,
  tryWgKey,
  type WgKeyText,
} from './wireguard-key.ts'
import { deviceAttributes, peerAttributes, type DeviceWire, type PeerWire } from './wireguard-wire.ts'

const key = (fill: number): WgKeyText => {
  const text = tryWgKey(Buffer.alloc(32, fill).toString('base64'))
  assert.ok(text)
  return text
}
const family = { id: 30, version: 1 }

const peer = (more: Partial<WgPeer> = {}): WgPeer => ({
  publicKey: key(1),
  endpoint: { ip: ipText('192.0.2.2'), port: 51820 },
  allowedIps: [cidrText('10.244.1.0/24')],
  keepalive: 25,
  ...more,
})

function written(message: ReturnType<typeof removePeerMessage>): DeviceWire {
  const writer = new Writer()
  message.write(writer)
  const reader = new Reader(writer.copy())
  assert.equal(genlmsghdr.read(reader).command, 1)
  return deviceAttributes.read(reader)
}

// RFC 7748, section 6.1: Bob's private and public key.
test('the public key of a private one; texts are canonical or nothing', () => {
  const known = new Secret(Buffer.from('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb', 'hex'))
  const expected = Buffer.from('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f', 'hex')
  assert.equal(publicKeyOf(known), expected.toString('base64'))
  assert.equal(secretKey(`${secretText(known)}\n`)?.equals(known), true)
  for (const bad of ['', 'x', `${'A'.repeat(42)}B=`, Buffer.alloc(31).toString('base64'), '$(reboot)'.padEnd(44)])
    assert.equal(tryWgKey(bad), undefined, bad)
})

test('a new key has the bits that the curve wants', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (random) => {
      const bytes = newPrivateKey(() => random).reveal()
      assert.equal((bytes[0] ?? 1) & 7, 0)
      assert.equal((bytes[31] ?? 0) & 0xc0, 0x40)
      assert.deepEqual(bytes.slice(1, 31), random.slice(1, 31))
    }),
  )
})

test('the endpoint is a socket address, of the length of its family', () => {
  const bytesOf = (ip: string): string =>
    Buffer.from(encode(peerAttributes, { endpoint: { ip: ipText(ip), port: 0xca6c } })).toString('hex')
  assert.equal(bytesOf('192.0.2.1'), '140004000200ca6cc00002010000000000000000')
  assert.equal(bytesOf('2001:db8::1'), '200004000a00ca6c0000000020010db800000000000000000000000100000000')
  for (const ip of ['192.0.2.1', '2001:db8::1']) {
    const wire = decode(peerAttributes, encode(peerAttributes, { endpoint: { ip: ipText(ip), port: 7 } }))
    assert.deepEqual(wire.endpoint, { ip, port: 7 })
  }
})

test('a peer is written whole: nothing of what it was before stays', () => {
  const [message, ...more] = setPeerMessages(family, 7, peer())
  assert.ok(message)
  assert.equal(more.length, 0)
  const wire = written(message)
  const [item] = wire.peers?.list ?? []
  assert.deepEqual(
    [wire.index, item?.publicKey, item?.flags, item?.keepalive, item?.endpoint],
    [7, key(1), 2, 25, { ip: '192.0.2.2', port: 51820 }],
  )
  assert.equal(item?.presharedKey?.equals(new Secret(new Uint8Array(32))), true, 'a former secret is taken away')
  assert.deepEqual(item?.allowedIps?.list, [{ family: 2, ip: '10.244.1.0', length: 24 }])
  const gone = written(removePeerMessage(family, 7, key(1))).peers?.list?.[0]
  assert.deepEqual([gone?.publicKey, gone?.flags], [key(1), 1])
  const device = written(
    setDeviceMessage(family, 7, { listenPort: 51820, privateKey: new Secret(new Uint8Array(32).fill(9)) }),
  )
  assert.deepEqual([device.listenPort, device.privateKey?.reveal()[0]], [51820, 9])
})

test('more allowed IPs than one attribute holds go out in pieces, of which only the first replaces', () => {
  const allowedIps = Array.from({ length: 2500 }, (_, i) => cidrText(`fd00::${i.toString(16)}/128`))
  const wires = setPeerMessages(family, 7, peer({ allowedIps })).map((message) => written(message).peers?.list?.[0])
  assert.deepEqual(
    wires.map((wire) => [wire?.flags, wire?.allowedIps?.list?.length, wire?.endpoint === undefined]),
    [
      [2, 1024, false],
      [4, 1024, true],
      [4, 452, true],
    ],
  )
  const seen = joinParts(wires.map((wire) => ({ peers: { list: wire === undefined ? [] : [wire] } })))
  assert.deepEqual(
    seen.peers.map(({ allowedIps }) => allowedIps),
    [allowedIps],
  )
})

test('a listing in several messages is one device; a peer that goes on in the next one is one peer', () => {
  const wire = (publicKey: WgKeyText, ...ips: string[]): PeerWire => ({
    publicKey,
    allowedIps: { list: ips.map((ip) => ({ family: 2, ip: ipText(ip), length: 32 })) },
  })
  const device = joinParts([
    { publicKey: key(9), listenPort: 51820, peers: { list: [wire(key(1), '10.0.0.1'), wire(key(2), '10.0.0.2')] } },
    { peers: { list: [wire(key(2), '10.0.0.3'), { publicKey: key(3), rxBytes: 5n }] } },
    {},
  ])
  assert.equal(device.listenPort, 51820)
  assert.deepEqual(
    device.peers.map(({ publicKey, allowedIps, rxBytes }) => [keyBytes(publicKey)?.[0], allowedIps, rxBytes]),
    [
      [1, ['10.0.0.1/32'], 0n],
      [2, ['10.0.0.2/32', '10.0.0.3/32'], 0n],
      [3, [], 5n],
    ],
  )
})
