import { isObject, objectAt } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import type { Registry } from './registry.ts'
import type { ResourceType } from './resource.ts'
import { groupVersion } from './resource.ts'
import { noSuchPath } from './status.ts'

/**
 * `/openapi/v2` in protobuf: `swagger: "2.0"` and not one definition. kubectl before 1.27 reads it before every apply
 * and skips its validation for kinds that it does not find.
 */
export const OPENAPI_V2_PROTOBUF: Buffer = Buffer.from([0x0a, 0x03, 0x32, 0x2e, 0x30])

/** Its media type. Clients ask for it with an `@`, which Go's own parser of media types then refuses in an answer. */
export const OPENAPI_V2_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf'

/** `/openapi/v2` in JSON. */
export const openapiV2 = (): JsonObject => ({
  swagger: '2.0',
  info: { title: 'Kubernetes', version: 'v1.32.0-heddle' },
  paths: {},
  definitions: {},
})

const prefixOf = (group: string, version: string): string =>
  group === '' ? `api/${version}` : `apis/${group}/${version}`

/** `/openapi/v3`: one document per group version. */
export function openapiIndex(registry: Registry): JsonObject {
  const versions = [{ name: '', versions: ['v1'] }, ...registry.groups()]
  const paths = versions.flatMap(({ name, versions: served }) =>
    served.map((version) => {
      const path = prefixOf(name, version)
      return [path, { serverRelativeURL: `/openapi/v3/${path}` }] as const
    }),
  )
  return { paths: Object.fromEntries(paths) }
}

const schemaName = (type: ResourceType): string =>
  `${type.group === '' ? 'core' : type.group}.${type.version}.${type.kind}`

/** What a document can say of a type: all of a custom kind's schema, of built-in kinds the envelope. */
function schemaJson(type: ResourceType): JsonObject {
  const envelope = {
    apiVersion: { type: 'string', description: 'The versioned schema of this representation of an object.' },
    kind: { type: 'string', description: 'The REST resource that this object represents.' },
    metadata: { type: 'object', description: "Standard object's metadata." },
  }
  const own = type.schema ?? {
    description: `${type.kind} (this server describes built-in kinds by their envelope only).`,
    'x-kubernetes-preserve-unknown-fields': true,
  }
  const properties: JsonObject = { ...objectAt(own, 'properties'), ...envelope }
  return {
    ...own,
    type: 'object',
    properties,
    'x-kubernetes-group-version-kind': [{ group: type.group, version: type.version, kind: type.kind }],
  }
}

const parameter = (name: string): JsonObject => ({ name, in: 'query', schema: { type: 'string', uniqueItems: true } })

function pathsOf(type: ResourceType): readonly (readonly [string, JsonObject])[] {
  const base = `/${prefixOf(type.group, type.version)}${type.namespaced ? '/namespaces/{namespace}' : ''}/${type.plural}`
  const gvk = { 'x-kubernetes-group-version-kind': { group: type.group, version: type.version, kind: type.kind } }
  const parameters = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map(parameter)
  // Strategic merge is served but not listed: the schemas here lack the merge keys that kubectl would take from them,
  // and without the listing it uses those that it was built with.
  const content = {
    'application/apply-patch+yaml': {},
    'application/json-patch+json': {},
    'application/merge-patch+json': {},
  }
  const answer: Json = { responses: { '200': { description: 'OK' } } }
  const write = { ...gvk, ...answer, parameters }
  return [
    [
      base,
      { post: { ...write, 'x-kubernetes-action': 'post' }, get: { ...gvk, ...answer, 'x-kubernetes-action': 'list' } },
    ],
    [
      `${base}/{name}`,
      {
        get: { ...gvk, ...answer, 'x-kubernetes-action': 'get' },
        put: { ...write, 'x-kubernetes-action': 'put' },
        patch: { ...write, requestBody: { content }, 'x-kubernetes-action': 'patch' },
        delete: { ...write, 'x-kubernetes-action': 'delete' },
      },
    ],
  ]
}

/** `/openapi/v3/apis/GROUP/VERSION`. @throws ApiError 404 */
export function openapiDocument(registry: Registry, path: string): JsonObject {
  const types = registry.all().filter((type) => prefixOf(type.group, type.version) === path)
  if (types.length === 0) throw noSuchPath()
  const schemas = Object.fromEntries(types.map((type) => [schemaName(type), schemaJson(type)] as const))
  const [first] = types
  return {
    openapi: '3.0.0',
    info: { title: first === undefined ? '' : groupVersion(first), version: 'v1.32.0-heddle' },
    paths: Object.fromEntries(types.flatMap(pathsOf)),
    components: { schemas: isObject(schemas) ? schemas : {} },
  }
}
