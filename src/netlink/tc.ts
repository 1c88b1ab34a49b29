/** What qdiscs, classes and filters have in common: struct tcmsg, handles, and how rates and bursts are written (include/uapi/linux/rtnetlink.h, pkt_sched.h). */

import { attr, attributes, put } from '#codec/attributes.ts'
import type { Reader, Writer } from '#codec/buffer.ts'
import { cstring, i32, pad, rest, u16, u32, u8, type Codec, type Of } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { AF } from '#sys/constants.ts'

/** struct tcmsg. */
const tcmsg = struct('tcmsg', { family: u8, _pad: pad(3), index: i32, handle: u32, parent: u32, info: u32 })

/** TCA_*. */
const tcAttributes = attributes('traffic control', { kind: attr(1, cstring(16)), options: attr(2, rest) })

/** `MAJOR:MINOR` as the number that the kernel has for it. Both are at most 0xffff. */
export const handleOf = (major: number, minor = 0): number => ((major << 16) | minor) >>> 0

/** Like `tc`: hexadecimal, `1:30`, and `1:` for a discipline. */
export function formatHandle(handle: number): string {
  const minor = handle & 0xffff
  return `${(handle >>> 16).toString(16)}:${minor === 0 ? '' : minor.toString(16)}`
}

/** TC_H_ROOT, TC_H_INGRESS (also of clsact), and where the filters of those hang: of `ingress` below its own handle, of clsact below these. */
export const TC_H = { ROOT: 0xffff_ffff, INGRESS: 0xffff_fff1, CLSACT_INGRESS: 0xffff_fff2, CLSACT_EGRESS: 0xffff_fff3 }

/** Where a qdisc, class or filter is. `info`: of a filter, priority and protocol. */
export interface TcPlace {
  readonly index: number
  readonly handle?: number | undefined
  readonly parent?: number | undefined
  readonly info?: number | undefined
}

/** Appends a whole request; without `options` it names the kind alone, as for a deletion. */
export function writeTc(
  w: Writer,
  { index, handle, parent, info }: TcPlace,
  kind?: string,
  options?: (w: Writer) => void,
): void {
  tcmsg.write(w, { family: AF.UNSPEC, index, handle: handle ?? 0, parent: parent ?? 0, info: info ?? 0 })
  put(w, tcAttributes.table.kind, kind)
  if (options !== undefined) put(w, { ...tcAttributes.table.options, codec: appended }, options)
}

const appended: Codec<(w: Writer) => void> = {
  name: 'options',
  write: (w, value) => value(w),
  read: () => () => undefined,
}

/** What every answer begins with; `options` are the kind's own bytes. */
export function readTc(payload: Reader) {
  const { index, handle, parent, info } = tcmsg.read(payload)
  const { kind, options } = tcAttributes.read(payload)
  return { index, handle, parent, info, kind: kind ?? '', options: options ?? new Uint8Array() }
}

/** struct tc_ratespec. */
export const rateSpec = struct('tc_ratespec', {
  cellLog: u8,
  linkLayer: u8,
  overhead: u16,
  cellAlign: u16,
  mpu: u16,
  rate: u32,
})

const MAX_U32 = 0xffff_ffff
const NO_RATE: Of<typeof rateSpec> = { cellLog: 0, linkLayer: 0, overhead: 0, cellAlign: 0, mpu: 0, rate: 0 }

/** TC_LINKLAYER_ETHERNET: with it named, the kernel computes times itself and needs no table of them (sch_api.c). */
const ETHERNET = 1

/** A rate in bytes per second; what does not fit 32 bits goes into an attribute of its own (`rate64`). */
export const rateOf = (rate: number): Of<typeof rateSpec> => ({
  ...NO_RATE,
  linkLayer: ETHERNET,
  rate: Math.min(rate, MAX_U32),
})

/** No rate: what a bucket without a peak rate has there. */
export const noRate = NO_RATE

/** The attribute for rates from 2^32 bytes per second on; undefined below. */
export const rate64 = (rate: number): bigint | undefined => (rate > MAX_U32 ? BigInt(rate) : undefined)

/** The kernel's clock for buckets ticks every 64 ns (PSCHED_SHIFT, include/net/pkt_sched.h; /proc/net/psched says the same). */
const NS_PER_TICK = 64

/** How long `bytes` last at `rate` bytes per second, in ticks; as many as 32 bits hold (275 s). */
export const ticksOf = (bytes: number, rate: number): number =>
  Math.min(MAX_U32, Math.round(((bytes / rate) * 1e9) / NS_PER_TICK))

/** Whether a bucket that the kernel reports holds `bytes` at this rate. The kernel rounds, and tells only the last 32 bits of its ticks. */
export function holds(ticks: number, bytes: number, rate: number): boolean {
  const wanted = ((bytes / rate) * 1e9) / NS_PER_TICK
  const tolerance = 16 + wanted / 1000
  const difference = Math.abs(ticks - (wanted % 2 ** 32))
  return Math.min(difference, 2 ** 32 - difference) <= tolerance || (wanted > MAX_U32 && ticks === MAX_U32)
}
