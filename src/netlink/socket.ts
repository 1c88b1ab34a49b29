/** A netlink socket for requests: synchronous, one conversation at a time, bounded in time and memory. */

import { setImmediate } from 'node:timers/promises'
import { Writer, type Reader } from '#codec/buffer.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, MSG, SIOCGSKNS, SOCK } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import { inNetns, type Netns } from '#sys/netns.ts'
import type { Sys } from '#sys/sys.ts'
import { NETLINK, NLM_F, NLMSG } from './constants.ts'
import { NetlinkError } from './error.ts'
import { forEachMessage, readAnswer, writeMessage, type Header, type Message } from './message.ts'
import { configure, setBuffers } from './options.ts'

export interface SocketOptions {
  /** Where the socket lives; absent: the namespace of this process. */
  readonly netns?: Netns | undefined
  /** NETLINK_ROUTE unless given. */
  readonly family?: number | undefined
  /** How long one answer may take. Default 10 s: device drivers sleep under the kernel's rtnl lock. */
  readonly timeoutMs?: number | undefined
  readonly sys?: Sys | undefined
}

/** Reads one message of an answer; undefined leaves it out. */
export type Decode<T> = (payload: Reader, header: Header) => T | undefined

/** A result of a batch, by message: undefined is success. */
export type BatchResult = readonly (NetlinkError | undefined)[]

const RECEIVE_SIZE = 64 * 1024
/**
 * A batch goes out in pieces of at most so many messages and bytes. In the worst case the kernel answers every message
 * of a piece with an error of about 1.3 kB (truesize), and all of them must fit the receive buffer of 2 MB.
 */
const PIECE_MESSAGES = 1024
/** A piece of `batchInTurns`: a few milliseconds where one route costs 40 µs. */
const TURN_MESSAGES = 128
const PIECE_BYTES = 256 * 1024
/** Bytes of a socket's buffers where more than a few messages go at once; the kernel doubles it. */
const BUFFER_SIZE = 1024 * 1024
/** So many bytes of requests, and the errors they may bring, fit the buffers that every socket has. Most sockets never send more, and live for a moment. */
const FEW_BYTES = 4096
const MAX_DUMP_ATTEMPTS = 16

/** The buffer that nobody receives into now. */
let spare: Uint8Array<ArrayBuffer> | undefined

export class NetlinkSocket implements Disposable {
  readonly #sys: Sys
  readonly #options: SocketOptions
  readonly #writer = new Writer(1024)
  #fd: number
  #seq = 1
  #isLarge = false

  private constructor(fd: number, options: SocketOptions, sys: Sys) {
    this.#fd = fd
    this.#options = options
    this.#sys = sys
  }

  /** Opens a socket in a namespace, where it stays. Throws `SysError` or `NetnsError`. */
  static open(options: SocketOptions = {}): NetlinkSocket {
    const sys = options.sys ?? nativeSys()
    const make = (): number => sys.socket(AF.NETLINK, SOCK.RAW, options.family ?? NETLINK.ROUTE)
    const fd = check(options.netns === undefined ? make() : inNetns(options.netns, make, sys), 'socket', 'netlink')
    try {
      configure(fd, options.timeoutMs ?? 10_000, sys)
    } catch (error) {
      sys.close(fd)
      throw error
    }
    return new NetlinkSocket(fd, options, sys)
  }

