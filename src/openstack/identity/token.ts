import * as v from 'valibot'

import { Secret } from '#sys/secret.ts'
import { OpenStackError } from '../errors.ts'
import type { HttpAnswer } from '../transport.ts'

const Endpoint = v.object({
  interface: v.string(),
  url: v.string(),
  region_id: v.optional(v.nullable(v.string())),
  region: v.optional(v.nullable(v.string())),
})
const Service = v.object({ type: v.string(), endpoints: v.array(Endpoint) })
const Body = v.object({
  token: v.object({
    expires_at: v.pipe(v.string(), v.isoTimestamp()),
    issued_at: v.optional(v.pipe(v.string(), v.isoTimestamp())),
    project: v.optional(v.object({ id: v.string(), name: v.optional(v.string(), '') })),
    catalog: v.optional(v.array(Service), []),
  }),
})

export interface CatalogEndpoint {
  readonly service: string
  readonly interface: string
  readonly region: string
  readonly url: string
}

/** A token and what came with it. */
export interface Token {
  readonly secret: Secret
  /** When it ends, by this machine's wall clock: what Keystone gives it is counted from the moment it was asked for. */
  readonly expiresAt: number
  readonly lifetimeMs: number
  readonly projectId: string
  readonly catalog: readonly CatalogEndpoint[]
}

/** What a token may consist of: it becomes a header. */
const TOKEN = /^[\x21-\x7e]{1,16384}$/

/**
 * Reads the answer of `POST /v3/auth/tokens`.
 * @param asked wall clock when the request was sent
 * @throws OpenStackError `bad-response`
 */
export function readToken(answer: HttpAnswer, asked: number, object: string): Token {
  const fail = (message: string): OpenStackError => new OpenStackError('bad-response', message, { object })
  const header = answer.headers['x-subject-token']
  if (typeof header !== 'string' || !TOKEN.test(header)) throw fail('there is no X-Subject-Token: is this Keystone?')
  let raw: unknown
  try {
    raw = JSON.parse(answer.text)
  } catch {
    throw fail('the answer is not JSON: is this Keystone?')
  }
  const result = v.safeParse(Body, raw)
  if (!result.success) {
    const [issue] = result.issues
    throw fail(`the token is malformed at ${v.getDotPath(issue) ?? 'its root'}`)
  }
  const { token } = result.output
  const expires = Date.parse(token.expires_at)
  // Clocks differ: the life of the token is Keystone's difference of two times of its own.
  const issued = token.issued_at === undefined ? asked : Date.parse(token.issued_at)
  const lifetimeMs = Math.max(0, expires - issued)
  return {
    secret: new Secret(Buffer.from(header, 'utf8')),
    expiresAt: asked + lifetimeMs,
    lifetimeMs,
    projectId: token.project?.id ?? '',
    catalog: token.catalog.flatMap((service) =>
      service.endpoints.map((endpoint) => ({
        service: service.type,
        interface: endpoint.interface,
        region: endpoint.region_id ?? endpoint.region ?? '',
        url: endpoint.url,
      })),
    ),
  }
}
