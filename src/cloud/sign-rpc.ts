/**
 * Signature of Alibaba Cloud's RPC APIs, version 1.0 with HMAC-SHA1: parameters sorted and escaped (RFC 3986), signed with the secret and an `&`.
 * Source: Alibaba Cloud's "RPC API signature".
 */

import { createHmac } from 'node:crypto'

import type { Secret } from '#sys/secret.ts'

/** Everything but letters, digits and `-_.~` as `%XX`. */
export const escape3986 = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** Sorted by name, escaped, joined. */
export const canonicalQuery = (parameters: Readonly<Record<string, string>>): string =>
  Object.entries(parameters)
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([name, value]) => `${escape3986(name)}=${escape3986(value)}`)
    .join('&')

/** The parameter `Signature`, base64. */
export function signRpc(method: 'GET' | 'POST', parameters: Readonly<Record<string, string>>, secret: Secret): string {
  const text = `${method}&${escape3986('/')}&${escape3986(canonicalQuery(parameters))}`
  return createHmac('sha1', Buffer.concat([secret.reveal(), Buffer.from('&')]))
    .update(text)
    .digest('base64')
}
