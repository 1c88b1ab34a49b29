import type { Json, JsonObject } from '../json.ts'

/** One reason among several in a Status (`metav1.StatusCause`). */
export interface Cause {
  readonly reason: string
  readonly message: string
  readonly field?: string
}

/** The resource that a Status speaks of, as `metav1.StatusDetails` names it. */
export interface Subject {
  readonly group: string
  readonly plural: string
}

/** An error that the API answers with: carries the Status object in the shape that a kube-apiserver sends. */
export class ApiError extends Error {
  readonly code: number
  readonly reason: string
  readonly status: JsonObject
  readonly retryAfter: number | undefined

  constructor(code: number, reason: string, message: string, details?: JsonObject) {
    super(message)
    this.name = 'ApiError'
    this.code = code
    this.reason = reason
    const retry = details?.['retryAfterSeconds']
    this.retryAfter = typeof retry === 'number' ? retry : undefined
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      ...(reason === '' ? {} : { reason }),
      ...(details === undefined ? {} : { details }),
      code,
    }
  }
}

const qualified = (of: Subject): string => (of.group === '' ? of.plural : `${of.plural}.${of.group}`)

const detailsOf = (of: Subject, name: string, more: { readonly [key: string]: Json } = {}): JsonObject => ({
  ...(name === '' ? {} : { name }),
  ...(of.group === '' ? {} : { group: of.group }),
  kind: of.plural,
  ...more,
})

const causeJson = (cause: Cause): JsonObject => ({
  reason: cause.reason,
  message: cause.message,
  ...(cause.field === undefined ? {} : { field: cause.field }),
})

/** 404 for an object. */
export function notFound(of: Subject, name: string): ApiError {
  return new ApiError(404, 'NotFound', `${qualified(of)} "${name}" not found`, detailsOf(of, name))
}

/** 404 for a path or resource that is not served. */
export function noSuchPath(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {})
}

/** 409 on create. */
export function alreadyExists(of: Subject, name: string): ApiError {
  return new ApiError(409, 'AlreadyExists', `${qualified(of)} "${name}" already exists`, detailsOf(of, name))
}

/** 409 on a write that names an old resourceVersion, another uid, or fields that someone else owns. */
export function conflict(of: Subject, name: string, why?: string, causes: readonly Cause[] = []): ApiError {
  const text = why ?? 'the object has been modified; please apply your changes to the latest version and try again'
  return new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(of)} "${name}": ${text}`,
    detailsOf(of, name, causes.length === 0 ? {} : { causes: causes.map(causeJson) }),
  )
}

/** A field that validation refused; `detail` completes the kind of refusal. */
export interface FieldError {
  readonly field: string
  readonly reason:
    | 'FieldValueRequired'
    | 'FieldValueInvalid'
    | 'FieldValueNotSupported'
    | 'FieldValueForbidden'
    | 'FieldValueTypeInvalid'
  readonly message: string
}

/** 422: the object was understood, and its values are refused. */
export function invalid(kind: string, group: string, name: string, errors: readonly FieldError[]): ApiError {
  const texts = errors.map((error) => `${error.field}: ${error.message}`)
  const list = texts.length === 1 ? texts.join('') : `[${texts.join(', ')}]`
  const label = group === '' ? kind : `${kind}.${group}`
  return new ApiError(422, 'Invalid', `${label} "${name}" is invalid: ${list}`, {
    ...(name === '' ? {} : { name }),
    ...(group === '' ? {} : { group }),
    kind,
    causes: errors.map((error) => causeJson(error)),
  })
}

/** 400: the request itself is malformed. */
export const badRequest = (message: string): ApiError => new ApiError(400, 'BadRequest', message)

/** 401: no token, or one that is not known. */
export const unauthorized = (): ApiError => new ApiError(401, 'Unauthorized', 'Unauthorized')

/** 403 for an action on a resource. */
export function forbidden(of: Subject, name: string, why: string, causes: readonly Cause[] = []): ApiError {
  return new ApiError(
    403,
    'Forbidden',
    `${qualified(of)} "${name}" is forbidden: ${why}`,
    detailsOf(of, name, causes.length === 0 ? {} : { causes: causes.map(causeJson) }),
  )
}

/** 405: the verb is not served for this resource. */
export const methodNotAllowed = (): ApiError =>
  new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource', {})

/** 410: the history that a watch, an exact list or a continue token needs is gone. */
export const expired = (message: string): ApiError => new ApiError(410, 'Expired', message)

/** 504 for a resourceVersion that this server has not reached (it may have lost its data). */
export function tooLargeVersion(asked: number, current: number): ApiError {
  return new ApiError(504, 'Timeout', `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  })
}

/** 415: a body or patch format that this resource does not take. */
export function unsupportedMediaType(got: string, accepted: readonly string[]): ApiError {
  return new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')} (got ${got === '' ? 'none' : got})`,
    {},
  )
}

/** 413: the body is over the limit. */
export const tooLarge = (limit: number): ApiError =>
  new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${limit}`)

/** The Success that DELETE answers for kinds without graceful deletion. */
export function deleted(of: Subject, name: string, uid: string | undefined): JsonObject {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: detailsOf(of, name, uid === undefined ? {} : { uid }),
  }
}
