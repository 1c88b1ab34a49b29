/** What a node publishes for the wireguard backend. */

import * as v from 'valibot'

import { tryWgKey, type WgKeyText } from '#netlink/wireguard-key.ts'
import { parseAnnotation, unreadable } from '../backend-data.ts'
import { shown } from '../errors.ts'

export interface WireguardPeerData {
  readonly kind: 'wireguard'
  readonly publicKey: WgKeyText
  /** Absent: not said, as by older versions of flannel. */
  readonly port?: number
}

/** No key of any peer: shared secrets that come out as zero (RFC 7748, section 6.1; the kernel takes no such peer). */
const ZERO_KEY = Buffer.alloc(32).toString('base64')

const Data = v.object({
  publickey: v.string('expected a public key'),
  port: v.optional(
    v.pipe(v.number('expected a number'), v.integer('expected a whole number'), v.minValue(0), v.maxValue(65_535)),
    0,
  ),
})

/** Compact, in the key order of flannel. */
export const wireguardDataText = ({ publicKey, port = 0 }: WireguardPeerData): string =>
  JSON.stringify({ PublicKey: publicKey, Port: port })

/** Throws FlannelError `bad-annotation`. */
export function parseWireguardData(text: string | undefined, field: string): WireguardPeerData {
  const { publickey, port } = parseAnnotation(Data, text, field, { publickey: 'PublicKey', port: 'Port' })
  const publicKey = tryWgKey(publickey)
  if (publicKey === undefined || publickey === ZERO_KEY)
    throw unreadable(field, `PublicKey is ${shown(publickey)}, which is no WireGuard key`)
  return { kind: 'wireguard', publicKey, ...(port === 0 ? {} : { port }) }
}
