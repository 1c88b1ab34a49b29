/**
 * What agent and relay say to each other over a unix socket: one JSON document a line. The agent asks, each request has an answer with
 * its number; the relay tells by itself who it is, what it counts and what it lost.
 */

import * as v from 'valibot'

import { ipText, tryParseIp } from '#ip/address.ts'
import { cidrText, formatCidr, tryParseCidr } from '#ip/prefix.ts'
import { LOG_LEVELS } from './levels.ts'
import { DROPS } from '../udp/counters.ts'

/** Changes when the two would no longer understand each other. */
export const PROTOCOL = 1

/** Five thousand peers in one request are about 250 kB. */
export const MAX_LINE = 4 << 20

const Ip4 = v.pipe(
  v.string(),
  v.check((text): boolean => tryParseIp(text)?.family === 4, 'expected an IPv4 address'),
  v.transform(ipText),
)
const Cidr4 = v.pipe(
  v.string(),
  v.check((text): boolean => {
    const cidr = tryParseCidr(text)
    return cidr?.ip.family === 4 && formatCidr(cidr) === text
  }, 'expected an IPv4 subnet'),
  v.transform(cidrText),
)

const Conf = v.object({
  device: v.pipe(v.string(), v.regex(/^[^\s/:%]{1,15}$/)),
  address: Ip4,
  port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535)),
  network: Cidr4,
  subnet: Cidr4,
  anySource: v.boolean(),
})

const id = v.pipe(v.number(), v.safeInteger())
const Peers = v.array(v.tuple([Cidr4, Ip4]))

const Request = v.variant('do', [
  /** Opens device and socket anew; peers stay. */
  v.object({ do: v.literal('configure'), id, conf: Conf }),
  v.object({ do: v.literal('peers'), id, set: Peers, remove: v.array(Cidr4) }),
  /** Closes device and socket and ends. */
  v.object({ do: v.literal('stop'), id }),
])
export type Request = v.InferOutput<typeof Request>
export type PeerPair = v.InferOutput<typeof Peers>[number]

const Fields = v.record(v.string(), v.union([v.string(), v.number()]))
const Count = v.pipe(v.number(), v.minValue(0))
const Offloads = v.object({ tcp: v.boolean(), udp: v.boolean(), send: v.boolean(), receive: v.boolean() })
export const RelayCounters = v.object({
  sentPackets: Count,
  sentBytes: Count,
  receivedPackets: Count,
  receivedBytes: Count,
  sendCalls: Count,
  writeCalls: Count,
  icmpErrors: Count,
  drops: v.object(v.entriesFromList([...DROPS], Count)),
})

const Event = v.variant('event', [
  /** First of all. `conf` while the tunnel is open. */
  v.object({
    event: v.literal('hello'),
    protocol: v.number(),
    version: v.string(),
    pid: v.pipe(v.number(), v.safeInteger()),
    conf: v.nullable(Conf),
    peers: Peers,
  }),
  v.object({ event: v.literal('answer'), id, error: v.nullable(v.object({ code: v.string(), message: v.string() })) }),
  /** Every second, and so a sign of life. */
  v.object({ event: v.literal('counters'), counters: RelayCounters, offloads: v.nullable(Offloads) }),
  /** The tunnel broke. */
  v.object({ event: v.literal('lost'), why: v.string() }),
  v.object({ event: v.literal('note'), level: v.picklist(LOG_LEVELS), message: v.string(), fields: Fields }),
])
export type Event = v.InferOutput<typeof Event>

export class RelayProtocolError extends Error {
  override readonly name = 'RelayProtocolError'
  readonly code: 'bad-line' | 'too-long'

  constructor(code: RelayProtocolError['code'], message: string) {
    super(message)
    this.code = code
  }
}

export const parseRequest = (line: string): Request => parse(Request, line)
export const parseEvent = (line: string): Event => parse(Event, line)

/** Throws RelayProtocolError. */
function parse<S extends v.GenericSchema>(schema: S, line: string): v.InferOutput<S> {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch {
    throw new RelayProtocolError('bad-line', 'a line is not JSON')
  }
  const parsed = v.safeParse(schema, json, { abortEarly: true })
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw new RelayProtocolError('bad-line', `${v.getDotPath(issue) ?? 'a line'}: ${issue.message}`)
}

/** Cuts what arrives into lines. */
export class LineReader {
  #rest = ''

  /** Throws RelayProtocolError for a line without an end. */
  take(chunk: string): string[] {
    const lines = `${this.#rest}${chunk}`.split('\n')
    this.#rest = lines.pop() ?? ''
    if (this.#rest.length > MAX_LINE) throw new RelayProtocolError('too-long', 'a line does not end')
    return lines
  }
}

export const line = (message: Request | Event): string => `${JSON.stringify(message)}\n`
