import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { newCounters } from '../udp/counters.ts'
import { line, LineReader, MAX_LINE, parseEvent, parseRequest, RelayProtocolError, type Event } from './protocol.ts'

const conf = {
  device: 'flannel0',
  address: '192.0.2.1',
  port: 8285,
  network: '10.244.0.0/16',
  subnet: '10.244.0.0/24',
  anySource: false,
}

test('requests and events survive their line', () => {
  const requests = [
    { do: 'configure', id: 1, conf },
    { do: 'peers', id: 2, set: [['10.244.1.0/24', '192.0.2.2']], remove: ['10.244.2.0/24'] },
    { do: 'stop', id: 3 },
  ]
  for (const request of requests) assert.deepEqual(parseRequest(JSON.stringify(request)), request)
  const events: Event[] = [
    { event: 'counters', counters: newCounters(), offloads: null },
    { event: 'answer', id: 4, error: { code: 'EADDRINUSE', message: 'bind' } },
    { event: 'lost', why: 'reading flannel0: EBADFD' },
    { event: 'note', level: 'warn', message: 'm', fields: { a: 1, b: 'c' } },
  ]
  for (const event of events) assert.deepEqual(parseEvent(line(event).trim()), event)
})

test('what cannot be carried out is refused before it is tried', () => {
  const bad: readonly (readonly [object, RegExp])[] = [
    [{ device: '../etc' }, /conf.device/],
    [{ device: '' }, /conf.device/],
    [{ address: 'fd00::1' }, /conf.address: expected an IPv4 address/],
    [{ address: '192.0.2.1; reboot' }, /conf.address/],
    [{ port: 0 }, /conf.port/],
    [{ port: 65_536 }, /conf.port/],
    [{ network: '10.244.0.1/16' }, /conf.network: expected an IPv4 subnet/],
    [{ subnet: 'fd00::/64' }, /conf.subnet/],
    [{ anySource: 1 }, /conf.anySource/],
  ]
  for (const [change, message] of bad)
    assert.throws(() => parseRequest(JSON.stringify({ do: 'configure', id: 1, conf: { ...conf, ...change } })), {
      name: 'RelayProtocolError',
      message,
    })
})

test('whatever is said: a request, or a RelayProtocolError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      for (const parse of [parseRequest, parseEvent]) {
        try {
          parse(text)
        } catch (error) {
          assert.ok(error instanceof RelayProtocolError, String(error))
        }
      }
    }),
  )
})

test('lines are the same however they are cut; one without an end is refused', () => {
  fc.assert(
    fc.property(fc.array(fc.string().map((text) => text.replaceAll('\n', ''))), fc.nat(20), (lines, step) => {
      const text = lines.map((one) => `${one}\n`).join('')
      const reader = new LineReader()
      const got: string[] = []
      for (let at = 0; at < text.length; at += step + 1) got.push(...reader.take(text.slice(at, at + step + 1)))
      assert.deepEqual(got, lines)
    }),
  )
  const reader = new LineReader()
  assert.throws(() => reader.take('x'.repeat(MAX_LINE + 1)), { code: 'too-long' })
})
