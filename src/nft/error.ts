/** What can go wrong between Heddle and nf_tables. */

export type NftErrorCode =
  /** A name, comment or value that cannot be part of a table. */
  | 'bad-name'
  | 'bad-value'
  | 'bad-rule'
  /** The machine lacks the `nft` program. */
  | 'no-nft'
  /** `nft` or the kernel refused the text. */
  | 'refused'
  /** The kernel refused a netlink request. */
  | 'kernel'
  /** The kernel did not answer, or `nft` did not end, in time. */
  | 'timeout'
  /** Others changed the ruleset during each of several tries. */
  | 'contended'
  /** An answer that does not have the form the kernel documents. */
  | 'malformed'

export interface NftErrorDetails {
  /** The kernel's error number, positive. */
  readonly errno?: number
  /** ENOENT, EEXIST, … */
  readonly errnoName?: string
  /** Line of the text, from 1. */
  readonly line?: number
  /** That line. */
  readonly text?: string
  /** Position of the failing element in the request, from 0. */
  readonly element?: number
  readonly cause?: unknown
}

export class NftError extends Error {
  override readonly name = 'NftError'
  readonly code: NftErrorCode
  readonly errno: number | undefined
  readonly errnoName: string | undefined
  readonly line: number | undefined
  readonly text: string | undefined
  readonly element: number | undefined

  constructor(code: NftErrorCode, message: string, details: NftErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.errno = details.errno
    this.errnoName = details.errnoName
    this.line = details.line
    this.text = details.text
    this.element = details.element
  }
}
