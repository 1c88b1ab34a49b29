/** The errors of the CNI protocol: one class, the table of codes, and a helper for each that a plugin throws. Source: CNI SPEC.md §5, "Error". */

import type { JsonObject } from './json.ts'
import { refusalOf } from './refusal.ts'

/** Codes by meaning. 1–99 belong to the specification, 100 and above to plugins; 999 is what the Go library answers for an error without a code. */
export const cniErrorCodes = {
  /** The configuration's cniVersion is not one that the plugin speaks. */
  incompatibleVersion: 1,
  /** A field of the configuration is known but not supported here; the message names key and value. */
  unsupportedField: 2,
  /** The container does not exist: the runtime need not clean up. */
  unknownContainer: 3,
  /** CNI_* variables missing or malformed; the message names them. */
  invalidEnvironment: 4,
  /** Reading, writing or a kernel request failed. */
  ioFailure: 5,
  /** Bytes that are not the JSON they should be. */
  decodingFailure: 6,
  /** The configuration contradicts itself or the schema. */
  invalidConfig: 7,
  /** CNI_NETNS is the plugin's own namespace, or no namespace at all. */
  invalidNetns: 8,
  /** Nothing is wrong with the request; the same one may succeed later. */
  tryAgain: 11,
  /** STATUS: an ADD cannot be served. */
  unavailable: 50,
  /** STATUS: an ADD cannot be served, and running containers may have lost connectivity. */
  limitedConnectivity: 51,
  /** An error nobody gave a code. */
  internal: 999,
} as const

export type CniErrorKind = keyof typeof cniErrorCodes

const kinds = new Map<number, CniErrorKind>()
for (const kind of Object.keys(cniErrorCodes)) if (isKind(kind)) kinds.set(cniErrorCodes[kind], kind)

function isKind(text: string): text is CniErrorKind {
  return Object.hasOwn(cniErrorCodes, text)
}

/** What a plugin answers instead of a result: `code` and `msg` for the runtime, `details` (one sentence on the cause or the remedy) for its user. */
export class CniError extends Error {
  override readonly name = 'CniError'
  /** The number in the answer; any number from 100 on is a plugin's own. */
  readonly code: number
  readonly msg: string
  readonly details: string | undefined

  constructor(code: CniErrorKind | number, msg: string, details?: string, options?: ErrorOptions) {
    super(details === undefined || details === '' ? msg : `${msg}: ${details}`, options)
    this.code = typeof code === 'number' ? code : cniErrorCodes[code]
    this.msg = msg
    this.details = details === '' ? undefined : details
  }

  /** The code's meaning; undefined for a plugin's own code. */
  get kind(): CniErrorKind | undefined {
    return kinds.get(this.code)
  }

  /** The error object of the protocol. */
  toJSON(): JsonObject {
    const details = this.details === undefined ? {} : { details: this.details }
    return { code: this.code, msg: this.msg, ...details }
  }
}

type Thrown = (msg: string, details?: string, options?: ErrorOptions) => CniError

const of =
  (kind: CniErrorKind): Thrown =>
  (msg, details, options) =>
    new CniError(kind, msg, details, options)

export const incompatibleVersion: Thrown = of('incompatibleVersion')
export const unsupportedField: Thrown = of('unsupportedField')
export const unknownContainer: Thrown = of('unknownContainer')
export const invalidEnvironment: Thrown = of('invalidEnvironment')
export const ioFailure: Thrown = of('ioFailure')
export const decodingFailure: Thrown = of('decodingFailure')
export const invalidConfig: Thrown = of('invalidConfig')
export const invalidNetns: Thrown = of('invalidNetns')
export const tryAgain: Thrown = of('tryAgain')
export const unavailable: Thrown = of('unavailable')
export const limitedConnectivity: Thrown = of('limitedConnectivity')
export const internalError: Thrown = of('internal')

/**
 * Any thrown value as a CniError: itself; what the kernel refused by the table in `refusal.ts`; or code 999 with its message (or the code given). The
 * original is the `cause`. Never a stack trace.
 */
export function toCniError(thrown: unknown, kind?: CniErrorKind): CniError {
  if (thrown instanceof CniError) return thrown
  const refusal = kind === undefined ? refusalOf(thrown) : undefined
  return new CniError(refusal?.kind ?? kind ?? 'internal', messageOf(thrown), refusal?.remedy, { cause: thrown })
}

/** Several failures of one call as one error: the first one's code, all messages. For a DEL or GC, which goes on after a failure. */
export function joinErrors(errors: readonly unknown[]): CniError | undefined {
  const [first, ...rest] = errors
  if (errors.length === 0) return undefined
  const leader = toCniError(first)
  if (rest.length === 0) return leader
  const messages = errors.map((error) => messageOf(error))
  return new CniError(leader.code, messages.join('; '), undefined, { cause: new AggregateError(errors) })
}

/** The message of any thrown value, on one line and of bounded length. */
export function messageOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line === '' ? 'unknown error' : line.slice(0, 4096)
}
