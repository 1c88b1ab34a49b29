/** What the lab tells its user when it cannot do something. */

export type LabErrorCode =
  | 'bad-spec'
  | 'bad-name'
  | 'exists'
  | 'not-found'
  | 'busy'
  | 'not-permitted'
  | 'not-built'
  | 'no-kernel'
  | 'damaged'
  | 'failed'

/** The message says what happened to which object and why; `remedy` what to do about it. */
export class LabError extends Error {
  override readonly name = 'LabError'
  readonly code: LabErrorCode
  readonly remedy: string

  constructor(code: LabErrorCode, message: string, remedy: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.remedy = remedy
  }
}

/** The text of anything thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
