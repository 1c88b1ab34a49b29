/** Tencent Cloud's signature v3, TC3-HMAC-SHA256. Source: Tencent Cloud's "Signature v3". */

import type { Keys } from './client.ts'
import { hmac256, sha256 } from './sign-v4.ts'

export interface Tc3Request {
  readonly service: string
  /** Those that are signed, names and values in lower case: `content-type` and `host` at least. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Milliseconds since 1970. */
  readonly at: number
}

const ALGORITHM = 'TC3-HMAC-SHA256'

/** The header Authorization. */
export function signTc3({ service, headers, body, at }: Tc3Request, keys: Keys): string {
  const seconds = Math.floor(at / 1000)
  const date = new Date(at).toISOString().slice(0, 10)
  const sorted = Object.keys(headers).toSorted()
  const names = sorted.join(';')
  const lines = sorted.map((name) => `${name}:${headers[name]}\n`).join('')
  const canonical = ['POST', '/', '', lines, names, sha256(body)].join('\n')
  const scope = `${date}/${service}/tc3_request`
  const key = [date, service, 'tc3_request'].reduce<Uint8Array>(
    hmac256,
    Buffer.concat([Buffer.from('TC3'), keys.secret.reveal()]),
  )
  const signature = hmac256(key, [ALGORITHM, seconds, scope, sha256(canonical)].join('\n')).toString('hex')
  return `${ALGORITHM} Credential=${keys.id}/${scope}, SignedHeaders=${names}, Signature=${signature}`
}
