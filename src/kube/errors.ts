import { isObject, textAt } from './json.ts'
import type { Json } from './json.ts'

/** What went wrong with a request to the API, in words that a program can act on. */
export type KubeErrorCode =
  | 'aborted'
  | 'already-exists'
  | 'bad-request'
  | 'bad-response'
  | 'config'
  | 'conflict'
  | 'forbidden'
  | 'gone'
  | 'invalid'
  | 'not-found'
  | 'server'
  | 'timeout'
  | 'tls'
  | 'too-many-requests'
  | 'unauthorized'
  | 'unreachable'

/** What a KubeError is made of, beside code and message. */
export interface KubeErrorDetails {
  /** HTTP status; 0 where there was no answer. */
  readonly status?: number
  /** `reason` of the Status object (`NotFound`, `Expired` …). */
  readonly reason?: string
  /** What was being asked, `GET nodes/n1`. */
  readonly object?: string
  /** Seconds after which the server wants to be asked again. */
  readonly retryAfter?: number | undefined
  readonly cause?: unknown
}

const REMEDY: { readonly [code in KubeErrorCode]?: string } = {
  unauthorized: 'check the token or client certificate (it may have expired, or belong to another cluster)',
  forbidden: 'grant this verb on this resource to the user or service account (kubectl auth can-i … --as …)',
  timeout: 'the API server or the way to it is too slow or stuck: check its health and load, then the network',
  unreachable: 'check that the API server runs and that its address and port are right',
  tls: 'check certificate-authority and the server name in the kubeconfig against the certificate of the server',
  'too-many-requests': 'the API server sheds load: ask less often',
}

/** A failed request. The message names the request, the reason, and (where one is known) the remedy. */
export class KubeError extends Error {
  readonly code: KubeErrorCode
  readonly status: number
  readonly reason: string
  readonly object: string
  readonly retryAfter: number | undefined

  constructor(code: KubeErrorCode, message: string, details: KubeErrorDetails = {}) {
    const object = details.object ?? ''
    const remedy = REMEDY[code]
    super(`${object === '' ? '' : `${object}: `}${message}${remedy === undefined ? '' : ` (${remedy})`}`, {
      cause: details.cause,
    })
    this.name = 'KubeError'
    this.code = code
    this.status = details.status ?? 0
    this.reason = details.reason ?? ''
    this.object = object
    this.retryAfter = details.retryAfter
  }
}

function codeOf(status: number, reason: string): KubeErrorCode {
  switch (status) {
    case 401:
      return 'unauthorized'
    case 403:
      return 'forbidden'
    case 404:
      return 'not-found'
    case 409:
      return reason === 'AlreadyExists' ? 'already-exists' : 'conflict'
    case 410:
      return 'gone'
    case 422:
      return 'invalid'
    case 429:
      return 'too-many-requests'
    case 408:
    case 504:
      return 'timeout'
    default:
      return status >= 500 ? 'server' : 'bad-request'
  }
}

/** The error for an answer that is no success: from its Status object, or from what there is instead of one. */
export function errorOfAnswer(status: number, body: Json | undefined, object: string, retryAfter?: number): KubeError {
  const reason = textAt(body, 'reason') ?? ''
  const text = isObject(body) ? textAt(body, 'message') : typeof body === 'string' ? body.slice(0, 200) : undefined
  const message =
    text === undefined || text === ''
      ? `HTTP ${status}`
      : `${text} (HTTP ${status}${reason === '' ? '' : ` ${reason}`})`
  return new KubeError(codeOf(status, reason), message, { status, reason, object, retryAfter })
}

/** The error for a request that failed without an answer. */
export function errorOfFailure(cause: unknown, object: string): KubeError {
  if (cause instanceof KubeError) return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  if (code === 'ABORT_ERR') return new KubeError('aborted', 'the request was aborted', { object, cause })
  const tls = /CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO/.test(code) || /certificate/i.test(text)
  return new KubeError(tls ? 'tls' : 'unreachable', code === '' || text.includes(code) ? text : `${text} (${code})`, {
    object,
    cause,
  })
}
