import type { JsonObject } from '../json.ts'
import type { Registry } from './registry.ts'
import type { ResourceType } from './resource.ts'
import { groupVersion } from './resource.ts'
import { noSuchPath } from './status.ts'

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']
const STATUS_VERBS = ['get', 'patch', 'update']

/** `/api` in the form that all clients read. */
export const apiVersions = (): JsonObject => ({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] })

function groupJson(name: string, versions: readonly string[]): JsonObject {
  const listed = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }))
  return { name, versions: listed, preferredVersion: listed[0] ?? {} }
}

/** `/apis`. */
export function apiGroupList(registry: Registry): JsonObject {
  const groups = registry.groups().map(({ name, versions }) => groupJson(name, versions))
  return { kind: 'APIGroupList', apiVersion: 'v1', groups }
}

/** `/apis/GROUP`. @throws ApiError 404 */
export function apiGroup(registry: Registry, name: string): JsonObject {
  const group = registry.groups().find((known) => known.name === name)
  if (group === undefined) throw noSuchPath()
  return { kind: 'APIGroup', apiVersion: 'v1', ...groupJson(group.name, group.versions) }
}

const optional = (key: string, values: readonly string[]): JsonObject => (values.length === 0 ? {} : { [key]: values })

function resourceJson(type: ResourceType): readonly JsonObject[] {
  const base = {
    name: type.plural,
    singularName: type.singular,
    namespaced: type.namespaced,
    kind: type.kind,
    verbs: VERBS,
  }
  const main = { ...base, ...optional('shortNames', type.shortNames), ...optional('categories', type.categories) }
  const status = { ...base, name: `${type.plural}/status`, singularName: '', verbs: STATUS_VERBS }
  return type.status ? [main, status] : [main]
}

/** `/api/v1` and `/apis/GROUP/VERSION`. @throws ApiError 404 */
export function apiResourceList(registry: Registry, group: string, version: string): JsonObject {
  const types = registry.of(group, version)
  if (types.length === 0) throw noSuchPath()
  const resources = types.flatMap(resourceJson)
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: groupVersion({ group, version }), resources }
}

function aggregatedResource(type: ResourceType): JsonObject {
  const responseKind = { group: type.group, version: type.version, kind: type.kind }
  const status = { subresource: 'status', responseKind, verbs: STATUS_VERBS }
  return {
    resource: type.plural,
    responseKind,
    scope: type.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: type.singular,
    verbs: VERBS,
    ...optional('shortNames', type.shortNames),
    ...optional('categories', type.categories),
    ...(type.status ? { subresources: [status] } : {}),
  }
}

/** `/api` or `/apis` in one document with all resources (`apidiscovery.k8s.io/v2`), as newer clients ask for it. */
export function aggregated(registry: Registry, core: boolean, version: string): JsonObject {
  const groups = core ? [{ name: '', versions: ['v1'] }] : registry.groups()
  const items = groups.map(({ name, versions }) => ({
    metadata: name === '' ? { creationTimestamp: null } : { name, creationTimestamp: null },
    versions: versions.map((served) => ({
      version: served,
      resources: registry.of(name, served).map(aggregatedResource),
      freshness: 'Current',
    })),
  }))
  return { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items }
}

/** `/`: the paths there are. */
export function rootPaths(registry: Registry): JsonObject {
  const groups = registry
    .groups()
    .flatMap(({ name, versions }) => [`/apis/${name}`, ...versions.map((v) => `/apis/${name}/${v}`)])
  return {
    paths: [
      '/api',
      '/api/v1',
      '/apis',
      ...groups,
      '/healthz',
      '/livez',
      '/openapi/v2',
      '/openapi/v3',
      '/readyz',
      '/version',
    ],
  }
}

/** `/version`: the API level that this server speaks, marked as what it is. */
export const versionInfo = (): JsonObject => ({
  major: '1',
  minor: '32',
  gitVersion: 'v1.32.0-heddle',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: '',
  compiler: 'node',
  platform: `${process.platform}/${process.arch === 'x64' ? 'amd64' : process.arch}`,
})
