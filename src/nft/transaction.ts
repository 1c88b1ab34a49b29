/** Transactions of nf_tables: all messages take effect in one step, or none does. */

import { writeAttribute } from '#codec/attributes.ts'
import type { Reader } from '#codec/buffer.ts'
import { NETLINK, NLM_F } from '#netlink/constants.ts'
import { NetlinkError } from '#netlink/error.ts'
import { HEADER_LENGTH, type Message } from '#netlink/message.ts'
import { setBuffers } from '#netlink/options.ts'
import { NetlinkSocket, type SocketOptions } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { NftError } from './error.ts'
import {
  generationAttributes,
  nfgenmsg,
  NFNL_BATCH_GENID,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS,
  NFT_MSG,
  nftMessage,
} from './wire.ts'

/** What the kernel answers when the ruleset is no longer of the generation that the transaction names. Linux: ERESTART. */
const ERESTART = 85

/** A socket for everything in this folder: long-lived, bound to a network namespace. */
export const openNft = (options: Omit<SocketOptions, 'family'> = {}): NetlinkSocket =>
  NetlinkSocket.open({ ...options, family: NETLINK.NETFILTER })

/** A message of a transaction that may carry several elements. */
export interface NftMessage extends Message {
  /** Bytes of the body, as far as they are known. */
  readonly size?: number
  /** Which of the caller's elements the byte at `offset` of the whole message belongs to. */
  readonly elementAt?: (offset: number) => number | undefined
}

/**
 * Sends the messages as one transaction. With `generation` only if nothing has changed since that generation was read: otherwise throws `contended`.
 * Throws `kernel` when the kernel refuses, naming the failing element where it can; nothing is applied then.
 */
export function commit(socket: NetlinkSocket, messages: readonly NftMessage[], generation?: number): void {
  const last = messages.at(-1)
  if (last === undefined) return
  makeRoom(socket, messages)
  const results = socket.transaction([
    border(NFNL_MSG_BATCH_BEGIN, generation),
    ...messages.slice(0, -1),
    { ...last, flags: last.flags | NLM_F.ACK },
    border(NFNL_MSG_BATCH_END),
  ])
  for (const [index, error] of results.entries()) {
    if (error !== undefined) throw refusal(error, messages[index - 1])
  }
}

/** By socket, generations in a row that came about by changes of elements on this socket alone. */
const rows = new WeakMap<NetlinkSocket, { readonly first: number; readonly last: number }>()

/**
 * Like `commit` with a generation, for messages that change elements and nothing else. What was known of the structure before then still holds
 * (`onlyElements`), and need not be read again. At least one message must be certain to change something, because a transaction that changes
 * nothing makes no generation: the next one would be taken for ours.
 */
export function commitElements(socket: NetlinkSocket, messages: readonly NftMessage[], generation: number): void {
  if (messages.length === 0) return
  commit(socket, messages, generation)
  const row = rows.get(socket)
  rows.set(socket, {
    first: row?.last === generation ? row.first : generation,
    last: nextGeneration(generation),
  })
}

/** Whether between two generations nothing but elements changed, and all of that on this socket. False where that is not known. */
export function onlyElements(socket: NetlinkSocket, from: number, to: number): boolean {
  const row = rows.get(socket)
  return row?.last === to && (from - row.first) >>> 0 < (to - row.first) >>> 0
}

const border = (type: number, generation?: number): Message => ({
  op: () => 'nftables transaction',
  type,
  flags: 0,
  write: (writer) => {
    nfgenmsg.write(writer, { family: 0, version: 0, resource: NFNL_SUBSYS.nftables })
    if (generation !== undefined)
      writeAttribute(writer, NFNL_BATCH_GENID, (w) => w.view.setUint32(w.reserve(4), generation))
  },
})

/** A transaction is one datagram, which must fit the send buffer. */
function makeRoom(socket: NetlinkSocket, messages: readonly NftMessage[]): void {
  const size = messages.reduce((sum, message) => sum + HEADER_LENGTH + (message.size ?? 256), 0)
  if (size > 900_000) setBuffers(socket.fd, size * 2, nativeSys())
}

function refusal(error: NetlinkError, message: NftMessage | undefined): NftError {
  if (error.errno === ERESTART)
    return new NftError('contended', 'the ruleset changed between reading and writing', {
      errno: ERESTART,
      errnoName: 'ERESTART',
      cause: error,
    })
  const element = error.offset === undefined ? undefined : message?.elementAt?.(error.offset)
  return kernelError(error, element)
}

/** The kernel's refusal in this folder's terms. */
export function kernelError(error: NetlinkError, element?: number): NftError {
  const place = element === undefined ? '' : `, at element ${element}`
  return new NftError('kernel', `${error.message}${place}`, {
    errno: error.errno,
    errnoName: error.code,
    cause: error,
    ...(element === undefined ? {} : { element }),
  })
}

/** Runs a request; what the kernel refuses becomes `NftError`. */
export function translated<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof NetlinkError) throw kernelError(error)
    throw error
  }
}

/** The ruleset's generation in this namespace: it grows with every committed transaction of anybody. 32 bits. */
export const generation = (socket: NetlinkSocket): number =>
  translated(() =>
    socket.get(
      nftMessage(() => 'get generation', NFT_MSG.getGeneration, 0),
      readGeneration,
    ),
  )

/** The generation that one transaction makes of another; the kernel leaves out 0. */
export const nextGeneration = (generation: number): number => (generation + 1) >>> 0 || 1

function readGeneration(payload: Reader): number {
  nfgenmsg.read(payload)
  return generationAttributes.read(payload).id ?? 0
}

/** How often optimistic work is tried again while others change the ruleset. */
const ATTEMPTS = 32

/**
 * For elements: reads, decides, and commits only if nobody changed the ruleset in between; else does it again. A compare-and-swap for nftables that needs no lock and
 * works against every other program. Throws `contended` after 32 tries.
 */
export function optimistic<T>(
  socket: NetlinkSocket,
  work: () => { readonly messages: readonly NftMessage[]; readonly result: T },
): T {
  for (let attempt = 1; ; attempt++) {
    const seen = generation(socket)
    const { messages, result } = work()
    try {
      commitElements(socket, messages, seen)
      return result
    } catch (error) {
      if (!(error instanceof NftError && error.code === 'contended') || attempt === ATTEMPTS) throw error
    }
  }
}
