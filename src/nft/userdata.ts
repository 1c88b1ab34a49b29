/**
 * User data: bytes that the kernel keeps for nft. A list of one-byte type, one-byte length, value; comments are NUL-terminated text.
 * Source: libnftnl include/libnftnl/udata.h.
 */

import { NftError } from './error.ts'
import { commentText, MAX_COMMENT } from './quote.ts'

/** The type of a comment depends on the object it is about. */
export const commentType = { table: 0, chain: 0, rule: 0, element: 0, set: 7 } as const

export type Commented = keyof typeof commentType

/** The user data that makes `nft list` show the comment. Throws `bad-value` for text that nft could not print as it is: cut or clean it with `commentText` first. */
export function encodeComment(on: Commented, comment: string): Uint8Array {
  if (commentText(comment) !== comment)
    throw new NftError(
      'bad-value',
      `${JSON.stringify(comment.slice(0, 160))} is no comment: it may have ${MAX_COMMENT} bytes and neither quotes nor control characters`,
    )
  const text = Buffer.from(comment, 'utf8')
  const bytes = new Uint8Array(text.length + 3)
  bytes.set([commentType[on], text.length + 1])
  bytes.set(text, 2)
  return bytes
}

const utf8 = new TextDecoder()

/** The comment in user data; undefined when there is none or the bytes are no such list. */
export function decodeComment(on: Commented, bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined
  for (let at = 0; at + 2 <= bytes.length;) {
    const [type = 0, length = 0] = bytes.subarray(at, at + 2)
    const value = bytes.subarray(at + 2, at + 2 + length)
    if (value.length < length) return undefined
    if (type === commentType[on]) {
      const nul = value.indexOf(0)
      return utf8.decode(nul === -1 ? value : value.subarray(0, nul))
    }
    at += 2 + length
  }
  return undefined
}
