/** What can go wrong with a request to Keystone, Neutron or Nova, in words that a program can act on. */

/**
 * `conflict` is every 409 that has no code of its own; `over-quota` is a limit of the project, in all its forms; `subnet-full` has no address
 * left; `precondition` is a revision that is no longer the object's; `paused` was not sent, because the service failed too often.
 */
export type OpenStackErrorCode =
  | 'aborted'
  | 'address-in-use'
  | 'bad-request'
  | 'bad-response'
  | 'config'
  | 'conflict'
  | 'forbidden'
  | 'no-endpoint'
  | 'not-found'
  | 'over-quota'
  | 'paused'
  | 'precondition'
  | 'server'
  | 'subnet-full'
  | 'throttled'
  | 'timeout'
  | 'tls'
  | 'unauthorized'
  | 'unavailable'
  | 'unreachable'

export interface OpenStackErrorDetails {
  /** HTTP status; 0 where there was no answer. */
  readonly status?: number
  /** The service's own name of the error (`IpAddressAlreadyAllocated`, `itemNotFound`). */
  readonly type?: string
  /** What was being asked, `PUT port 4f…`. */
  readonly object?: string
  /** Milliseconds after which the service wants to be asked again. */
  readonly retryAfterMs?: number | undefined
  /** The request may have been carried out although there is no answer: look before doing it again. */
  readonly perhapsDone?: boolean
  readonly cause?: unknown
}

const REMEDY: { readonly [code in OpenStackErrorCode]?: string } = {
  'address-in-use': 'choose another address, or find who holds it (openstack port list --fixed-ip ip-address=ADDRESS)',
  forbidden:
    'the policy does not let this user do it: use a network that the project owns, or have the policy changed (fixed_ips and allowed_address_pairs of a shared network need its owner)',
  'no-endpoint': 'check region and interface (public, internal, admin) against `openstack catalog list`',
  'over-quota': 'delete what is unused or raise the quota (openstack quota set)',
  paused: 'it is tried again by itself; look at the errors before this one for the reason',
  server: "look into the service's own log",
  'subnet-full': 'add a subnet to the network, or widen its allocation pools',
  throttled: 'the service sheds load: ask less often',
  timeout: 'the service or the way to it is too slow or stuck: check its health and load, then the network',
  tls: 'check cacert and the name in the URL against the certificate of the server',
  unauthorized: 'check user, password or application credential, project and domains; it may have expired',
  unavailable: 'the service or its database is down for the moment',
  unreachable: 'check that the service runs and that the address and port in auth_url or in the catalog are right',
}

/** A failed request. The message names the request, the reason and the remedy; it never holds a password or token. */
export class OpenStackError extends Error {
  readonly code: OpenStackErrorCode
  /** The reason alone: without object and remedy. */
  readonly what: string
  readonly status: number
  readonly type: string
  readonly object: string
  readonly retryAfterMs: number | undefined
  readonly perhapsDone: boolean

  constructor(code: OpenStackErrorCode, message: string, details: OpenStackErrorDetails = {}) {
    const object = details.object ?? ''
    const remedy = REMEDY[code]
    super(`${object === '' ? '' : `${object}: `}${message}${remedy === undefined ? '' : ` (${remedy})`}`, {
      cause: details.cause,
    })
    this.name = 'OpenStackError'
    this.code = code
    this.what = message
    this.status = details.status ?? 0
    this.type = details.type ?? ''
    this.object = object
    this.retryAfterMs = details.retryAfterMs
    this.perhapsDone = details.perhapsDone ?? false
  }
}

/** The same error of a request that came before the one that matters: whatever became of that one, this one was never sent. */
export function before(error: OpenStackError): OpenStackError {
  const { code, what, status, type, object, retryAfterMs } = error
  return new OpenStackError(code, what, { status, type, object, retryAfterMs, perhapsDone: false, cause: error })
}

/** True for an OpenStackError with one of the codes. */
export const isCode = (error: unknown, ...codes: readonly OpenStackErrorCode[]): error is OpenStackError =>
  error instanceof OpenStackError && codes.includes(error.code)

/** A service is at fault when these come back; its "no" is an answer. */
const AT_FAULT: readonly OpenStackErrorCode[] = [
  'bad-response',
  'server',
  'timeout',
  'tls',
  'unavailable',
  'unreachable',
]

export const isAtFault = (error: unknown): boolean => isCode(error, ...AT_FAULT)

/** The error for a request that got no answer: by the code of Node's error. */
export function errorOfFailure(cause: unknown, object: string, sent: boolean): OpenStackError {
  if (cause instanceof OpenStackError) return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const tls = /CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO/.test(code) || /certificate/i.test(text)
  const message = code === '' || text.includes(code) ? text : `${text} (${code})`
  return new OpenStackError(tls ? 'tls' : 'unreachable', message, { object, perhapsDone: sent, cause })
}
