/**
 * The frames between the shim (native/shim/agent.c) and the agent: one call per connection, over a unix stream socket. Numbers are in network order.
 *
 *     call:   u32 length of what follows | u8 version | "KEY=VALUE\0"... "\0" | stdin, to the end
 *     answer: u32 length of what follows | u8 version | u8 kind | u8 exit code | u32 length of stderr | stderr | stdout, to the end
 *
 * Keys of a call: the caller's CNI_* variables and its tracing context (TRACEPARENT, TRACESTATE, BAGGAGE), and what the shim adds: HEDDLE_TYPE (the
 * name it was started under), HEDDLE_PID, HEDDLE_CWD, HEDDLE_NETNS (`device:inode` of its network namespace), HEDDLE_TARGET (the same of what
 * CNI_NETNS leads to from where it stands).
 * Kind 0 is an answer. Kind 1 means "not for me, nothing was done": the shim runs the standalone program.
 */

import { MAX_JSON_BYTES } from '#cni/json.ts'
import type { Answer } from '#cni/shell.ts'

export const protocolVersion = 1

/** stdin at its largest, and the environment. */
export const MAX_CALL_BYTES = MAX_JSON_BYTES + 256 * 1024

/** A frame that is none, or one of a version that is not spoken here. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
  readonly code: 'too-large' | 'wrong-version' | 'malformed'

  constructor(code: ProtocolError['code'], message: string) {
    super(message)
    this.code = code
  }
}

export interface CallFrame {
  readonly env: Readonly<Record<string, string>>
  readonly stdin: string
}

/** Length of the whole frame that starts with these bytes; undefined while fewer than four have come. Throws ProtocolError. */
export function frameLength(bytes: Buffer): number | undefined {
  if (bytes.length < 4) return undefined
  const length = bytes.readUInt32BE(0)
  if (length > MAX_CALL_BYTES)
    throw new ProtocolError('too-large', `a call of ${length} bytes; ${MAX_CALL_BYTES} are allowed`)
  return length + 4
}

/** Reads a complete call frame. Throws ProtocolError. */
export function decodeCall(frame: Buffer): CallFrame {
  if (frame[4] !== protocolVersion) {
    throw new ProtocolError(
      'wrong-version',
      `protocol version ${frame[4] ?? 'missing'}; ${protocolVersion} is spoken here`,
    )
  }
  // Decoded once and cut then: a character lies on one side of a NUL.
  const text = frame.toString('utf8', 5)
  const pairs: [string, string][] = []
  let at = 0
  for (;;) {
    const end = text.indexOf('\0', at)
    if (end < 0) throw new ProtocolError('malformed', 'the environment of a call does not end')
    if (end === at) break
    const item = text.slice(at, end)
    const equals = item.indexOf('=')
    if (equals < 1) throw new ProtocolError('malformed', `${JSON.stringify(item.slice(0, 64))} is no KEY=VALUE`)
    pairs.push([item.slice(0, equals), item.slice(equals + 1)])
    at = end + 1
  }
  return { env: Object.fromEntries(pairs), stdin: text.slice(at + 1) }
}

/** What a shim would send; for tests and for callers without a shim. */
export function encodeCall({ env, stdin }: CallFrame): Buffer {
  const variables = Object.entries(env).map(([key, value]) => `${key}=${value}\0`)
  return withLength(Buffer.from([protocolVersion]), Buffer.from(`${variables.join('')}\0`), Buffer.from(stdin))
}

export function encodeAnswer({ exitCode, stdout, stderr }: Answer): Buffer {
  const head = Buffer.alloc(7)
  head[0] = protocolVersion
  head[2] = exitCode
  const err = Buffer.from(stderr)
  head.writeUInt32BE(err.length, 3)
  return withLength(head, err, Buffer.from(stdout))
}

/** Tells the shim to run the standalone program. */
export const encodeElsewhere = (): Buffer => withLength(Buffer.from([protocolVersion, 1, 0, 0, 0, 0, 0]))

/** Reads an answer as the shim does; undefined for "elsewhere". Throws ProtocolError. */
export function decodeAnswer(frame: Buffer): Answer | undefined {
  if (frame.length < 11 || frame.readUInt32BE(0) !== frame.length - 4 || frame[4] !== protocolVersion) {
    throw new ProtocolError('malformed', `${frame.length} bytes are no answer`)
  }
  if (frame[5] !== 0) return undefined
  const errLength = frame.readUInt32BE(7)
  return {
    exitCode: frame[6] ?? 1,
    stderr: frame.toString('utf8', 11, 11 + errLength),
    stdout: frame.toString('utf8', 11 + errLength),
  }
}

function withLength(...parts: readonly Buffer[]): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(parts.reduce((sum, part) => sum + part.length, 0))
  return Buffer.concat([length, ...parts])
}
