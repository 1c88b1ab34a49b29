import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { arrayAt, isObject, textAt } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import {
  aggregated,
  apiGroup,
  apiGroupList,
  apiResourceList,
  apiVersions,
  rootPaths,
  versionInfo,
} from './discovery.ts'
import type { FaultAction, Faults } from './faults.ts'
import { list } from './listing.ts'
import type { Page } from './listing.ts'
import { negotiate } from './negotiate.ts'
import type { Representation } from './negotiate.ts'
import type { ApiObject } from './object.ts'
import { OPENAPI_V2_PROTOBUF, OPENAPI_V2_TYPE, openapiDocument, openapiIndex, openapiV2 } from './openapi.ts'
import { listQuery, parseBody, parseRequest, readBody, writeOptions } from './request.ts'
import type { RequestInfo } from './request.ts'
import { objectText, sendError, sendJson, sendText, warning } from './respond.ts'
import type { ResourceType } from './resource.ts'
import { groupVersion } from './resource.ts'
import type { Api, DeleteOptions, Target } from './rest.ts'
import { ApiError, badRequest, deleted, methodNotAllowed, noSuchPath, unauthorized } from './status.ts'
import { partial, table } from './table.ts'
import { includeObject, streamWatch } from './watch-stream.ts'

/** What requests are answered from. */
export interface HandlerOptions {
  readonly api: Api
  readonly faults: Faults
  /** Bearer tokens and the users they stand for; undefined: everyone is let in. */
  readonly tokens?: ReadonlyMap<string, string> | undefined
  readonly bookmarkInterval: number
  readonly now: () => number
  /** Receives the function that ends each watch, and takes it back when it has ended. */
  readonly watches: Set<() => void>
}

const notAcceptable = (): ApiError =>
  new ApiError(406, 'NotAcceptable', 'only the following media types are accepted: application/json', {})

function authenticate(request: IncomingMessage, tokens: ReadonlyMap<string, string> | undefined): void {
  if (tokens === undefined) return
  const token = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (token === undefined || !tokens.has(token)) throw unauthorized()
}

function sendDocument(
  response: ServerResponse,
  info: RequestInfo,
  request: IncomingMessage,
  options: HandlerOptions,
): boolean {
  const { registry } = options.api
  const parts = info.path.split('/').filter((part) => part !== '')
  const [root = '', group = '', version = ''] = parts
  if (root === 'healthz' || root === 'livez' || root === 'readyz') {
    sendText(response, 200, 'ok', 'text/plain; charset=utf-8')
    return true
  }
  const representation = negotiate(request.headers.accept)
  if (info.path === '/openapi/v2') {
    if ((request.headers.accept ?? '').includes('proto-openapi')) {
      response.writeHead(200, { 'Content-Type': OPENAPI_V2_TYPE, 'Content-Length': OPENAPI_V2_PROTOBUF.length })
      response.end(OPENAPI_V2_PROTOBUF)
    } else sendJson(response, 200, openapiV2())
    return true
  }
  if (representation === undefined) throw notAcceptable()
  const depth = parts.length
  if (depth === 1 && (root === 'api' || root === 'apis') && representation.as === 'APIGroupDiscoveryList') {
    const type = `application/json;g=apidiscovery.k8s.io;v=${representation.version};as=APIGroupDiscoveryList`
    sendJson(response, 200, aggregated(registry, root === 'api', representation.version), type)
    return true
  }
  const document = (): JsonObject | undefined => {
    if (depth === 0) return rootPaths(registry)
    if (depth === 1 && root === 'version') return versionInfo()
    if (root === 'openapi' && group === 'v3') {
      return depth === 2 ? openapiIndex(registry) : openapiDocument(registry, parts.slice(2).join('/'))
    }
    if (root === 'api' && depth <= 2) return depth === 1 ? apiVersions() : apiResourceList(registry, '', group)
    if (root === 'apis' && depth === 1) return apiGroupList(registry)
    if (root === 'apis' && depth === 2) return apiGroup(registry, group)
    if (root === 'apis' && depth === 3) return apiResourceList(registry, group, version)
    return undefined
  }
  const found = document()
  if (found !== undefined) sendJson(response, 200, found)
  return found !== undefined
}

function sendObject(
  response: ServerResponse,
  code: number,
  info: RequestInfo,
  type: ResourceType,
  object: ApiObject,
  as: Representation,
  now: number,
): void {
  if (as.as === 'Table') {
    const metadata = { resourceVersion: object.metadata.resourceVersion ?? '' }
    sendJson(
      response,
      code,
      table(type, [object], metadata, { include: includeObject(info), version: as.version, now }),
    )
  } else if (as.as === undefined) sendText(response, code, objectText(object))
  else sendJson(response, code, partial(object))
}

