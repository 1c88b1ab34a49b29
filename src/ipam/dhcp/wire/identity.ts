/** Who a client says it is. Sources: RFC 2132 §9.14, RFC 4361, RFC 6355 (DUID-UUID); the first form is the reference plugin's. */

import { createHash } from 'node:crypto'

export interface Identity {
  /** `container/network/interface`: what leases are kept under, unique on this node. */
  readonly key: string
  /** Option 61 of DHCPv4, the type byte included. */
  readonly clientId: Uint8Array
  /** DHCPv6: the client, and the number of its one interface. */
  readonly duid: Uint8Array
  readonly iaid: number
}

/** How the reference plugin cuts it, so that a server knows a pod again after its node has moved to or from Heddle. */
const MAX_ID = 254

export const keyOf = (containerId: string, network: string, ifname: string): string =>
  `${containerId}/${network}/${ifname}`

/**
 * The same for the same attachment, on every node and after every restart. `rfc4361`: both protocols name the client by one DUID, so that a server that
 * knows both sees one host.
 */
export function identityOf(key: string, form: 'text' | 'rfc4361' = 'text'): Identity {
  const hash = createHash('sha256').update(key).digest()
  // DUID-UUID, with the bits of a name-based UUID (RFC 9562 version 8: the hash is our choice).
  const uuid = Buffer.from(hash.subarray(0, 16))
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80
  const duid = Buffer.concat([Uint8Array.of(0, 4), uuid])
  const iaid = hash.readUInt32BE(16)
  const text = Buffer.from(key).subarray(0, MAX_ID)
  const clientId =
    form === 'text'
      ? Buffer.concat([Uint8Array.of(0), text])
      : Buffer.concat([Uint8Array.of(255), hash.subarray(16, 20), duid])
  return { key, clientId, duid, iaid }
}
