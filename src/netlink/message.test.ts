import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CodecError, Reader, Writer } from '#codec/buffer.ts'
import { decode, encode } from '#codec/codec.ts'
import { cidrOf, formatCidr, ipNetText } from '#ip/prefix.ts'
import { formatIp, ip4, ip6, ipText } from '#ip/address.ts'
import { macFromBytes, parseMac } from '#ip/mac.ts'
import type { CidrText } from '#ip/text.ts'
import { addrMessage, readAddr } from './addr.ts'
import { fdbMessage, readFdb } from './fdb.ts'
import { linkWire, readLink } from './link-codec.ts'
import { IPVLAN_MODE, linkKinds, MACVLAN_MODE } from './link-kinds.ts'
import { bridgeVlanMessage, createLinkMessage } from './link.ts'
import { forEachMessage, readAnswer, writeMessage, type Message } from './message.ts'
import { readEvent } from './monitor.ts'
import { neighMessage, readNeigh } from './neigh.ts'
import { readRoute, type Route } from './route-codec.ts'
import { routeMessage } from './route.ts'
import { readRule, ruleMessage } from './rule.ts'

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))
const bodyOf = (message: Message): Uint8Array => {
  const writer = new Writer()
  message.write(writer)
  return writer.copy()
}

const anyIp4 = fc.integer({ min: 0, max: 0xffff_ffff }).map((n) => ip4(n))
const anyIp6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => ip6(n))
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes)
const anyIndex = fc.integer({ min: 1, max: 0x7fff_ffff })
const anyCidr: fc.Arbitrary<CidrText> = fc.oneof(
  fc.tuple(anyIp4, fc.nat(32)).map(([ip, n]) => formatCidr(cidrOf(ip, n))),
  fc.tuple(anyIp6, fc.nat(128)).map(([ip, n]) => formatCidr(cidrOf(ip, n))),
)
const anyIpText = fc.oneof(anyIp4, anyIp6).map(formatIp)
const anyHop = fc.record(
  { oif: anyIndex, gateway: anyIpText, weight: fc.integer({ min: 1, max: 256 }), onlink: fc.constant(true) },
  { requiredKeys: ['weight'], noNullPrototype: true },
)

const anyRoute = fc.record(
  {
    dst: anyCidr,
    oif: anyIndex,
    gateway: anyIpText,
    onlink: fc.constant(true),
    table: fc.integer({ min: 1, max: 0xffff_ffff }),
    type: fc.constantFrom('unicast', 'blackhole', 'local', 'unreachable', 200),
    protocol: fc.nat(255),
    scope: fc.constantFrom('global', 'link', 'host', 17),
    priority: fc.nat(0xffff_ffff),
    nexthops: fc.array(anyHop, { minLength: 1, maxLength: 4 }),
    metrics: fc.record({ mtu: fc.nat(65535), advmss: fc.nat(65535) }, { requiredKeys: ['mtu'], noNullPrototype: true }),
  },
  { requiredKeys: ['dst', 'table', 'type', 'protocol', 'scope', 'priority'], noNullPrototype: true },
)

test('a route reads as it was written', () => {
  fc.assert(
    fc.property(anyRoute, (given) => {
      const route = given as Route
      assert.deepEqual(readRoute(new Reader(bodyOf(routeMessage('replace', route)))), { ...route, flags: 0 })
    }),
  )
})

test('neighbours, forwarding entries, addresses and rules read as they were written', () => {
  fc.assert(
    fc.property(anyIndex, anyIpText, anyMac, fc.nat(255), (index, ip, mac, protocol) => {
      const neigh = { index, ip, mac, protocol, state: 'permanent', externallyLearned: true } as const
      assert.deepEqual(readNeigh(new Reader(bodyOf(neighMessage('replace', neigh)))), { ...neigh, flags: 0x10 })
      const fdb = { index, mac, dst: ip, of: 'self', state: 'permanent', port: 8472, vni: 77, vlan: 12 } as const
      assert.deepEqual(readFdb(new Reader(bodyOf(fdbMessage('append', fdb)))), { ...fdb, flags: 2 })
    }),
  )
  fc.assert(
    fc.property(anyIndex, anyCidr, (index, cidr) => {
      const addr = {
        index,
        address: ipNetText(cidr),
        scope: 'link',
        nodad: true,
        noPrefixRoute: true,
        metric: 7,
        protocol: 3,
      } as const
      assert.deepEqual(readAddr(new Reader(bodyOf(addrMessage('replace', addr)))), { ...addr, flags: 0x202 })
      const family = cidr.includes(':') ? 6 : 4
      const rule = {
        family,
        from: cidr,
        priority: 9,
        table: 1000,
        mark: 1,
        mask: 0xff,
        action: 'table',
        iif: 'eth0',
        invert: true,
        protocol: 72,
      } as const
      const { from, ...others } = rule
      const expected = cidr.endsWith('/0') ? others : { from, ...others }
      assert.deepEqual(readRule(new Reader(bodyOf(ruleMessage('add', rule)))), expected)
    }),
  )
})

test("a VXLAN device's request, byte for byte", () => {
  const message = createLinkMessage({
    name: 'flannel.1',
    mtu: 1450,
    info: {
      kind: 'vxlan',
      data: { id: 1, link: 2, local: ipText('10.0.0.1'), port: 8472, learning: false, gbp: true },
    },
  })
  const expected = hex(`
    00000000 00000000 00000000 00000000
    0e000300 666c616e6e656c2e3100 0000
    08000400 aa050000
    40001280
      0a000100 76786c616e00 0000
      30000280
        08000100 01000000
        08000300 02000000
        06000f00 21180000
        05000700 00000000
        04001700
        08000400 0a000001`)
  const wire = bodyOf(message)
  assert.deepEqual(wire, expected)
  const info = decode(linkWire, wire).attributes.linkInfo
  const data = decode(linkKinds.vxlan, info?.data ?? new Uint8Array())
  assert.deepEqual(data, { id: 1, link: 2, local: '10.0.0.1', port: 8472, learning: false, gbp: true })
})

