/** What can go wrong between Heddle and iptables. */

export type IptablesErrorCode =
  /** The machine lacks the program. */
  | 'no-program'
  /** The program or the kernel refused the text. */
  | 'refused'
  /** The program did not end in time, or others held the lock of iptables for too long. */
  | 'timeout'
  /** Others changed the table during each of several tries. */
  | 'contended'
  /** A word that cannot be part of a rule. */
  | 'bad-word'

export class IptablesError extends Error {
  override readonly name = 'IptablesError'
  readonly code: IptablesErrorCode

  constructor(code: IptablesErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
