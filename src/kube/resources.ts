import type {
  ConfigMap,
  Endpoints,
  Event,
  Namespace,
  Node,
  Pod,
  Secret,
  Service,
  ServiceAccount,
} from 'kubernetes-types/core/v1.js'
import type { CustomResourceDefinition } from 'kubernetes-types/apiextensions/v1.js'
import type { Lease } from 'kubernetes-types/coordination/v1.js'
import type { EndpointSlice } from 'kubernetes-types/discovery/v1.js'
import type { NetworkPolicy } from 'kubernetes-types/networking/v1.js'
import type { KubeObject, Resource } from './resource.ts'

function core<T extends KubeObject>(plural: string, kind: string, namespaced = true): Resource<T> {
  return { group: '', version: 'v1', plural, kind, namespaced }
}

/** Describes a kind of a named group, custom ones too. */
export function resource<T extends KubeObject>(
  group: string,
  version: string,
  plural: string,
  kind: string,
  namespaced = true,
): Resource<T> {
  return { group, version, plural, kind, namespaced }
}

export const nodes = core<Node>('nodes', 'Node', false)
export const namespaces = core<Namespace>('namespaces', 'Namespace', false)
export const pods = core<Pod>('pods', 'Pod')
export const configMaps = core<ConfigMap>('configmaps', 'ConfigMap')
export const secrets = core<Secret>('secrets', 'Secret')
export const services = core<Service>('services', 'Service')
export const endpoints = core<Endpoints>('endpoints', 'Endpoints')
export const serviceAccounts = core<ServiceAccount>('serviceaccounts', 'ServiceAccount')
export const events = core<Event>('events', 'Event')
export const leases = resource<Lease>('coordination.k8s.io', 'v1', 'leases', 'Lease')
export const endpointSlices = resource<EndpointSlice>('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice')
export const networkPolicies = resource<NetworkPolicy>('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy')
export const customResourceDefinitions = resource<CustomResourceDefinition>(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  false,
)
