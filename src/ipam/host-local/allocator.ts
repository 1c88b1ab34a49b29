/** Which address is next: a pure function of the ranges, what is taken, and where the last search ended. */

import { addToIp, compareIp, equalIp, formatIp, type Ip, type IpText } from '#ip/address.ts'
import { rangeHolds, rangeOfSet, type Range, type RangeSet } from './range.ts'

/** What the allocator asks of the address book. */
export interface Taken {
  has(ip: IpText): boolean
}

export interface Choice {
  readonly ip: Ip
  readonly text: IpText
  readonly range: Range
}

/**
 * The next free address of a set: round robin from the one after `last` (so that an address rests as long as possible before it is
 * used again), through all ranges and back to `last` itself; gateways are left out. Undefined when every address is taken.
 */
export function nextFree(set: RangeSet, taken: Taken, last?: Ip): Choice | undefined {
  const begin = last === undefined ? -1 : set.findIndex((range) => rangeHolds(range, last))
  const startRange = Math.max(begin, 0)
  // Once around: the tail of the first range, all others, then the first range's head up to and with `last`.
  for (let step = 0; step <= set.length; step++) {
    const range = set[(startRange + step) % set.length]
    if (range === undefined) return undefined
    const resumed = begin >= 0 && last !== undefined
    if (step === set.length && !resumed) return undefined
    const from = step === 0 && resumed ? after(last) : range.start
    const to = step === set.length && resumed ? last : range.end
    const found = from === undefined ? undefined : firstFree(set, range, from, to, taken)
    if (found !== undefined) return found
  }
  return undefined
}

function firstFree(set: RangeSet, range: Range, from: Ip, to: Ip, taken: Taken): Choice | undefined {
  for (let ip: Ip | undefined = from; ip !== undefined && compareIp(ip, to) <= 0; ip = after(ip)) {
    const text = formatIp(ip)
    if (!taken.has(text) && !isGateway(set, ip)) return { ip, text, range }
  }
  return undefined
}

/** The following address; undefined after the last one of the family. */
function after(ip: Ip): Ip | undefined {
  const isLast = ip.family === 4 ? ip.value === 0xffff_ffff : ip.value === (1n << 128n) - 1n
  return isLast ? undefined : addToIp(ip, 1)
}

export const isGateway = (set: RangeSet, ip: Ip): boolean => set.some((range) => equalIp(range.gateway, ip))

/** How many addresses a set can hand out. */
export function capacityOf(set: RangeSet): bigint {
  const size = set.reduce((sum, range) => sum + BigInt(range.end.value) - BigInt(range.start.value) + 1n, 0n)
  const gateways = new Set(
    set.filter((range) => rangeOfSet(set, range.gateway) !== undefined).map((r) => r.gateway.value),
  )
  return size - BigInt(gateways.size)
}

/** Whether every address of a set is taken; costs one look per taken address at most. */
export function isFull(set: RangeSet, taken: Iterable<Ip>): boolean {
  const capacity = capacityOf(set)
  if (capacity > 1n << 24n) return false
  let used = 0n
  for (const ip of taken) if (rangeOfSet(set, ip) !== undefined && !isGateway(set, ip)) used++
  return used >= capacity
}
