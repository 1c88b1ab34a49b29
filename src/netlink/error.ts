/** What the kernel says when it refuses. */

import { errnoName, type ErrnoName } from '#sys/errno.ts'

/**
 * A netlink request failed. `code` is the errno's name; `reason` the kernel's own words (extended acknowledgement) where
 * it had any, `offset` the byte of the request that it points at.
 */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly code: ErrnoName
  readonly errno: number
  /** The request in the words of `ip`: `route replace 10.244.1.0/24`. */
  readonly op: string
  readonly reason: string | undefined
  readonly offset: number | undefined

  constructor(op: string, errno: number, reason?: string, offset?: number, options?: ErrorOptions) {
    const code = errnoName(errno)
    super(`${op}: ${reason === undefined ? code : `${reason} (${code})`}`, options)
    this.op = op
    this.errno = errno
    this.code = code
    this.reason = reason
    this.offset = offset
  }
}
