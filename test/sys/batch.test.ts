/** Many packets in one call, over two UDP sockets of the loopback interface. */

import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'

const sys = nativeSys()
const bytesOf = (table: Int32Array): Uint8Array => new Uint8Array(table.buffer)
const text = (bytes: Uint8Array, offset: number, length: number): string =>
  Buffer.from(bytes.buffer, offset, length).toString('latin1')

/** A bound UDP socket, and its struct sockaddr_in. */
function udp(): { readonly fd: number; readonly address: Uint8Array } & Disposable {
  const fd = check(sys.socket(AF.INET, SOCK.DGRAM | SOCK.NONBLOCK, 0), 'socket')
  const address = Uint8Array.from([AF.INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  check(sys.bind(fd, address), 'bind')
  check(sys.getsockname(fd, address), 'getsockname')
  return { fd, address, [Symbol.dispose]: () => void sys.close(fd) }
}

test('messages of several parts, each to its address; slots say what arrived and from where', () => {
  using from = udp()
  using to = udp()
  const bytes = new Uint8Array(4096)
  bytes.set(Buffer.from('abcdef'), 0)
  bytes.set(to.address, 16)
  const parts = Int32Array.from([0, 1, 4, 2, 2, 2])
  // Three messages: "a" + "ef", "cd", and an empty one.
  const table = Int32Array.from([2, 16, 16, 0, 0, 1, 16, 16, 0, 0, 0, 16, 16, 0, 0])
  assert.equal(sys.sendMany(from.fd, bytes, bytesOf(parts), bytesOf(table), 0, 3, 0), 3)
  assert.equal(sys.sendMany(from.fd, bytes, bytesOf(parts), bytesOf(table), 1, 1, 0), 1, 'from the second on')

  const slots = new Int32Array(8 * 9)
  for (let i = 0; i < 8; i++) slots.set([1024 + i * 64, 2, 64 + i * 16, 16, 512 + i * 16, 16], i * 9)
  assert.equal(sys.recvMany(to.fd, bytes, bytesOf(slots), 8, 0), 4)
  const arrived = [0, 1, 2, 3].map((i) => text(bytes, 1024 + i * 64, Math.min(2, slots[i * 9 + 6] ?? 0)))
  assert.deepEqual(arrived, ['ae', 'cd', '', 'cd'], 'the first was longer than its slot')
  assert.equal((slots[8] ?? 0) & 0x20, 0x20, 'MSG_TRUNC')
  assert.deepEqual(bytes.subarray(64, 80), from.address)
  assert.equal(sys.recvMany(to.fd, bytes, bytesOf(slots), 8, 0), -ERRNO.EAGAIN)
})

test('the first failure is told as an error, a later one as fewer messages', () => {
  using from = udp()
  using to = udp()
  const bytes = new Uint8Array(64)
  bytes.set(to.address, 0)
  // A struct sockaddr of no family.
  const table = Int32Array.from([0, 0, 16, 0, 0, 0, 32, 16, 0, 0])
  bytes[32] = 99
  assert.equal(sys.sendMany(from.fd, bytes, new Uint8Array(0), bytesOf(table), 0, 2, 0), 1)
  assert.equal(sys.sendMany(from.fd, bytes, new Uint8Array(0), bytesOf(table), 1, 1, 0), -ERRNO.EAFNOSUPPORT)
})

test('nothing outside the array is read or written', () => {
  const bytes = new Uint8Array(64)
  const part = (offset: number, length: number): Uint8Array => bytesOf(Int32Array.from([offset, length]))
  const row = (...numbers: number[]): Uint8Array => bytesOf(Int32Array.from(numbers))
  const bad: readonly (readonly [Uint8Array, Uint8Array, number, number])[] = [
    [part(60, 5), row(1, 0, 0, 0, 0), 0, 1],
    [part(-1, 1), row(1, 0, 0, 0, 0), 0, 1],
    [part(0, -1), row(1, 0, 0, 0, 0), 0, 1],
    [part(0, 1), row(2, 0, 0, 0, 0), 0, 1],
    [part(0, 1), row(1, 50, 16, 0, 0), 0, 1],
    [part(0, 1), row(1, 0, 0, 2_000_000_000, 2_000_000_000), 0, 1],
    [part(0, 1), row(-1, 0, 0, 0, 0), 0, 1],
    [part(0, 1), row(1, 0, 0, 0, 0), 1, 1],
    [part(0, 1), row(1, 0, 0, 0, 0), -1, 1],
    [part(0, 1), row(1, 0, 0, 0, 0), 0, 65],
  ]
  for (const [parts, table, first, count] of bad) {
    assert.throws(() => sys.sendMany(-1, bytes, parts, table, first, count, 0), RangeError)
    assert.throws(() => sys.writeMany(-1, bytes, parts, table, first, count), RangeError)
  }
  assert.throws(() => sys.recvMany(-1, bytes, row(0, 65, 0, 0, 0, 0, 0, 0, 0), 1, 0), RangeError)
  assert.throws(() => sys.recvMany(-1, bytes, row(0, 1, 0, 0, 0, 0, 0, 0), 1, 0), RangeError)
  assert.throws(() => sys.readMany(-1, bytes, 60, 5, new Uint8Array(8), 1), RangeError)
  assert.throws(() => sys.readMany(-1, bytes, 0, 5, new Uint8Array(7), 1), RangeError)
})

test('writes message by message, and reads packet by packet until there is no more room', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-batch-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'file')
  const bytes = new Uint8Array(512)
  bytes.set(Buffer.from('heddle'), 0)
  const fd = openSync(file, 'w+')
  t.after(() => closeSync(fd))
  const parts = Int32Array.from([0, 3, 3, 3, 1, 2])
  const table = Int32Array.from([2, 0, 0, 0, 0, 1, 0, 0, 0, 0])
  assert.equal(sys.writeMany(fd, bytes, bytesOf(parts), bytesOf(table), 0, 2), 2)
  assert.equal(readFileSync(file, 'latin1'), 'heddleed')
  assert.equal(sys.writeMany(-1, bytes, bytesOf(parts), bytesOf(table), 0, 2), -ERRNO.EBADF)

  using from = udp()
  using to = udp()
  for (const word of ['one', 'two', 'three']) sys.send(from.fd, Buffer.from(word), 0, to.address)
  const found = new Int32Array(16)
  assert.equal(sys.readMany(to.fd, bytes, 256, 100, bytesOf(found), 8), 3)
  const words = [0, 1, 2].map((i) => text(bytes, found[i * 2] ?? 0, found[i * 2 + 1] ?? 0))
  assert.deepEqual(words, ['one', 'two', 'three'])
  assert.equal(sys.readMany(to.fd, bytes, 256, 100, bytesOf(found), 8), -ERRNO.EAGAIN)
})
