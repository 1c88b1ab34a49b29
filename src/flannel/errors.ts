/** What can be wrong with what flannel's users and peers wrote. */

/** `bad-net-conf`: a field of net-conf.json; `unsupported-backend`: a backend that is not built; `bad-annotation`: a Node's annotation; `bad-option`: a flag. */
export type FlannelErrorCode = 'bad-net-conf' | 'unsupported-backend' | 'bad-annotation' | 'bad-option'

/** Says which field of which object holds which value, why it is refused, and what to write instead. */
export class FlannelError extends Error {
  override readonly name = 'FlannelError'
  readonly code: FlannelErrorCode
  /** The field's path (`Backend.VNI`) or the annotation's name. */
  readonly field: string
  readonly remedy: string

  constructor(code: FlannelErrorCode, field: string, message: string, remedy: string) {
    super(`${message}; ${remedy}`)
    this.code = code
    this.field = field
    this.remedy = remedy
  }
}

/** A foreign value for a message: JSON text without control characters, at most 80 characters. Never throws. */
export function shown(value: unknown): string {
  const text =
    typeof value === 'object' && value !== null ? `a JSON ${Array.isArray(value) ? 'array' : 'object'}` : scalar(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

const scalar = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value.slice(0, 200)) : String(value)
