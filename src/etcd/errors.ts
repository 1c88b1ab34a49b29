/** What can go wrong with a datastore that speaks etcd's v3 protocol. */

/**
 * `unavailable`: no server, no leader, or the connection broke; `timeout`: no answer in time; `unauthenticated` and `forbidden`: user, password or role;
 * `compacted`: the revision asked for is no longer kept; `not-found`: the lease has ended; `full`: the server takes nothing more; `invalid`: the server
 * refuses the request as such; `bad-answer`: what came is no answer; `too-large`: an answer over the limit; `tls`; `config`; `aborted`; `server`: the rest.
 */
export type EtcdErrorCode =
  | 'unavailable'
  | 'timeout'
  | 'unauthenticated'
  | 'forbidden'
  | 'compacted'
  | 'not-found'
  | 'full'
  | 'invalid'
  | 'bad-answer'
  | 'too-large'
  | 'tls'
  | 'config'
  | 'aborted'
  | 'server'

const REMEDY: { readonly [code in EtcdErrorCode]?: string } = {
  unavailable: 'check that etcd runs, has a leader, and that its endpoints are right',
  timeout: 'etcd or the way to it is too slow or stuck: check its health and load, then the network',
  unauthenticated: 'check --etcd-username and --etcd-password, or the client certificate',
  forbidden: 'grant the user a role that may read and write below the prefix',
  full: 'etcd has reached its quota: compact, defragment and disarm the alarm',
  tls: 'check --etcd-cafile, --etcd-certfile and --etcd-keyfile against the certificate of the server',
}

/** The message names the request and the endpoint, the reason, and (where one is known) the remedy. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError'
  readonly code: EtcdErrorCode
  /** The request never left, so that asking again cannot do anything twice. */
  readonly isUnsent: boolean
  /** With `compacted`: the oldest revision that is kept; 0 where it was not said. */
  readonly compactRevision: number

  constructor(
    code: EtcdErrorCode,
    what: string,
    message: string,
    details: { readonly isUnsent?: boolean; readonly compactRevision?: number; readonly cause?: unknown } = {},
  ) {
    const remedy = REMEDY[code]
    super(`${what}: ${message}${remedy === undefined ? '' : ` (${remedy})`}`, { cause: details.cause })
    this.code = code
    this.isUnsent = details.isUnsent ?? false
    this.compactRevision = details.compactRevision ?? 0
  }
}

/** Source: google.golang.org/grpc/codes, and etcd's api/v3rpc/rpctypes for what it means by them. */
export function errorOfStatus(status: number, message: string, what: string): EtcdError {
  const text = `${message.slice(0, 300)} (gRPC status ${status})`
  return new EtcdError(codeOf(status, message), what, text)
}

function codeOf(status: number, message: string): EtcdErrorCode {
  switch (status) {
    case 1:
      return 'aborted'
    case 3:
      // Tokens are refused under three names: a wrong one, none, and one from before the users changed.
      if (/invalid auth token|user name is empty|revision of auth store is old|authentication failed/.test(message))
        return 'unauthenticated'
      return 'invalid'
    case 4:
      return 'timeout'
    case 5:
      return 'not-found'
    case 7:
      return 'forbidden'
    case 8:
      return 'full'
    case 11:
      return /compacted/.test(message) ? 'compacted' : 'invalid'
    case 14:
      return 'unavailable'
    case 16:
      return 'unauthenticated'
    default:
      return 'server'
  }
}

/** The error for a connection or stream that broke. */
export function errorOfFailure(cause: unknown, what: string, isUnsent: boolean): EtcdError {
  if (cause instanceof EtcdError) return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const tls = /CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO/.test(code) || /certificate|SSL routines/i.test(text)
  const message = code === '' || text.includes(code) ? text : `${text} (${code})`
  return new EtcdError(tls ? 'tls' : 'unavailable', what, message, { isUnsent, cause })
}
