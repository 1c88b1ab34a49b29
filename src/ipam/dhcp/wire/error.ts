/** A frame or message that is not what it should be. From outside, so it is dropped and counted, never fatal. */
export class DhcpWireError extends Error {
  override readonly name = 'DhcpWireError'
  readonly code: 'truncated' | 'malformed' | 'checksum' | 'not-for-us' | 'too-long'

  constructor(code: DhcpWireError['code'], message: string) {
    super(message)
    this.code = code
  }
}

export const truncated = (what: string): DhcpWireError => new DhcpWireError('truncated', `${what} is cut short`)
export const malformed = (what: string): DhcpWireError => new DhcpWireError('malformed', what)
