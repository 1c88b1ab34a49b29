/** Queueing disciplines: how a device sends, and where filters for what it receives hang (include/uapi/linux/pkt_sched.h). */

import { attr, attributes, type AttributesValue } from '#codec/attributes.ts'
import type { Reader, Writer } from '#codec/buffer.ts'
import { decode, u32, u64 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'
import { formatHandle, handleOf, noRate, rate64, rateOf, rateSpec, readTc, TC_H, ticksOf, writeTc } from './tc.ts'

/** TCA_TBF_*. */
const tbfAttributes = attributes('tbf', {
  parms: attr(1, struct('tc_tbf_qopt', { rate: rateSpec, peakRate: rateSpec, limit: u32, buffer: u32, mtu: u32 })),
  rate64: attr(4, u64),
  burst: attr(6, u32),
})

/** TCA_HTB_* of the discipline itself. */
const htbAttributes = attributes('htb', {
  init: attr(
    2,
    struct('tc_htb_glob', { version: u32, rateToQuantum: u32, defaultClass: u32, debug: u32, directPackets: u32 }),
  ),
})

/** A discipline to be put. */
export type Qdisc =
  | {
      readonly kind: 'tbf'
      /** Bytes per second. */
      readonly rate: number
      /** Bytes that may go at once; a longer packet never goes. */
      readonly burst: number
      /** Bytes that may wait, those of the bucket included. */
      readonly limit: number
    }
  /** `defaultClass`: the minor number of the class for what no filter matches; 0: past all classes. */
  | { readonly kind: 'htb'; readonly defaultClass: number }
  /** Nothing but a place for filters of received packets. */
  | { readonly kind: 'ingress' }

/** A discipline as the kernel reports it. */
export interface SeenQdisc {
  readonly index: number
  readonly handle: number
  readonly parent: number
  readonly info:
    | {
        readonly kind: 'tbf'
        readonly rate: number
        /** Size of the bucket in ticks: see `holds`. */
        readonly ticks: number
        readonly limit: number
      }
    | { readonly kind: 'htb'; readonly defaultClass: number }
    | { readonly kind: 'ingress' }
    | { readonly kind: 'other'; readonly name: string }
}

/** The handle that `tc` and its users give to the only one of a device: `1:`, and `ffff:` for ingress. */
const placeOf = (index: number, kind: Qdisc['kind']) =>
  kind === 'ingress'
    ? { index, handle: handleOf(0xffff), parent: TC_H.INGRESS }
    : { index, handle: handleOf(1), parent: TC_H.ROOT }

/** Like `tc qdisc add dev D root handle 1: tbf rate … burst … limit …`, and `tc qdisc add dev D ingress`. Needs a device without one of its own (EEXIST). */
export function addQdiscMessage(index: number, qdisc: Qdisc): Message {
  return {
    op: () => `qdisc add dev ${index} ${qdisc.kind}`,
    type: RTM.NEWQDISC,
    flags: NLM_F.CREATE | NLM_F.EXCL,
    write: (w) => writeTc(w, placeOf(index, qdisc.kind), qdisc.kind, (options) => writeOptions(options, qdisc)),
  }
}

/** HTB_VER of sch_htb.c, its first half. */
const HTB_VERSION = 3
/** What `tc` has: a class sends a tenth of its second's bytes before it is the next one's turn, where it has no quantum of its own. */
const RATE_TO_QUANTUM = 10

function writeOptions(w: Writer, qdisc: Qdisc): void {
  if (qdisc.kind === 'tbf') {
    const { rate, burst, limit } = qdisc
    tbfAttributes.write(w, {
      parms: { rate: rateOf(rate), peakRate: noRate, limit, buffer: ticksOf(burst, rate), mtu: 0 },
      rate64: rate64(rate),
      // In bytes: ticks of 32 bits end at 275 seconds' worth.
      burst,
    })
  } else if (qdisc.kind === 'htb') {
    const { defaultClass } = qdisc
    htbAttributes.write(w, {
      init: { version: HTB_VERSION, rateToQuantum: RATE_TO_QUANTUM, defaultClass, debug: 0, directPackets: 0 },
    })
  }
}

/** Like `tc qdisc del dev D root`, but only this kind with the handle that `addQdiscMessage` gives (EINVAL or ENOENT where there is none). */
export const deleteQdiscMessage = (index: number, kind: Qdisc['kind']): Message => ({
  op: () => `qdisc del dev ${index} ${kind}`,
  type: RTM.DELQDISC,
  flags: 0,
  write: (w) => writeTc(w, placeOf(index, kind), kind),
})

/** Reads RTM_NEWQDISC or RTM_DELQDISC. */
export function readQdisc(payload: Reader): SeenQdisc {
  const { index, handle, parent, kind, options } = readTc(payload)
  return { index, handle, parent, info: readOptions(kind, options) }
}

function readOptions(kind: string, options: Uint8Array): SeenQdisc['info'] {
  if (kind === 'tbf') return readTbf(decode(tbfAttributes, options))
  if (kind === 'htb') return { kind, defaultClass: decode(htbAttributes, options).init?.defaultClass ?? 0 }
  if (kind === 'ingress') return { kind }
  return { kind: 'other', name: kind }
}

function readTbf({ parms, rate64: large }: AttributesValue<typeof tbfAttributes.table>): SeenQdisc['info'] {
  const rate = large === undefined ? (parms?.rate.rate ?? 0) : Number(large)
  return { kind: 'tbf', rate, ticks: parms?.buffer ?? 0, limit: parms?.limit ?? 0 }
}

/** Like `tc qdisc show dev D`. The kernel lists those of all devices. */
export function listQdiscs(socket: NetlinkSocket, index?: number): SeenQdisc[] {
  const message: Message = {
    op: () => 'qdisc show',
    type: RTM.GETQDISC,
    flags: 0,
    write: (w) => writeTc(w, { index: index ?? 0 }),
  }
  return socket.dump(message, readQdisc).filter((qdisc) => index === undefined || qdisc.index === index)
}

/** Like `tc`: `tbf 1:`. */
export const describeQdisc = ({ info, handle }: SeenQdisc): string =>
  `${info.kind === 'other' ? info.name : info.kind} ${formatHandle(handle)}`
