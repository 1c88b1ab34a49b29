/** Options of the wireguard backend. Source: flannel's Documentation/backends.md. */

import * as v from 'valibot'

import { secretKey } from '#netlink/wireguard-key.ts'
import type { Secret } from '#sys/secret.ts'
import { badOption, Mtu, readOptions, whole } from '../backend-options.ts'
import type { Folded } from '../fold.ts'

const MODES = ['separate', 'auto', 'ipv4', 'ipv6'] as const

/**
 * `separate`: each family of pods has a device of its own and goes over the same family between nodes. Else one device carries both, over
 * `ipv4`, over `ipv6`, or for each peer over what suits it (`auto`).
 */
export type WireguardMode = (typeof MODES)[number]

export interface WireguardConf {
  readonly type: 'wireguard'
  /** UDP port of the device; the only one unless the mode is `separate`. */
  readonly listenPort: number
  /** UDP port of the IPv6 device in mode `separate`. */
  readonly listenPortV6: number
  /** MTU of the underlay, where it must not be that of the underlay interface. */
  readonly mtu?: number
  /** Mixed into every session, the same on all nodes: what is recorded today cannot be read by a quantum computer later. */
  readonly psk?: Secret
  /** Seconds between packets that keep a translation on the way alive; 0 is off. */
  readonly keepalive: number
  readonly mode: WireguardMode
}

const port = v.pipe(whole(65_535), v.minValue(1, 'expected a port from 1 to 65535'))
const Wireguard = v.object({
  listenport: v.optional(port, 51_820),
  listenportv6: v.optional(port, 51_821),
  mtu: Mtu,
  psk: v.optional(v.string('expected text: 32 bytes in base64, as `wg genpsk` makes them'), ''),
  persistentkeepaliveinterval: v.optional(whole(65_535), 0),
  mode: v.optional(
    v.pipe(v.string('expected text'), v.toLowerCase(), v.picklist(MODES, `expected one of ${MODES.join(', ')}`)),
    'separate',
  ),
})

export function wireguardConf(folded: Folded): WireguardConf {
  const options = readOptions(Wireguard, folded, ['psk'])
  const psk = options.psk === '' ? undefined : secretKey(options.psk)
  if (options.psk !== '' && psk === undefined)
    throw badOption(
      folded.written.get('psk') ?? 'PSK',
      'it is no key',
      'write 32 bytes in base64, as `wg genpsk` makes them, the same on all nodes',
    )
  if (options.mode === 'separate' && options.listenport === options.listenportv6)
    throw badOption(
      folded.written.get('listenportv6') ?? 'ListenPortV6',
      `it is ${options.listenportv6}, as ListenPort is: two devices cannot share a port`,
      'write another one, or one of the modes with a single device',
    )
  return {
    type: 'wireguard',
    listenPort: options.listenport,
    listenPortV6: options.listenportv6,
    ...(options.mtu === 0 ? {} : { mtu: options.mtu }),
    ...(psk === undefined ? {} : { psk }),
    keepalive: options.persistentkeepaliveinterval,
    mode: options.mode,
  }
}