test('an IPv6 underlay goes into the IPv6 attributes', () => {
  const data = encode(linkKinds.vxlan, { id: 5, local: ipText('fd00::1'), group: ipText('ff05::5') })
  assert.ok(Buffer.from(data).includes(Buffer.from(hex('14001100fd00'))))
  assert.ok(Buffer.from(data).includes(Buffer.from(hex('14001000ff05'))))
  assert.deepEqual(decode(linkKinds.vxlan, data), { id: 5, local: 'fd00::1', group: 'ff05::5' })
})

test('kinds that few kernels have, byte for byte', () => {
  // As `strace ip link add …` shows IFLA_INFO_DATA of each.
  const table = [
    [
      encode(linkKinds.ipip, { local: ipText('10.0.0.1'), remote: ipText('0.0.0.0'), ttl: 64, pathMtuDiscovery: true }),
      '08000200 0a000001 08000300 00000000 05000400 40000000 05000a00 01000000',
    ],
    [encode(linkKinds.ipvlan, { mode: IPVLAN_MODE.l3, flags: 0 }), '06000100 01000000 06000200 00000000'],
    [encode(linkKinds.vlan, { id: 100, protocol: 0x8100 }), '06000100 64000000 06000500 81000000'],
    [encode(linkKinds.macvlan, { mode: MACVLAN_MODE.bridge }), '08000100 04000000'],
    [encode(linkKinds.vrf, { table: 1000 }), '08000100 e8030000'],
  ] as const
  for (const [bytes, expected] of table) assert.deepEqual(new Uint8Array(bytes), hex(expected))
})

test("a VLAN of a bridge's port, byte for byte", () => {
  assert.deepEqual(
    bodyOf(bridgeVlanMessage('add', 5, { id: 100, pvid: true, untagged: true })),
    hex('07000000 05000000 00000000 00000000 0c001a80 08000200 06006400'),
  )
})

test('a veth peer is born in its namespace under its name', () => {
  const data = encode(linkKinds.veth, {
    peer: { name: 'eth0', netnsFd: 17, mtu: 1450, mac: parseMac('02:00:00:00:00:01') },
  })
  const peer = decode(linkKinds.veth, data).peer
  assert.deepEqual(peer, { name: 'eth0', netnsFd: 17, mtu: 1450, mac: '02:00:00:00:00:01' })
})

test('an error carries the kernel’s words and the offending byte', () => {
  // NLMSG_ERROR of ENETUNREACH, capped, with NLMSGERR_ATTR_MSG and NLMSGERR_ATTR_OFFS.
  const wire = hex(`
    44000000 0200 0003 07000000 00000000
    9bffffff
    2c000000 1800 0506 07000000 00000000
    0f000100 6e6f20737563682067770000
    08000200 1c000000`)
  new DataView(wire.buffer).setUint32(0, wire.length, true)
  let answer: unknown
  forEachMessage(wire, wire.length, (header, payload) => {
    assert.equal(header.seq, 7)
    answer = readAnswer(header, payload)
    return true
  })
  assert.deepEqual(answer, { errno: 101, reason: 'no such gw', offset: 28 })
})

test('a message that cannot be written leaves nothing behind', () => {
  const writer = new Writer()
  writeMessage(writer, routeMessage('add', { dst: '10.0.0.0/8' as CidrText, type: 'blackhole' }), 0, 1)
  const before = writer.copy()
  const bad = routeMessage('add', { dst: '10.0.0.0/8' as CidrText, oif: -1 })
  assert.throws(() => writeMessage(writer, bad, 0, 2), CodecError)
  assert.deepEqual(writer.copy(), before)
})

test('hostile datagrams give a typed error or events, never a crash or an endless loop', () => {
  const sound = fc.tuple(fc.constantFrom(16, 17, 20, 21, 24, 25, 28, 29, 32, 33), anyRoute).map(([type, route]) => {
    const writer = new Writer()
    writeMessage(writer, { ...routeMessage('add', route as Route), type }, 0, 0)
    return writer.copy()
  })
  const broken = fc.tuple(sound, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 })).map(([wire, edits]) => {
    for (const [at, byte] of edits) wire[at % wire.length] = byte
    return wire
  })
  fc.assert(
    fc.property(fc.oneof(broken, fc.uint8Array({ maxLength: 300 })), (wire) => {
      try {
        forEachMessage(wire, wire.length, (header, payload) => {
          if (header.type === 2 || header.type === 3) readAnswer(header, payload)
          else readEvent(header, payload)
          return false
        })
      } catch (error) {
        assert.ok(error instanceof CodecError, String(error))
      }
    }),
    { numRuns: 3000 },
  )
})

test('a link of a kind that has no table keeps its data', () => {
  const header = { family: 0, type: 1, index: 9, flags: 1, change: 0 }
  const wire = encode(linkWire, {
    header,
    attributes: { name: 'x', linkInfo: { kind: 'gtp', data: hex('08000100 01000000') } },
  })
  const link = readLink(new Reader(wire))
  assert.deepEqual(link.info, { kind: 'other', name: 'gtp', data: hex('0800010001000000') })
  assert.equal(link.up, true)
})
