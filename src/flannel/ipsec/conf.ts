/** Options of the ipsec backend. Source: flannel's Documentation/backends.md. */

import * as v from 'valibot'

import { Secret } from '#sys/secret.ts'
import { badOption, Flag, readOptions } from '../backend-options.ts'
import type { Folded } from '../fold.ts'

export interface IpsecConf {
  readonly type: 'ipsec'
  /** The same on all nodes; text, as charon takes it. */
  readonly psk: Secret
  /** ESP in UDP (port 4500) although no translation was found on the way. */
  readonly udpEncap: boolean
  /** As charon writes proposals. */
  readonly espProposal: string
}

/** 96 hexadecimal digits are 48 bytes. */
export const MIN_PSK = 96
const MAX_PSK = 4096

const Ipsec = v.object({
  psk: v.optional(v.string('expected text'), ''),
  udpencap: Flag,
  espproposal: v.optional(
    v.pipe(
      v.string('expected text'),
      v.regex(/^[a-z\d]+(?:-[a-z\d_]+)*$/, 'expected algorithms with dashes in between'),
    ),
    'aes128gcm16-sha256-prfsha256-ecp256',
  ),
})

/** Throws FlannelError; the key is in no message. */
export function ipsecConf(folded: Folded): IpsecConf {
  const { psk, udpencap: udpEncap, espproposal: espProposal } = readOptions(Ipsec, folded, ['psk'])
  if (psk.length < MIN_PSK || psk.length > MAX_PSK)
    throw badOption(
      folded.written.get('psk') ?? 'PSK',
      psk === '' ? 'it is missing' : `it has ${psk.length} characters`,
      `write ${MIN_PSK} characters or more, the same on all nodes, such as those of \`openssl rand -hex 48\``,
    )
  return { type: 'ipsec', psk: new Secret(Buffer.from(psk)), udpEncap, espProposal }
}
