/** Classes of the discipline htb: each with a rate of its own (include/uapi/linux/pkt_sched.h). */

import { attr, attributes } from '#codec/attributes.ts'
import type { Reader } from '#codec/buffer.ts'
import { decode, u32, u64 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'
import { formatHandle, handleOf, rate64, rateOf, rateSpec, readTc, ticksOf, writeTc } from './tc.ts'

/** TCA_HTB_* of a class. */
const htbAttributes = attributes('htb class', {
  parms: attr(
    1,
    struct('tc_htb_opt', {
      rate: rateSpec,
      ceil: rateSpec,
      buffer: u32,
      ceilBuffer: u32,
      quantum: u32,
      level: u32,
      priority: u32,
    }),
  ),
  rate64: attr(6, u64),
  ceil64: attr(7, u64),
})

export interface HtbClass {
  /** Of `1:MINOR`. */
  readonly minor: number
  /** Bytes per second, guaranteed and at most. */
  readonly rate: number
  /** Bytes that may go at once. */
  readonly burst: number
}

export interface SeenHtbClass {
  readonly handle: number
  readonly rate: number
  /** Size of the bucket in ticks: see `holds`. */
  readonly ticks: number
}

/** Bounds within which the kernel finds a quantum sensible (sch_htb.c); without one it would guess, and complain in its log. */
const QUANTUM = { min: 1000, max: 200_000 }

/** Like `tc class add dev D parent 1: classid 1:MINOR htb rate … burst …`. */
export function addHtbClassMessage(index: number, { minor, rate, burst }: HtbClass): Message {
  const handle = handleOf(1, minor)
  return {
    op: () => `class add dev ${index} classid ${formatHandle(handle)} htb`,
    type: RTM.NEWTCLASS,
    flags: NLM_F.CREATE | NLM_F.EXCL,
    write: (w) =>
      writeTc(w, { index, handle, parent: handleOf(1) }, 'htb', (options) => {
        const [spec, buffer] = [rateOf(rate), ticksOf(burst, rate)]
        const quantum = Math.round(Math.min(QUANTUM.max, Math.max(QUANTUM.min, rate / 10)))
        htbAttributes.write(options, {
          parms: { rate: spec, ceil: spec, buffer, ceilBuffer: buffer, quantum, level: 0, priority: 0 },
          rate64: rate64(rate),
          ceil64: rate64(rate),
        })
      }),
  }
}

/** Reads RTM_NEWTCLASS; undefined for classes of other disciplines. */
export function readHtbClass(payload: Reader): SeenHtbClass | undefined {
  const { handle, kind, options } = readTc(payload)
  if (kind !== 'htb') return undefined
  const { parms, rate64: large } = decode(htbAttributes, options)
  return {
    handle,
    rate: large === undefined ? (parms?.rate.rate ?? 0) : Number(large),
    ticks: parms?.buffer ?? 0,
  }
}

/** Like `tc class show dev D`. */
export function listHtbClasses(socket: NetlinkSocket, index: number): SeenHtbClass[] {
  const message: Message = {
    op: () => `class show dev ${index}`,
    type: RTM.GETTCLASS,
    flags: 0,
    write: (w) => writeTc(w, { index }),
  }
  return socket.dump(message, readHtbClass)
}
