/** Netlink messages: requests to be written, answers as they are read (struct nlmsghdr, RFC 3549). */

import { attr, attributes } from '#codec/attributes.ts'
import { CodecError, LITTLE, Reader, type Writer } from '#codec/buffer.ts'
import { cstring, rest, u32 } from '#codec/codec.ts'
import { NLM_F, NLMSG } from './constants.ts'

/** One request, not yet written: builders make it, a socket sends it alone or in a batch. */
export interface Message {
  /** What it does, in the words of `ip`, for errors and logs. */
  readonly op: () => string
  readonly type: number
  /** NLM_F_* beyond REQUEST; the socket adds ACK where it needs one. */
  readonly flags: number
  /** Appends everything after the header. */
  readonly write: (writer: Writer) => void
}

/** The header of a received message; its payload is `reader` from `offset` to `end` until the next message. */
export interface Header {
  readonly type: number
  readonly flags: number
  readonly seq: number
}

export const HEADER_LENGTH = 16

/** Appends a whole message. On an error nothing of it is left in the writer. */
export function writeMessage(writer: Writer, message: Message, flags: number, seq: number): void {
  const start = writer.reserve(HEADER_LENGTH)
  try {
    message.write(writer)
  } catch (error) {
    writer.truncate(start)
    throw error
  }
  const view = writer.view
  view.setUint32(start, writer.length - start, LITTLE)
  view.setUint16(start + 4, message.type, LITTLE)
  view.setUint16(start + 6, message.flags | flags | NLM_F.REQUEST, LITTLE)
  view.setUint32(start + 8, seq, LITTLE)
  writer.align(4)
}

/** Visits the messages of a datagram. A visitor that returns true ends the visit. */
export function forEachMessage(
  bytes: Uint8Array,
  length: number,
  visit: (header: Header, payload: Reader) => boolean,
): boolean {
  const reader = new Reader(bytes, 0, length)
  reader.keepUnknown = false
  let start = 0
  while (length - start >= HEADER_LENGTH) {
    const size = reader.view.getUint32(start, LITTLE)
    if (size < HEADER_LENGTH || size > length - start) {
      throw new CodecError('bad-length', `a message of ${size} bytes where ${length - start} are left`)
    }
    reader.offset = start + HEADER_LENGTH
    reader.end = start + size
    const header: Header = {
      type: reader.view.getUint16(start + 4, LITTLE),
      flags: reader.view.getUint16(start + 6, LITTLE),
      seq: reader.view.getUint32(start + 8, LITTLE),
    }
    if (visit(header, reader)) return true
    start += (size + 3) & ~3
  }
  return false
}

/** What NLMSG_ERROR and NLMSG_DONE carry; errno 0 is an acknowledgement. */
export interface Answer {
  readonly errno: number
  readonly reason?: string | undefined
  readonly offset?: number | undefined
}

/** NLMSGERR_ATTR_*. */
const answerAttributes = attributes('acknowledgement', {
  message: attr(1, cstring(4096)),
  offset: attr(2, u32),
  cookie: attr(3, rest),
})

export function readAnswer(header: Header, payload: Reader): Answer {
  if (payload.left < 4) return { errno: 0 }
  const errno = -payload.view.getInt32(payload.take(4), LITTLE)
  if ((header.flags & NLM_F.ACK_TLVS) === 0) return { errno }
  if (header.type === NLMSG.ERROR) {
    // The request comes back: its header, which begins with its length, or all of it.
    const size = payload.view.getUint32(payload.take(4), LITTLE)
    const whole = (header.flags & NLM_F.CAPPED) === 0 ? Math.max(HEADER_LENGTH, (size + 3) & ~3) : HEADER_LENGTH
    payload.take(whole - 4)
  }
  const { message, offset } = answerAttributes.read(payload)
  return { errno, reason: message, offset }
}
