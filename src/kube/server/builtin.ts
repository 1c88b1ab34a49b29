import { COLUMNS, AGE, NAME } from './columns.ts'
import {
  endpointsDefaults,
  endpointSliceDefaults,
  eventConversion,
  namespaceDefaults,
  networkPolicyDefaults,
  podDefaults,
  secretDefaults,
  serviceDefaults,
} from './defaults.ts'
import type { ResourceType } from './resource.ts'
import { shelfName } from './resource.ts'
import {
  validateData,
  validateEndpointSlice,
  validateEvent,
  validateLease,
  validateNode,
  validatePod,
  validateService,
} from './validation.ts'

type Named = Pick<ResourceType, 'group' | 'version' | 'plural' | 'kind'>

const type = (names: Named, more: Partial<ResourceType> = {}): ResourceType => ({
  singular: names.kind.toLowerCase(),
  namespaced: true,
  shortNames: [],
  categories: [],
  shelf: shelfName(names.group, names.plural),
  status: false,
  dropStatusOnCreate: false,
  generation: false,
  unconditionalUpdate: true,
  createOnUpdate: false,
  custom: false,
  labelNames: false,
  columns: COLUMNS[names.plural] ?? [NAME, AGE],
  fields: {},
  ...names,
  ...more,
})

const core = (plural: string, kind: string, more: Partial<ResourceType> = {}): ResourceType =>
  type({ group: '', version: 'v1', plural, kind }, more)

const fields = (...names: readonly string[]): { readonly [field: string]: readonly string[] } =>
  Object.fromEntries(names.map((name) => [name, name.split('.')]))

const involved = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath']

const eventFields = fields(...involved.map((name) => `involvedObject.${name}`), 'reason', 'reportingComponent', 'type')

/** The fields of an events.k8s.io Event lie elsewhere in the stored form. */
const newEventFields = {
  ...Object.fromEntries(involved.map((name) => [`regarding.${name}`, ['involvedObject', name]])),
  ...fields('reason', 'type'),
  reportingController: ['reportingComponent'],
}

/** The shelf of CustomResourceDefinitions. */
export const CRDS = 'customresourcedefinitions.apiextensions.k8s.io'

/** The kinds that are always served. */
export const BUILTIN: readonly ResourceType[] = [
  core('namespaces', 'Namespace', {
    namespaced: false,
    shortNames: ['ns'],
    status: true,
    labelNames: true,
    fields: fields('status.phase'),
    defaults: namespaceDefaults,
  }),
  core('nodes', 'Node', {
    namespaced: false,
    shortNames: ['no'],
    status: true,
    fields: fields('spec.unschedulable'),
    validate: validateNode,
  }),
  core('pods', 'Pod', {
    shortNames: ['po'],
    categories: ['all'],
    status: true,
    fields: fields(
      'spec.nodeName',
      'spec.restartPolicy',
      'spec.schedulerName',
      'spec.serviceAccountName',
      'spec.hostNetwork',
      'status.phase',
      'status.podIP',
      'status.nominatedNodeName',
    ),
    defaults: (pod) => {
      const filled = podDefaults(pod)
      return filled['status'] === undefined
        ? { ...filled, status: { phase: 'Pending', qosClass: 'BestEffort' } }
        : filled
    },
    dropStatusOnCreate: true,
    validate: validatePod,
  }),
  core('configmaps', 'ConfigMap', { shortNames: ['cm'], validate: validateData }),
  core('secrets', 'Secret', { fields: fields('type'), defaults: secretDefaults, validate: validateData }),
  core('services', 'Service', {
    shortNames: ['svc'],
    categories: ['all'],
    status: true,
    labelNames: true,
    fields: fields('spec.clusterIP', 'spec.type'),
    defaults: (service) => {
      const filled = serviceDefaults(service)
      return filled['status'] === undefined ? { ...filled, status: { loadBalancer: {} } } : filled
    },
    validate: validateService,
  }),
  core('endpoints', 'Endpoints', { shortNames: ['ep'], createOnUpdate: true, defaults: endpointsDefaults }),
  core('serviceaccounts', 'ServiceAccount', { shortNames: ['sa'] }),
  core('events', 'Event', {
    shortNames: ['ev'],
    createOnUpdate: true,
    fields: { ...eventFields, source: ['source', 'component'] },
    validate: validateEvent,
  }),
  type(
    { group: 'events.k8s.io', version: 'v1', plural: 'events', kind: 'Event' },
    {
      shelf: 'events',
      shortNames: ['ev'],
      createOnUpdate: true,
      fields: newEventFields,
      validate: validateEvent,
      convert: eventConversion,
      columns: COLUMNS['events'] ?? [NAME, AGE],
    },
  ),
  type(
    { group: 'coordination.k8s.io', version: 'v1', plural: 'leases', kind: 'Lease' },
    { unconditionalUpdate: false, createOnUpdate: true, validate: validateLease },
  ),
  type(
    { group: 'discovery.k8s.io', version: 'v1', plural: 'endpointslices', kind: 'EndpointSlice' },
    { generation: true, defaults: endpointSliceDefaults, validate: validateEndpointSlice },
  ),
  type(
    { group: 'networking.k8s.io', version: 'v1', plural: 'networkpolicies', kind: 'NetworkPolicy' },
    { shortNames: ['netpol'], generation: true, defaults: networkPolicyDefaults },
  ),
  type(
    {
      group: 'apiextensions.k8s.io',
      version: 'v1',
      plural: 'customresourcedefinitions',
      kind: 'CustomResourceDefinition',
    },
    {
      namespaced: false,
      shortNames: ['crd', 'crds'],
      categories: ['api-extensions'],
      status: true,
      dropStatusOnCreate: true,
      generation: true,
      unconditionalUpdate: false,
    },
  ),
]
