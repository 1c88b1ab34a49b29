/** For tests: a device and a socket that keep what they are given, through the tables of the system calls. */

import type { Sys } from '#sys/sys.ts'

export interface Given {
  /** The bytes of the message, its parts joined. */
  readonly bytes: Uint8Array
  /** IPv4 address and port it goes to. */
  readonly to: readonly [number, number]
  /** Of UDP_SEGMENT. */
  readonly size?: number
}

/** Takes messages as sendMany and writeMany do. `refuse` may answer with an errno. */
export class FakeWire implements Pick<Sys, 'sendMany' | 'writeMany' | 'recvMany' | 'readMany'> {
  readonly sent: Given[] = []
  readonly written: Uint8Array[] = []
  /** What the device and the socket have ready. */
  readonly toRead: Uint8Array[] = []
  readonly toReceive: {
    readonly bytes: Uint8Array
    readonly from: number
    readonly size?: number
    readonly flags?: number
  }[] = []
  refuse: (message: Given) => number = () => 0

  sendMany(_fd: number, bytes: Uint8Array, parts: Uint8Array, table: Uint8Array, first: number, count: number): number {
    let done = 0
    for (const message of gather(bytes, parts, table, first, count)) {
      const errno = this.refuse(message)
      if (errno !== 0) return done > 0 ? done : -errno
      this.sent.push(message)
      done++
    }
    return done
  }

  writeMany(
    _fd: number,
    bytes: Uint8Array,
    parts: Uint8Array,
    table: Uint8Array,
    first: number,
    count: number,
  ): number {
    let done = 0
    for (const message of gather(bytes, parts, table, first, count)) {
      const errno = this.refuse(message)
      if (errno !== 0) return done > 0 ? done : -errno
      this.written.push(message.bytes)
      done++
    }
    return done
  }

  readMany(_fd: number, bytes: Uint8Array, start: number, room: number, found: Uint8Array, count: number): number {
    const rows = new Int32Array(found.buffer)
    let at = start
    let n = 0
    for (; n < count && at + room <= bytes.length; n++) {
      const next = this.toRead.shift()
      if (next === undefined) break
      bytes.set(next, at)
      rows.set([at, next.length], n * 2)
      at += (next.length + 63) & ~63
    }
    return n === 0 ? -11 : n
  }

  recvMany(_fd: number, bytes: Uint8Array, table: Uint8Array, count: number): number {
    const rows = new Int32Array(table.buffer)
    const view = new DataView(bytes.buffer)
    let n = 0
    for (; n < count; n++) {
      const next = this.toReceive.shift()
      if (next === undefined) break
      const [offset = 0, room = 0, name = 0, , control = 0] = rows.subarray(n * 9, n * 9 + 9)
      bytes.set(next.bytes.subarray(0, room), offset)
      view.setUint16(name, 2, true)
      view.setUint32(name + 4, next.from)
      if (next.size !== undefined) {
        view.setUint32(control, 20, true)
        view.setInt32(control + 8, 17, true)
        view.setInt32(control + 12, 104, true)
        view.setInt32(control + 16, next.size, true)
      }
      rows.set([next.bytes.length, next.size === undefined ? 0 : 24, next.flags ?? 0], n * 9 + 6)
    }
    return n === 0 ? -11 : n
  }
}

function gather(bytes: Uint8Array, parts: Uint8Array, table: Uint8Array, first: number, count: number): Given[] {
  const ranges = new Int32Array(parts.buffer)
  const rows = new Int32Array(table.buffer)
  const view = new DataView(bytes.buffer)
  const given: Given[] = []
  let part = 0
  for (let i = 0; i < first + count; i++) {
    const [some = 0, name = 0, , control = 0, controlLength = 0] = rows.subarray(i * 5, i * 5 + 5)
    const pieces = Array.from({ length: some }, (_, j) => {
      const [offset = 0, length = 0] = ranges.subarray((part + j) * 2, (part + j) * 2 + 2)
      return bytes.slice(offset, offset + length)
    })
    part += some
    if (i < first) continue
    const size = controlLength === 0 ? {} : { size: view.getUint16(control + 16, true) }
    given.push({
      bytes: Uint8Array.from(Buffer.concat(pieces)),
      to: [view.getUint32(name + 4), view.getUint16(name + 2)],
      ...size,
    })
  }
  return given
}

/** The datagrams of a message, as the kernel cuts it. */
export function datagrams({ bytes, size }: Given): Uint8Array[] {
  const step = size ?? bytes.length
  return Array.from({ length: Math.ceil(bytes.length / step) }, (_, i) => bytes.slice(i * step, (i + 1) * step))
}