function sendPage(
  response: ServerResponse,
  info: RequestInfo,
  type: ResourceType,
  page: Page,
  as: Representation,
  now: number,
): void {
  const metadata: JsonObject = {
    resourceVersion: page.resourceVersion,
    ...(page.continue === undefined ? {} : { continue: page.continue }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  }
  if (as.as === 'Table') {
    sendJson(
      response,
      200,
      table(type, page.items, metadata, { include: includeObject(info), version: as.version, now }),
    )
    return
  }
  const plain = as.as === undefined
  const kind = plain ? `${type.kind}List` : 'PartialObjectMetadataList'
  const apiVersion = plain ? groupVersion(type) : `meta.k8s.io/${as.version}`
  const head = JSON.stringify({ kind, apiVersion, metadata }).slice(0, -1)
  const items = page.items.map((item) => (plain ? objectText(item) : JSON.stringify(partial(item))))
  sendText(response, 200, `${head},"items":[${items.join(',')}]}`)
}

function deleteOptions(body: Json | undefined, info: RequestInfo): DeleteOptions {
  const uid = textAt(body, 'preconditions', 'uid')
  const resourceVersion = textAt(body, 'preconditions', 'resourceVersion')
  const dryRun = arrayAt(body, 'dryRun').includes('All') || info.query.get('dryRun') === 'All'
  return {
    dryRun,
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  }
}

function sendDeleted(response: ServerResponse, target: Target, options: DeleteOptions, api: Api): void {
  const { object, gone } = api.delete(target, options)
  // Kinds with graceful deletion, and whatever is only marked, answer with the object; the rest with a Status.
  if (!gone || target.type.kind === 'Pod') sendText(response, 200, objectText(object))
  else sendJson(response, 200, deleted(target.type, target.name, object.metadata.uid))
}

async function readAnswerable(request: IncomingMessage): Promise<Json | undefined> {
  const body = await readBody(request)
  if (body.length === 0) return undefined
  return parseBody(body, (request.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '')
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  info: RequestInfo,
  options: HandlerOptions,
  faults: readonly FaultAction[],
): Promise<void> {
  const { api, now } = options
  const { method, name, subresource } = info
  if (info.plural === '') {
    if (method !== 'GET' && method !== 'HEAD') throw methodNotAllowed()
    if (!sendDocument(response, info, request, options)) throw noSuchPath()
    return
  }
  const type = api.registry.find(info.group, info.version, info.plural)
  if (type === undefined) throw noSuchPath()
  if (
    type.namespaced ? info.namespace === undefined && (name !== '' || method === 'POST') : info.namespace !== undefined
  )
    throw noSuchPath()
  const finalize = type.shelf === 'namespaces' && subresource === 'finalize'
  if (subresource !== '' && !finalize && !(type.status && subresource === 'status')) throw noSuchPath()
  const as = negotiate(request.headers.accept)
  if (as === undefined) throw notAcceptable()
  const target: Target = {
    type,
    namespace: info.namespace,
    name,
    ...(subresource === '' || finalize ? {} : { subresource }),
  }

  if (info.watch) {
    let end: (() => void) | undefined
    response.on('close', () => {
      if (end !== undefined) options.watches.delete(end)
    })
    end = streamWatch(response, info, type, as, options)
    options.watches.add(end)
    return
  }
  const write = writeOptions(info, request.headers['user-agent'] ?? '', (text) =>
    response.appendHeader('Warning', warning(text)),
  )
  switch (method) {
    case 'GET':
    case 'HEAD':
      if (name === '') {
        const page = list(api, type, listQuery(info))
        const empty = faults.some(({ kind }) => kind === 'empty-list')
        sendPage(response, info, type, empty ? { items: [], resourceVersion: page.resourceVersion } : page, as, now())
      } else sendObject(response, 200, info, type, api.get(target), as, now())
      return
    case 'POST': {
      if (name !== '') throw methodNotAllowed()
      const body = await readAnswerable(request)
      sendObject(response, 201, info, type, api.create(target, body ?? null, write), as, now())
      return
    }
    case 'PUT': {
      if (name === '') throw methodNotAllowed()
      const body = await readAnswerable(request)
      const code = api.has(target) ? 200 : 201
      sendObject(response, code, info, type, api.update(target, body ?? null, write), as, now())
      return
    }
    case 'PATCH': {
      if (name === '') throw methodNotAllowed()
      const mediaType = (request.headers['content-type'] ?? '').split(';')[0]?.trim() ?? ''
      const body = await readAnswerable(request)
      if (body === undefined) throw badRequest('a patch needs a body')
      const code = api.has(target) ? 200 : 201
      sendObject(response, code, info, type, api.patch(target, mediaType, body, write), as, now())
      return
    }
    case 'DELETE': {
      const body = await readAnswerable(request)
      if (body !== undefined && !isObject(body))
        throw badRequest('the body of a deletion must be a DeleteOptions object')
      const given = deleteOptions(body, info)
      if (name !== '') {
        if (subresource !== '') throw methodNotAllowed()
        sendDeleted(response, target, given, api)
        return
      }
      const page = list(api, type, listQuery(info))
      for (const item of page.items) {
        const { namespace, name } = item.metadata
        api.delete({ type, namespace, name }, given.dryRun === true ? { dryRun: true } : {})
      }
      sendPage(response, info, type, page, as, now())
      return
    }
    default:
      throw methodNotAllowed()
  }
}

const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms)
  })

async function handle(request: IncomingMessage, response: ServerResponse, options: HandlerOptions): Promise<void> {
  const info = parseRequest(request.method ?? 'GET', request.url ?? '/')
  const faults = options.faults.take(info)
  for (const fault of faults) {
    switch (fault.kind) {
      case 'delay':
        await sleep(fault.ms)
        break
      case 'status':
        throw new ApiError(
          fault.code,
          fault.reason ?? '',
          fault.message ?? `injected ${fault.code}`,
          fault.retryAfter === undefined ? undefined : { retryAfterSeconds: fault.retryAfter },
        )
      case 'drop':
        request.socket.resetAndDestroy()
        return
      case 'garbage':
        sendText(response, 200, '{"kind":"NodeList","items":[{"metadata":')
        return
      case 'silent':
        // A watch is answered and then starved by its stream; anything else never gets an answer.
        if (!info.watch) return
        break
      case 'empty-list':
      case 'duplicate':
        break
    }
  }
  authenticate(request, options.tokens)
  await serve(request, response, info, options, faults)
}

/** The listener for `node:http`: every answer is one of the API's, errors included. */
export function createHandler(options: HandlerOptions): RequestListener {
  return (request, response) => {
    request.on('error', () => response.destroy())
    handle(request, response, options).catch((error: unknown) => {
      sendError(response, error)
    })
  }
}
