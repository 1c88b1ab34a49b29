/** What comes over netlink: from a newer kernel, another one, or none at all. */

import { test } from 'node:test'

import fc from 'fast-check'

import { CodecError, Reader } from '#codec/buffer.ts'
import { readAddr } from '#netlink/addr.ts'
import { readFdb } from '#netlink/fdb.ts'
import { readLink } from '#netlink/link-codec.ts'
import { HEADER_LENGTH, forEachMessage, readAnswer } from '#netlink/message.ts'
import { readEvent } from '#netlink/monitor.ts'
import { readNeigh } from '#netlink/neigh.ts'
import { readQdisc } from '#netlink/qdisc.ts'
import { readRoute } from '#netlink/route-codec.ts'
import { readRule } from '#netlink/rule.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { readHtbClass } from '#netlink/tc-class.ts'
import { readFilter } from '#netlink/tc-filter.ts'
import { listFlows } from '#nft/conntrack.ts'
import { listElements } from '#nft/elements.ts'
import { NftError } from '#nft/error.ts'
import { listChains, listRules, listSets, listTables } from '#nft/list.ts'
import { parseRefusal } from '#nft/apply.ts'
import { readReply, messageLength, DbusFormatError } from '#sys/dbus/wire.ts'
import { readJournal } from '#sys/journal.ts'
import { readWords } from '#iptables/words.ts'
import { IptablesError } from '#iptables/error.ts'
import { attributes, bytes, damagedText, survives, text } from './hostile.ts'

/** Structures before the attributes have at most 36 bytes. */
const payload = fc.oneof(
  fc.tuple(fc.uint8Array({ maxLength: 36 }), attributes).map(([head, list]) => Buffer.concat([head, list])),
  ...[0, 4, 8, 12, 16, 20].map((size) =>
    fc
      .tuple(fc.uint8Array({ minLength: size, maxLength: size }), attributes)
      .map(([head, list]) => Buffer.concat([head, list])),
  ),
)

const readers = { readAddr, readFdb, readHtbClass, readLink, readFilter, readNeigh, readQdisc, readRoute, readRule }

for (const [name, read] of Object.entries(readers)) {
  test(name, () => {
    fc.assert(
      fc.property(payload, (it) => survives(() => read(new Reader(it)), CodecError)),
      { numRuns: 300 },
    )
  })
}

test('datagrams: answers and events', () => {
  const message = fc
    .tuple(
      fc.oneof(fc.nat(120), fc.nat(0xffff)),
      fc.oneof(fc.constantFrom(0, 0x100, 0x200, 0x300), fc.nat(0xffff)),
      payload,
    )
    .map(([type, flags, body]) => {
      const made = Buffer.alloc(HEADER_LENGTH + ((body.length + 3) & ~3))
      made.writeUInt32LE(HEADER_LENGTH + body.length, 0)
      made.writeUInt16LE(type, 4)
      made.writeUInt16LE(flags, 6)
      made.set(body, HEADER_LENGTH)
      return made
    })
  const wires = fc.oneof(
    fc.array(message, { maxLength: 3 }).map((list) => Buffer.concat(list)),
    bytes([]).map((it) => Buffer.from(it)),
  )
  fc.assert(
    fc.property(wires, (wire) => {
      for (const read of [readEvent, readAnswer])
        survives(
          () =>
            forEachMessage(wire, wire.length, (header, reader) => {
              survives(() => read(header, reader), CodecError)
              return false
            }),
          CodecError,
        )
    }),
    { numRuns: 500 },
  )
})

test('acknowledgements', () => {
  const header = fc.record({
    type: fc.constantFrom(2, 3),
    flags: fc.constantFrom(0, 0x100, 0x200, 0x300),
    seq: fc.nat(),
  })
  const body = fc.oneof(fc.uint8Array({ maxLength: 40 }), payload)
  fc.assert(
    fc.property(header, body, (it, read) => survives(() => readAnswer(it, new Reader(read)), CodecError)),
    { numRuns: 500 },
  )
})

/** A socket whose dump gives these payloads. */
function answering(payloads: readonly Uint8Array[]): NetlinkSocket {
  const socket: unknown = Object.create(NetlinkSocket.prototype, {
    dump: {
      value: (_: unknown, read: (reader: Reader) => unknown) =>
        payloads.map((it) => read(new Reader(it))).filter((item) => item !== undefined),
    },
  })
  if (socket instanceof NetlinkSocket) return socket
  throw new Error('not made')
}

test('lists of nftables and conntrack', () => {
  const table = { family: 'inet', name: 't' } as const
  const set = { ...table, table, name: 's', key: ['ipv4_addr', 'inet_service'], data: ['ipv4_addr'] } as const
  const lists: readonly ((socket: NetlinkSocket) => unknown)[] = [
    (socket) => listTables(socket, table),
    (socket) => listChains(socket, table),
    (socket) => listRules(socket, table),
    (socket) => listSets(socket, table),
    (socket) => listElements(socket, set),
    (socket) => listFlows(socket, 4),
    (socket) => listFlows(socket, 6),
  ]
  // nfgenmsg: family, version, resource.
  const one = fc
    .tuple(fc.constantFrom(1, 2, 7, 10, 255), attributes)
    .map(([family, list]) => Buffer.concat([Buffer.from([family, 0, 0, 0]), list]))
  fc.assert(
    fc.property(fc.array(fc.oneof(one, payload), { maxLength: 3 }), (payloads) => {
      for (const list of lists) survives(() => list(answering(payloads)), CodecError, NftError)
    }),
    { numRuns: 500 },
  )
})

test('what nft and iptables print, D-Bus, journals', () => {
  const refusal =
    '/dev/stdin:3:5-9: Error: No such file or directory; did you mean table ‘x’ in family inet?\nadd rule inet t c\n         ^^^^\n'
  fc.assert(
    fc.property(fc.oneof(damagedText([refusal]), text), text, (err, input) => survives(() => parseRefusal(err, input))),
  )
  const rule =
    '-A CNI-DN-x -s 10.0.0.0/24 -p tcp -m comment --comment "a \\"b\\" c" -j DNAT --to-destination 10.0.0.2:80'
  fc.assert(fc.property(fc.oneof(damagedText([rule]), text), (it) => survives(() => readWords(it), IptablesError)))
  const message = Buffer.alloc(64)
  message.write('l\x02')
  message.writeUInt32LE(8, 4)
  message.writeUInt32LE(16, 12)
  fc.assert(
    fc.property(bytes([message]), (it) => {
      survives(() => messageLength(Buffer.from(it)), DbusFormatError)
      survives(() => readReply(Buffer.from(it)), DbusFormatError)
    }),
    { numRuns: 500 },
  )
  fc.assert(fc.property(bytes([Buffer.from('{"a":1}\n{"b":2}\n')]), (it) => survives(() => readJournal(it))))
})
