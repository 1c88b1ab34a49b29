import { arrayAt, at, isObject, objectAt } from '../../json.ts'
import type { JsonObject } from '../../json.ts'

/**
 * How the items of a list are told apart when patches meet it.
 * `map`: by fields (`key` for strategic merge, all of `keys` for server-side apply, with `defaults` for those that an
 * item may leave out); `set`: by value.
 * A list without a rule is atomic: a patch replaces it whole.
 */
export type ListRule =
  | { readonly kind: 'map'; readonly key: string; readonly keys: readonly string[]; readonly defaults: JsonObject }
  | { readonly kind: 'set' }

/** Finds the rule of a list by its field path, items left out: `spec.containers.ports`. */
export type ListRules = (path: string) => ListRule | undefined

const by = (key: string, ...more: readonly string[]): ListRule => ({
  kind: 'map',
  key,
  keys: [key, ...more],
  defaults: more.includes('protocol') ? { protocol: 'TCP' } : {},
})
const set: ListRule = { kind: 'set' }

const META: readonly (readonly [string, ListRule])[] = [
  ['metadata.finalizers', set],
  ['metadata.ownerReferences', by('uid')],
]

const CONTAINER: readonly (readonly [string, ListRule])[] = [
  ['', by('name')],
  ['.env', by('name')],
  ['.ports', by('containerPort', 'protocol')],
  ['.volumeMounts', by('mountPath')],
  ['.volumeDevices', by('devicePath')],
]

const containers = ['spec.containers', 'spec.initContainers', 'spec.ephemeralContainers'].flatMap((path) =>
  CONTAINER.map(([field, rule]) => [`${path}${field}`, rule] as const),
)

/**
 * The `patchMergeKey`, `patchStrategy` and `listMapKey` tags of the kinds served here, from the Go types of
 * k8s.io/api. Taints and tolerations have none there either: they are atomic.
 */
const KINDS: { readonly [kind: string]: readonly (readonly [string, ListRule])[] } = {
  Node: [
    ['spec.podCIDRs', set],
    ['status.conditions', by('type')],
    ['status.addresses', by('type')],
  ],
  Namespace: [['status.conditions', by('type')]],
  Pod: [
    ...containers,
    ['spec.volumes', by('name')],
    ['spec.imagePullSecrets', by('name')],
    ['spec.hostAliases', by('ip')],
    ['spec.topologySpreadConstraints', by('topologyKey', 'whenUnsatisfiable')],
    ['spec.schedulingGates', by('name')],
    ['spec.resourceClaims', by('name')],
    ['status.conditions', by('type')],
    ['status.podIPs', by('ip')],
    ['status.hostIPs', by('ip')],
  ],
  Service: [
    ['spec.ports', by('port', 'protocol')],
    ['status.conditions', by('type')],
  ],
  ServiceAccount: [['secrets', by('name')]],
}

const compiled = new Map(Object.entries(KINDS).map(([kind, rules]) => [kind, new Map([...META, ...rules])]))
const metaOnly = new Map(META)

/** The rules of a built-in kind. */
export function listRulesOf(kind: string): ListRules {
  const rules = compiled.get(kind) ?? metaOnly
  return (path) => rules.get(path)
}

/** The rules that a structural schema states (`x-kubernetes-list-type`, `x-kubernetes-list-map-keys`). */
export function listRulesOfSchema(schema: JsonObject): ListRules {
  const rules = new Map<string, ListRule>(META)
  const walk = (node: JsonObject, path: string): void => {
    const type = node['x-kubernetes-list-type']
    const keys = arrayAt(node, 'x-kubernetes-list-map-keys').map(String)
    const [key] = keys
    if (type === 'set') rules.set(path, set)
    if (type === 'map' && key !== undefined) {
      const defaults = keys.flatMap((name) => {
        const value = at(node, 'items', 'properties', name, 'default')
        return value === undefined ? [] : [[name, value] as const]
      })
      rules.set(path, { kind: 'map', key, keys, defaults: Object.fromEntries(defaults) })
    }
    if (isObject(node['items'])) walk(node['items'], path)
    for (const [name, child] of Object.entries(objectAt(node, 'properties'))) {
      if (isObject(child)) walk(child, path === '' ? name : `${path}.${name}`)
    }
  }
  walk(schema, '')
  return (path) => rules.get(path)
}
