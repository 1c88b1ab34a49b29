/** AWS Signature Version 4. Source: AWS's "Create a signed AWS API request". */

import { createHash, createHmac } from 'node:crypto'

import type { Keys } from './client.ts'

export interface V4Request {
  readonly method: string
  /** Escaped. */
  readonly path: string
  /** Sorted and escaped. */
  readonly query: string
  /** With `host`; names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly region: string
  readonly service: string
  /** Milliseconds since 1970. */
  readonly at: number
}

const ALGORITHM = 'AWS4-HMAC-SHA256'

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
export const hmac256 = (key: Uint8Array, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** `20150830T123600Z`. */
export const basicTime = (at: number): string => new Date(at).toISOString().replaceAll(/[-:]|\.\d+/g, '')

/** The headers to send, `authorization` among them. */
export function signV4(request: V4Request, keys: Keys): Record<string, string> {
  const { method, path, query, body, region, service } = request
  const time = basicTime(request.at)
  const date = time.slice(0, 8)
  const token = keys.token === undefined ? {} : { 'x-amz-security-token': Buffer.from(keys.token.reveal()).toString() }
  const headers: Record<string, string> = { ...request.headers, 'x-amz-date': time, ...token }
  const names = Object.keys(headers).toSorted()
  const canonical = [
    method,
    path,
    query,
    ...names.map((name) => `${name}:${headers[name]?.trim().replaceAll(/ +/g, ' ')}`),
    '',
    names.join(';'),
    sha256(body),
  ].join('\n')
  const scope = `${date}/${region}/${service}/aws4_request`
  const key = [date, region, service, 'aws4_request'].reduce<Uint8Array>(
    hmac256,
    Buffer.concat([Buffer.from('AWS4'), keys.secret.reveal()]),
  )
  const signature = hmac256(key, [ALGORITHM, time, scope, sha256(canonical)].join('\n')).toString('hex')
  headers['authorization'] =
    `${ALGORITHM} Credential=${keys.id}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return headers
}
