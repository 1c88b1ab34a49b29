import type { ServerResponse } from 'node:http'
import type { JsonObject } from '../json.ts'
import type { ApiObject } from './object.ts'
import { ApiError } from './status.ts'

const texts = new WeakMap<ApiObject, string>()

/** The JSON text of an object. Stored objects never change, so each is written once for all lists and watches. */
export function objectText(object: ApiObject): string {
  const known = texts.get(object)
  if (known !== undefined) return known
  const text = JSON.stringify(object)
  texts.set(object, text)
  return text
}

/** Sends JSON text. */
export function sendText(response: ServerResponse, code: number, text: string, type = 'application/json'): void {
  const body = Buffer.from(text)
  response.writeHead(code, {
    'Content-Type': type,
    'Content-Length': body.length,
    'Cache-Control': 'no-cache, private',
  })
  response.end(body)
}

/** Sends a JSON object. */
export function sendJson(response: ServerResponse, code: number, value: JsonObject, type?: string): void {
  sendText(response, code, JSON.stringify(value), type)
}

/** The Status for whatever was thrown. */
export function statusOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new ApiError(500, 'InternalError', `Internal error occurred: ${message}`)
}

/** Answers with a Status; ends the connection where the answer has begun. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const failure = statusOf(error)
  if (failure.retryAfter !== undefined) response.setHeader('Retry-After', String(failure.retryAfter))
  sendJson(response, failure.code, failure.status)
}

/** The value of a Warning header for a text (RFC 7234 section 5.5, code 299). */
export const warning = (text: string): string =>
  `299 - "${text.replaceAll(/[^\x20-\x7E]/g, '?').replaceAll(/["\\]/g, String.raw`\$&`)}"`
