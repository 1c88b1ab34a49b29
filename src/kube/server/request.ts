import type { IncomingMessage } from 'node:http'
import { parse as parseYaml } from 'yaml'
import { isArray, isObject } from '../json.ts'
import type { Json } from '../json.ts'
import type { WriteOptions } from './prepare.ts'
import { decodeProtobuf, PROTOBUF } from './protobuf.ts'
import type { ListQuery } from './listing.ts'
import { badRequest, tooLarge, unsupportedMediaType } from './status.ts'

/** A request as its path and query describe it. `plural` is empty for what is no resource (`/version`). */
export interface RequestInfo {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly group: string
  readonly version: string
  readonly namespace: string | undefined
  readonly plural: string
  readonly name: string
  readonly subresource: string
  readonly watch: boolean
}

const BODY_LIMIT = 3 * 1024 * 1024

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw badRequest(`the path has a malformed escape: ${segment}`)
  }
}

/** Reads path and query. @throws ApiError 400 */
export function parseRequest(method: string, url: string): RequestInfo {
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1))
  const segments = path
    .split('/')
    .filter((segment) => segment !== '')
    .map(decode)
  const none = {
    method,
    path,
    query,
    group: '',
    version: '',
    namespace: undefined,
    plural: '',
    name: '',
    subresource: '',
    watch: false,
  }
  const named = segments[0] === 'apis'
  if (!named && segments[0] !== 'api') return none
  const [group, version, rest] = named
    ? [segments[1] ?? '', segments[2] ?? '', segments.slice(3)]
    : ['', segments[1] ?? '', segments.slice(2)]
  // `/namespaces/NAME` is the namespace itself, `/namespaces/NAME/pods` is what lies in it; the subresources of a
  // namespace look like the latter.
  const inside = rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status' && rest[2] !== 'finalize'
  const [plural = '', name = '', ...subresource] = inside ? rest.slice(2) : rest
  const watching = ['true', '1', ''].includes(query.get('watch') ?? 'false')
  return {
    ...none,
    group,
    version,
    namespace: inside ? rest[1] : undefined,
    plural,
    name,
    subresource: subresource.join('/'),
    watch: method === 'GET' && plural !== '' && name === '' && watching,
  }
}

function integer(query: URLSearchParams, key: string): number | undefined {
  const text = query.get(key)
  if (text === null || text === '') return undefined
  if (!/^\d{1,9}$/.test(text)) throw badRequest(`invalid value for ${key}: "${text}" is no whole number`)
  return Number(text)
}

function flag(query: URLSearchParams, key: string): boolean | undefined {
  const text = query.get(key)
  return text === null ? undefined : text === 'true' || text === '1' || text === ''
}

/** The parameters of lists and watches. @throws ApiError 400 */
export function listQuery(info: RequestInfo): ListQuery {
  const { query } = info
  const optional = <K extends string>(key: K): { readonly [key in K]?: string } => {
    const value = query.get(key)
    return value === null ? {} : ({ [key]: value } as { readonly [key in K]: string })
  }
  const limit = integer(query, 'limit')
  const initial = flag(query, 'sendInitialEvents')
  return {
    ...(info.namespace === undefined ? {} : { namespace: info.namespace }),
    ...optional('labelSelector'),
    ...optional('fieldSelector'),
    ...optional('continue'),
    ...optional('resourceVersion'),
    ...optional('resourceVersionMatch'),
    ...(limit === undefined || limit === 0 ? {} : { limit }),
    ...(initial === undefined ? {} : { sendInitialEvents: initial }),
  }
}

/** How long a watch may last, in milliseconds; undefined where the client leaves it to the server. */
export function watchTimeout(info: RequestInfo): number | undefined {
  const seconds = integer(info.query, 'timeoutSeconds')
  return seconds === undefined ? undefined : seconds * 1000
}

/** True where the client takes bookmarks. */
export const wantsBookmarks = (info: RequestInfo): boolean => flag(info.query, 'allowWatchBookmarks') === true

/** The parameters of writes. @throws ApiError 400 */
export function writeOptions(info: RequestInfo, agent: string, warn: (text: string) => void): WriteOptions {
  const { query } = info
  const dryRun = query.getAll('dryRun')
  if (dryRun.some((value) => value !== 'All')) throw badRequest(`invalid dryRun: ${dryRun.join(',')} (supported: All)`)
  const validation = query.get('fieldValidation') ?? 'Warn'
  if (validation !== 'Ignore' && validation !== 'Warn' && validation !== 'Strict') {
    throw badRequest(`invalid fieldValidation: ${validation} (supported: Ignore, Warn, Strict)`)
  }
  const manager = query.get('fieldManager') ?? (info.method === 'PATCH' ? '' : (agent.split('/')[0] ?? ''))
  return {
    dryRun: dryRun.length > 0,
    fieldValidation: validation,
    force: flag(query, 'force') === true,
    warn,
    ...(manager === '' ? {} : { fieldManager: manager }),
  }
}

/** Reads a body up to the limit of the API. @throws ApiError 413 */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    const bytes: Buffer = Buffer.from(chunk)
    size += bytes.length
    if (size > BODY_LIMIT) throw tooLarge(BODY_LIMIT)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks)
}

function isJson(value: unknown): value is Json {
  if (value === null || ['string', 'number', 'boolean'].includes(typeof value)) return true
  if (isArray(value)) return value.every(isJson)
  return isObject(value) && Object.values(value).every(isJson)
}

/** Parses a body by its media type: JSON, or YAML where it is allowed. @throws ApiError 400, 415 */
export function parseBody(body: Buffer, mediaType: string): Json {
  if (mediaType === PROTOBUF) return decodeProtobuf(body)
  const yaml = mediaType === 'application/yaml' || mediaType === 'application/apply-patch+yaml'
  if (!yaml && mediaType !== '' && !/^application\/(?:[\w.-]+\+)?json$/.test(mediaType)) {
    throw unsupportedMediaType(mediaType, ['application/json', 'application/yaml'])
  }
  const text = body.toString('utf8')
  try {
    const value: unknown = yaml ? parseYaml(text, { maxAliasCount: 100 }) : JSON.parse(text)
    if (!isJson(value)) throw new SyntaxError('values must be of JSON types')
    return value
  } catch (error) {
    throw badRequest(
      `couldn't read the body as ${yaml ? 'YAML' : 'JSON'}: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}
