/**
 * Connection tracking entries: listing and deleting by filter. Like `conntrack -L` and `conntrack -D`.
 * Source: linux/netfilter/nfnetlink_conntrack.h.
 *
 * UDP has no end of connection: as long as packets come, an entry made before a port mapping changed keeps sending them the old way. So who changes a mapping
 * deletes its entries.
 */

import { attr, attributes, nest, writeAttribute } from '#codec/attributes.ts'
import { be16, be32, type Codec, decode, mapped, rest, u8 } from '#codec/codec.ts'
import type { IpText } from '#ip/address.ts'
import { formatIp, ipFromBytes } from '#ip/address.ts'
import { AF } from '#sys/constants.ts'
import { ERRNO } from '#sys/errno.ts'
import type { Message } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { kernelError, translated } from './transaction.ts'
import { messageType, nfgenmsg, NFNL_SUBSYS } from './wire.ts'

const GET = messageType(NFNL_SUBSYS.ctnetlink, 1)
const DELETE = messageType(NFNL_SUBSYS.ctnetlink, 2)

/** One direction of a connection. */
export interface FlowTuple {
  readonly src: IpText
  readonly dst: IpText
  /** IP protocol number. */
  readonly protocol: number
  /** For protocols with ports. */
  readonly srcPort?: number
  readonly dstPort?: number
}

export interface Flow {
  readonly family: 4 | 6
  /** As the first packet had it. */
  readonly original: FlowTuple
  /** As answers have it: after DNAT its source is the pod. */
  readonly reply: FlowTuple
  readonly id: number
  readonly mark: number
  readonly zone: number
  /** The original tuple as the kernel sent it, which names the entry. */
  readonly key: Uint8Array
}

/** All given fields must match; none matches everything. */
export interface FlowFilter {
  readonly protocol?: number
  readonly original?: Partial<FlowTuple>
  readonly reply?: Partial<FlowTuple>
}

const ip: Codec<IpText> = mapped(
  'address',
  rest,
  (bytes) => formatIp(ipFromBytes(bytes)),
  () => new Uint8Array(),
)

const addresses = attributes('addresses', {
  src4: attr(1, ip),
  dst4: attr(2, ip),
  src6: attr(3, ip),
  dst6: attr(4, ip),
})
const protocol = attributes('protocol', { number: attr(1, u8), srcPort: attr(2, be16), dstPort: attr(3, be16) })
const tuple = attributes('tuple', { ip: nest(1, addresses), protocol: nest(2, protocol) })

const flowAttributes = attributes('flow', {
  original: nest(1, rest),
  reply: nest(2, tuple),
  mark: attr(8, be32),
  id: attr(12, be32),
  zone: attr(18, be16),
})

/** The socket is one of `openNft`. A listing that others disturb may lack entries that end meanwhile, as every listing of a live table. */
export function listFlows(socket: NetlinkSocket, family: 4 | 6, filter: FlowFilter = {}): Flow[] {
  const message = request(() => `list IPv${family} flows`, GET, family)
  return translated(() =>
    socket.dump(message, (payload) => {
      nfgenmsg.read(payload)
      const { original: key, reply, id = 0, mark = 0, zone = 0 } = flowAttributes.read(payload)
      if (key === undefined || reply === undefined) return undefined
      const flow: Flow = { family, original: tupleOf(decode(tuple, key)), reply: tupleOf(reply), id, mark, zone, key }
      return matches(flow, filter) ? flow : undefined
    }),
  )
}

/** Deletes what the filter matches; returns how many entries. Entries that ended by themselves meanwhile do not count. */
export function deleteFlows(socket: NetlinkSocket, family: 4 | 6, filter: FlowFilter): number {
  const flows = listFlows(socket, family, filter)
  const results = socket.batch(flows.map(deletion))
  let deleted = 0
  for (const error of results) {
    if (error === undefined) deleted += 1
    else if (error.errno !== ERRNO.ENOENT) throw kernelError(error)
  }
  return deleted
}

/** Names the entry by tuple, zone and id. Without a tuple the kernel would delete all entries: the tuple is always there. */
const deletion = (flow: Flow): Message =>
  request(() => `delete flow ${flow.original.src} > ${flow.original.dst}`, DELETE, flow.family, flow)

const request = (op: () => string, type: number, family: 4 | 6, flow?: Flow): Message => ({
  op,
  type,
  flags: 0,
  write: (writer) => {
    nfgenmsg.write(writer, { family: family === 4 ? AF.INET : AF.INET6, version: 0, resource: 0 })
    if (flow === undefined) return
    writeAttribute(writer, 1 | 0x8000, (w) => w.append(flow.key))
    if (flow.zone !== 0) writeAttribute(writer, 18, (w) => be16.write(w, flow.zone))
    writeAttribute(writer, 12, (w) => be32.write(w, flow.id))
  },
})

type TupleAttributes = ReturnType<typeof tuple.read>

function tupleOf({ ip, protocol }: TupleAttributes): FlowTuple {
  const { number = 0, srcPort, dstPort } = protocol ?? {}
  return {
    src: ip?.src4 ?? ip?.src6 ?? UNSPECIFIED,
    dst: ip?.dst4 ?? ip?.dst6 ?? UNSPECIFIED,
    protocol: number,
    ...(srcPort === undefined ? {} : { srcPort }),
    ...(dstPort === undefined ? {} : { dstPort }),
  }
}

const UNSPECIFIED = formatIp({ family: 4, value: 0 })

/** Whether every field that the filter gives is the flow's. Pure. */
export function matches(flow: Pick<Flow, 'original' | 'reply'>, filter: FlowFilter): boolean {
  return (
    (filter.protocol === undefined || filter.protocol === flow.original.protocol) &&
    includes(flow.original, filter.original) &&
    includes(flow.reply, filter.reply)
  )
}

const fields = ['src', 'dst', 'protocol', 'srcPort', 'dstPort'] as const

const includes = (flow: FlowTuple, wanted: Partial<FlowTuple> = {}): boolean =>
  fields.every((field) => wanted[field] === undefined || wanted[field] === flow[field])
