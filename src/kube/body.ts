import type { IncomingMessage } from 'node:http'
import { errorOfFailure, KubeError } from './errors.ts'
import { isArray, isObject } from './json.ts'
import type { Json } from './json.ts'
import { abortError } from './transport.ts'

/** No answer is read beyond this: 500 objects of etcd's largest size do not come near it. */
const LIMIT = 512 * 1024 * 1024

/** True for whatever JSON.parse answers. */
const isParsed = (value: unknown): value is Json =>
  value === null || ['string', 'number', 'boolean'].includes(typeof value) || isArray(value) || isObject(value)

/** Parses JSON. @throws SyntaxError */
export function parseJson(text: string): Json {
  const value: unknown = JSON.parse(text)
  if (!isParsed(value)) throw new SyntaxError('no JSON value')
  return value
}

/**
 * Reads the body of an answer.
 * @throws KubeError `bad-response` where it is too large, `unreachable` where the connection breaks, or the signal's.
 */
export async function readText(response: IncomingMessage, signal: AbortSignal, object: string): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of response) {
      const bytes: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk))
      size += bytes.length
      if (size > LIMIT) throw new KubeError('bad-response', `the answer is larger than ${LIMIT} bytes`, { object })
      chunks.push(bytes)
    }
  } catch (error) {
    throw signal.aborted ? abortError({ signal, object }) : errorOfFailure(error, object)
  }
  return Buffer.concat(chunks).toString('utf8')
}