  /** Another socket in the same namespace. */
  sibling(): NetlinkSocket {
    const netns = check(this.#sys.ioctl(this.#fd, SIOCGSKNS), 'ioctl SIOCGSKNS')
    try {
      return NetlinkSocket.open({ ...this.#options, netns })
    } finally {
      this.#sys.close(netns)
    }
  }

  /** Sends a request and waits for its acknowledgement. Throws `NetlinkError`. */
  request(message: Message): void {
    this.#converse(message, NLM_F.ACK, () => undefined)
  }

  /** Sends a request whose answer is one message, as RTM_GET* without a dump. Throws `NetlinkError`. */
  get<T>(message: Message, decode: Decode<T>): T {
    const found = this.find(message, decode)
    if (found === undefined) throw new NetlinkError(message.op(), ERRNO.ENODATA, 'the kernel sent an empty answer')
    return found
  }

  /** Like `get`, but undefined where the kernel answers with this errno. An error that everybody expects would cost more than the request. */
  find<T>(message: Message, decode: Decode<T>, missing?: number): T | undefined {
    for (let attempt = 0; attempt < 2; attempt++) {
      let isMissing = false
      const [found] = this.#converse(message, 0, decode, true, (errno) => (isMissing = errno === missing))
      if (found !== undefined || isMissing) return found
    }
    throw new NetlinkError(message.op(), ERRNO.ENODATA, 'the kernel sent an empty answer')
  }

  /** Sends a request with NLM_F_ECHO or another whose answers come before its acknowledgement, and collects them. */
  requestAnswers<T>(message: Message, decode: Decode<T>): T[] {
    return this.#converse(message, NLM_F.ACK, decode)
  }

  /** Lists. A listing that changed while it was read (NLM_F_DUMP_INTR) is read again, so that nothing is missed or doubled. */
  dump<T>(message: Message, decode: Decode<T>): T[] {
    for (let attempt = 0; attempt < MAX_DUMP_ATTEMPTS; attempt++) {
      const listing = this.#dumpOnce(message, decode)
      if (listing !== undefined) return listing
    }
    throw new NetlinkError(message.op(), ERRNO.EINTR, `changed during each of ${MAX_DUMP_ATTEMPTS} readings`)
  }

  /**
   * Sends many messages in few system calls; each succeeds or fails by itself. Messages that cannot be written (a bad
   * address) fail with EINVAL and are not sent. Throws only when the conversation itself breaks.
   */
  batch(messages: readonly Message[]): BatchResult {
    const results: (NetlinkError | undefined)[] = Array.from({ length: messages.length })
    let next = 0
    while (next < messages.length) next = this.#batchPiece(messages, next, results, PIECE_MESSAGES)
    return results
  }

  /**
   * Like `batch`, but lets the event loop turn after every few messages: thousands of routes keep the kernel busy for
   * hundreds of milliseconds. The messages go in their order; other conversations on this socket may come between.
   */
  async batchInTurns(messages: readonly Message[]): Promise<BatchResult> {
    const results: (NetlinkError | undefined)[] = Array.from({ length: messages.length })
    let next = 0
    while (next < messages.length) {
      next = this.#batchPiece(messages, next, results, TURN_MESSAGES)
      if (next < messages.length) await setImmediate()
    }
    return results
  }

  /**
   * Sends all messages in one datagram and reads until the last one that asks for an acknowledgement is answered, or the
   * first one fails: the way of nf_tables, where messages between begin and end stand or fall together.
   */
  transaction(messages: readonly Message[]): BatchResult {
    const results: (NetlinkError | undefined)[] = Array.from({ length: messages.length })
    const writer = this.#startWriting()
    const first = this.#seq
    let last = 0
    for (const [index, message] of messages.entries()) {
      writeMessage(writer, message, 0, this.#takeSeq())
      if ((message.flags & NLM_F.ACK) !== 0) last = index
    }
    const op = (): string => `transaction of ${messages.length} messages`
    this.#send(writer.written(), op)
    this.#receiveUntil(op, (header, payload) => {
      const index = header.seq - first
      const message = messages[index]
      if (header.type !== NLMSG.ERROR || message === undefined) return false
      const answer = readAnswer(header, payload)
      if (answer.errno !== 0) results[index] = refusedOfMany(message, answer)
      return index === last || (index === 0 && answer.errno !== 0)
    })
    return results
  }

  /** A request that makes the kernel wait for milliseconds (deleting or moving a link): on the thread pool, over a socket of its own. */
  async requestOnPool(message: Message): Promise<void> {
    using socket = this.sibling()
    const writer = new Writer(256)
    writeMessage(writer, message, NLM_F.ACK, 1)
    const { rc, bytes } = await this.#sys.exchange(socket.#fd, writer.written(), 1, 8192)
    if (rc < 0) throw new NetlinkError(message.op(), rc === -ERRNO.EAGAIN ? ERRNO.ETIMEDOUT : -rc)
    forEachMessage(bytes, bytes.length, (header, payload) => {
      if (header.type !== NLMSG.ERROR) return false
      const answer = readAnswer(header, payload)
      if (answer.errno !== 0) throw refused(message, answer)
      return true
    })
  }

  /** For poll watchers and options of special families; the socket stays its owner. */
  get fd(): number {
    return this.#fd
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) this.#sys.close(this.#fd)
    this.#fd = -1
  }

  /** With `single` it ends with the first answer, which is empty when the answer was longer than the buffer was. */
  #converse<T>(
    message: Message,
    flags: number,
    decode: Decode<T>,
    single = false,
    isExpected?: (errno: number) => boolean,
  ): T[] {
    const writer = this.#startWriting()
    const seq = this.#takeSeq()
    writeMessage(writer, message, flags, seq)
    this.#send(writer.written(), message.op)
    const found: T[] = []
    this.#receiveUntil(
      message.op,
      (header, payload) => {
        if (header.seq !== seq) return false
        if (header.type === NLMSG.ERROR) {
          const answer = readAnswer(header, payload)
          if (answer.errno !== 0 && isExpected?.(answer.errno) !== true) throw refused(message, answer)
          return true
        }
        const item = decode(payload, header)
        if (item !== undefined) found.push(item)
        return single
      },
      single,
    )
    return found
  }

  /** undefined: the listing was disturbed and must be read again. */
  #dumpOnce<T>(message: Message, decode: Decode<T>): T[] | undefined {
    const writer = this.#startWriting()
    const seq = this.#takeSeq()
    writeMessage(writer, message, NLM_F.DUMP, seq)
    this.#send(writer.written(), message.op)
    const found: T[] = []
    let disturbed = false
    let broken: unknown
    const cut = this.#receiveUntil(message.op, (header, payload) => {
      if (header.seq !== seq) return false
      if ((header.flags & NLM_F.DUMP_INTR) !== 0) disturbed = true
      if (header.type === NLMSG.DONE || header.type === NLMSG.ERROR) {
        const answer = readAnswer(header, payload)
        if (answer.errno === ERRNO.EINTR) disturbed = true
        else if (answer.errno !== 0) throw refused(message, answer)
        return true
      }
      try {
        const item = decode(payload, header)
        if (item !== undefined) found.push(item)
      } catch (error) {
        // Read on to the end: a socket with half a listing in it answers EBUSY to the next.
        broken ??= error
      }
      return false
    })
    if (broken !== undefined) throw broken
    return disturbed || cut ? undefined : found
  }

  #batchPiece(
    messages: readonly Message[],
    from: number,
    results: (NetlinkError | undefined)[],
    limit: number,
  ): number {
    const writer = this.#startWriting()
    const sequenced: number[] = []
    const firstSeq = this.#seq
    let lastStart = -1
    let next = from
    while (next < messages.length && sequenced.length < limit && writer.length < PIECE_BYTES) {
      const message = messages[next]
      if (message === undefined) break
      const start = writer.length
      try {
        writeMessage(writer, message, 0, this.#seq)
        this.#takeSeq()
        sequenced.push(next)
        lastStart = start
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause)
        results[next] = new NetlinkError(message.op(), ERRNO.EINVAL, reason, undefined, { cause })
      }
      next++
    }
    if (lastStart < 0) return next
    // The kernel answers errors always and successes on request: one acknowledgement, of the last message, tells all.
    const flags = writer.bytes[lastStart + 6] ?? 0
    writer.bytes[lastStart + 6] = flags | NLM_F.ACK
    const op = (): string => `batch of ${sequenced.length} messages`
    this.#send(writer.written(), op)
    this.#receiveUntil(op, (header, payload) => {
      const position = header.seq - firstSeq
      const index = sequenced[position]
      const message = index === undefined ? undefined : messages[index]
      if (header.type !== NLMSG.ERROR || message === undefined || index === undefined) return false
      const answer = readAnswer(header, payload)
      if (answer.errno !== 0) results[index] = refusedOfMany(message, answer)
      return position === sequenced.length - 1
    })
    return next
  }

  #startWriting(): Writer {
    // Starts over between conversations only, so that the numbers of one batch are consecutive; never 0, which notifications use.
    if (this.#seq > 0x7fff_0000) this.#seq = 1
    this.#writer.truncate(0)
    return this.#writer
  }

  #takeSeq(): number {
    return this.#seq++
  }

  #send(bytes: Uint8Array, op: () => string): void {
    if (bytes.length > FEW_BYTES && !this.#isLarge) {
      setBuffers(this.#fd, BUFFER_SIZE, this.#sys)
      this.#isLarge = true
    }
    let rc: number
    do rc = this.#sys.send(this.#fd, bytes, 0)
    while (rc === -ERRNO.EINTR)
    if (rc < 0) throw new NetlinkError(op(), -rc, 'the request could not be sent')
  }

  /**
   * Hands out messages until `visit` returns true. Returns whether a datagram was longer than the buffer, which has then
   * grown; with `stopWhenCut` it returns at once then, because nothing more will come.
   */
  #receiveUntil(op: () => string, visit: (header: Header, payload: Reader) => boolean, stopWhenCut = false): boolean {
    let cut = false
    // One for all sockets: it is filled and read within this call. Who converses while reading an answer gets another.
    let buffer = spare ?? bufferOf(RECEIVE_SIZE)
    spare = undefined
    try {
      for (;;) {
        const length = this.#sys.recv(this.#fd, buffer, MSG.TRUNC)
        if (length === -ERRNO.EINTR) continue
        if (length === -ERRNO.EAGAIN) throw new NetlinkError(op(), ERRNO.ETIMEDOUT, 'the kernel did not answer in time')
        if (length < 0) throw new NetlinkError(op(), -length, 'no answer could be received')
        if (length > buffer.length) {
          // A dump goes on to its end and is read again.
          cut = true
          buffer = bufferOf(length * 2)
          if (stopWhenCut) return true
          continue
        }
        if (forEachMessage(buffer, length, visit)) return cut
      }
    } finally {
      spare = buffer
    }
  }
}

/** Not zeroed: it is overwritten before it is read. A plain Uint8Array, because a Buffer's slice is no copy. */
const bufferOf = (size: number): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)

const refused = (
  message: Message,
  answer: { errno: number; reason?: string | undefined; offset?: number | undefined },
): NetlinkError => new NetlinkError(message.op(), answer.errno, answer.reason, answer.offset)

/** Without a stack, which costs more than the request did: in a batch some refusals are usually expected. */
function refusedOfMany(...args: Parameters<typeof refused>): NetlinkError {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return refused(...args)
  } finally {
    Error.stackTraceLimit = limit
  }
}
