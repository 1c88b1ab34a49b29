/** What the relay counts. Only ever grows; the agent makes metrics of it. */

/** Why a packet went nowhere. */
export const DROPS = [
  /** Its header contradicts itself. */
  'malformed',
  /** IPv6 or something else that this tunnel does not carry. */
  'not-ipv4',
  'ttl',
  /** To a subnet that no peer has. */
  'no-peer',
  /** From an address that is no peer's. */
  'unknown-sender',
  /** With a source that cannot be behind that peer. */
  'wrong-source',
  /** To an address that is not behind this node. */
  'wrong-destination',
  /** The socket took no more for too long. */
  'queue-full',
  'send-failed',
  'write-failed',
] as const
export type Drop = (typeof DROPS)[number]

/** Packets are counted as pods see them: a large segment of the kernel's counts as what it is cut into. */
export interface Counters {
  sentPackets: number
  sentBytes: number
  receivedPackets: number
  receivedBytes: number
  /** Requests to the kernel that carried these; the less, the more the offloads do. */
  sendCalls: number
  writeCalls: number
  icmpErrors: number
  readonly drops: Record<Drop, number>
}

export const newCounters = (): Counters => ({
  sentPackets: 0,
  sentBytes: 0,
  receivedPackets: 0,
  receivedBytes: 0,
  sendCalls: 0,
  writeCalls: 0,
  icmpErrors: 0,
  drops: {
    malformed: 0,
    'not-ipv4': 0,
    ttl: 0,
    'no-peer': 0,
    'unknown-sender': 0,
    'wrong-source': 0,
    'wrong-destination': 0,
    'queue-full': 0,
    'send-failed': 0,
    'write-failed': 0,
  },
})
