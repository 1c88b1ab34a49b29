/** The command did what was asked, and what it found is fine. */
export const EXIT_OK = 0
/** It could not do it, or what it checked is broken. */
export const EXIT_FAILED = 1
/** The command line itself is wrong. */
export const EXIT_USAGE = 2

export type CliErrorCode = 'USAGE' | 'NOT_FOUND' | 'NOT_PERMITTED' | 'BUSY' | 'UNAVAILABLE' | 'FAILED'

/** An error for the person at the terminal: what happened to which object, why, and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly code: CliErrorCode
  readonly why: string | undefined
  readonly remedy: string | undefined

  constructor(
    code: CliErrorCode,
    message: string,
    details: { readonly why?: string; readonly remedy?: string; readonly cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? {} : { cause: details.cause })
    this.code = code
    this.why = details.why
    this.remedy = details.remedy
  }
}

export const usageError = (message: string, remedy: string): CliError => new CliError('USAGE', message, { remedy })
