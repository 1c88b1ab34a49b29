/** Requests to a cloud's API and metadata server: a deadline, a bound on what is read, no redirects. */

import { hasCode } from '#sys/errno.ts'
import { CloudError, foreign } from './errors.ts'

export interface CloudRequest {
  /** For messages: `CreateRoute`, `metadata instance-id`. */
  readonly what: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Milliseconds for all of it; 10 s unless given. */
  readonly timeoutMs?: number
}

export interface CloudResponse {
  readonly status: number
  readonly text: string
  /** From the header Retry-After. */
  readonly retryAfterMs?: number
}

/** Throws CloudError `unavailable` where no answer comes, and the signal's reason. */
export type Send = (request: CloudRequest, signal: AbortSignal) => Promise<CloudResponse>

const TIMEOUT = 10_000
const MAX_ANSWER = 16 << 20
const MAX_RETRY_AFTER = 300_000

export const send: Send = async ({ what, method, url, headers, body, timeoutMs = TIMEOUT }, signal) => {
  const deadline = AbortSignal.timeout(timeoutMs)
  try {
    const response = await fetch(url, {
      method,
      redirect: 'error',
      signal: AbortSignal.any([signal, deadline]),
      ...(headers === undefined ? {} : { headers }),
      ...(body === undefined ? {} : { body }),
    })
    const retryAfterMs = retryAfter(response.headers.get('retry-after'), Date.now())
    return {
      status: response.status,
      text: await bounded(response, what),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof CloudError) throw error
    const why = deadline.aborted ? `no answer within ${timeoutMs / 1000} s` : reason(error)
    throw new CloudError('unavailable', `${what}: ${new URL(url).host}: ${why}`)
  }
}

async function bounded(response: Response, what: string): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength
    if (length > MAX_ANSWER)
      throw new CloudError('bad-answer', `${what}: the answer is longer than ${MAX_ANSWER} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

/** What lies below fetch's "fetch failed". */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  if (hasCode(cause, 'ECONNREFUSED')) return 'nobody listens there'
  return foreign(cause instanceof Error ? cause.message : error.message)
}

/** Milliseconds; seconds or a date are written (RFC 9110, 10.2.3). Undefined for anything else. */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (header === null) return undefined
  const ms = /^\d{1,9}$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now
  return Number.isNaN(ms) ? undefined : Math.min(MAX_RETRY_AFTER, Math.max(0, ms))
}
