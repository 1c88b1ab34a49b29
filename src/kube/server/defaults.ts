import { arrayAt, at, isObject, objectAt, textAt, textOf, withKeys, withPath } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import type { ApiObject } from './object.ts'

/** Adds what is absent; what a client wrote wins. */
const under = (defaults: JsonObject, object: Json): JsonObject =>
  isObject(object) ? { ...defaults, ...object } : defaults

const withSpec = (object: ApiObject, spec: JsonObject): ApiObject => ({ ...object, spec })

const withProtocol = (ports: readonly Json[]): readonly Json[] => ports.map((port) => under({ protocol: 'TCP' }, port))

function container(value: Json): Json {
  const image = textAt(value, 'image') ?? ''
  const tag = /:([^/@]+)(?:@|$)/.exec(image)?.[1]
  const filled = under(
    {
      resources: {},
      terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'File',
      imagePullPolicy: (tag === undefined || tag === 'latest') && !image.includes('@') ? 'Always' : 'IfNotPresent',
    },
    value,
  )
  return Object.hasOwn(filled, 'ports') ? { ...filled, ports: withProtocol(arrayAt(filled, 'ports')) } : filled
}

/** Pods, as the API server completes them (k8s.io/kubernetes pkg/apis/core/v1 defaults), without admission plugins. */
export function podDefaults(pod: ApiObject): ApiObject {
  const given = objectAt(pod, 'spec')
  const spec: JsonObject = {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
    enableServiceLinks: true,
    ...given,
  }
  const lists = ['containers', 'initContainers'].filter((key) => Object.hasOwn(given, key))
  return withSpec(pod, {
    ...spec,
    ...Object.fromEntries(lists.map((key) => [key, arrayAt(given, key).map(container)])),
  })
}

/** Services: type, affinity, and each port's protocol and targetPort. No cluster address is allotted. */
export function serviceDefaults(service: ApiObject): ApiObject {
  const given = objectAt(service, 'spec')
  const external = given['type'] === 'ExternalName'
  const ports = arrayAt(given, 'ports').map((port) => {
    const number = at(port, 'port')
    return under({ protocol: 'TCP', ...(number === undefined ? {} : { targetPort: number }) }, port)
  })
  return withSpec(service, {
    type: 'ClusterIP',
    sessionAffinity: 'None',
    ...(external ? {} : { internalTrafficPolicy: 'Cluster' }),
    ...given,
    ...(Object.hasOwn(given, 'ports') ? { ports } : {}),
  })
}

/** NetworkPolicies: policyTypes from what is there, TCP as protocol. */
export function networkPolicyDefaults(policy: ApiObject): ApiObject {
  const given = objectAt(policy, 'spec')
  const rules = (key: 'ingress' | 'egress'): JsonObject =>
    Object.hasOwn(given, key)
      ? {
          [key]: arrayAt(given, key).map((rule) =>
            isObject(rule) && Object.hasOwn(rule, 'ports')
              ? { ...rule, ports: withProtocol(arrayAt(rule, 'ports')) }
              : rule,
          ),
        }
      : {}
  const policyTypes = Object.hasOwn(given, 'egress') ? ['Ingress', 'Egress'] : ['Ingress']
  return withSpec(policy, { podSelector: {}, policyTypes, ...given, ...rules('ingress'), ...rules('egress') })
}

/** Secrets: type Opaque; `stringData` goes into `data`, base64. */
export function secretDefaults(secret: ApiObject): ApiObject {
  const typed: ApiObject = { ...secret, type: textAt(secret, 'type') ?? 'Opaque' }
  const plain = objectAt(typed, 'stringData')
  if (Object.keys(plain).length === 0) return typed
  const encoded = Object.entries(plain).map(
    ([key, value]) => [key, Buffer.from(textOf(value)).toString('base64')] as const,
  )
  const data = { ...objectAt(typed, 'data'), ...Object.fromEntries(encoded) }
  const { stringData: _, ...rest } = typed
  return { ...rest, apiVersion: typed.apiVersion, kind: typed.kind, metadata: typed.metadata, data }
}

/** Namespaces: the finalizer that holds them until they are empty, and the label with their name. */
export function namespaceDefaults(namespace: ApiObject): ApiObject {
  const { metadata } = namespace
  const finalizers = at(namespace, 'spec', 'finalizers') ?? ['kubernetes']
  return {
    ...namespace,
    metadata: { ...metadata, labels: { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name } },
    spec: { ...objectAt(namespace, 'spec'), finalizers },
    status: { phase: metadata.deletionTimestamp === undefined ? 'Active' : 'Terminating', ...withoutPhase(namespace) },
  }
}

const withoutPhase = (namespace: ApiObject): JsonObject => withKeys(objectAt(namespace, 'status'), { phase: undefined })

/** EndpointSlices and Endpoints: TCP, and an empty port name. */
export function endpointSliceDefaults(slice: ApiObject): ApiObject {
  if (!Object.hasOwn(slice, 'ports')) return slice
  return { ...slice, ports: arrayAt(slice, 'ports').map((port) => under({ name: '', protocol: 'TCP' }, port)) }
}

/** Endpoints: TCP. */
export function endpointsDefaults(endpoints: ApiObject): ApiObject {
  if (!Object.hasOwn(endpoints, 'subsets')) return endpoints
  const subsets = arrayAt(endpoints, 'subsets').map((subset) =>
    isObject(subset) && Object.hasOwn(subset, 'ports')
      ? { ...subset, ports: withProtocol(arrayAt(subset, 'ports')) }
      : subset,
  )
  return { ...endpoints, subsets }
}

const EVENT_FIELDS: readonly (readonly [stored: string, served: string])[] = [
  ['involvedObject', 'regarding'],
  ['message', 'note'],
  ['reportingComponent', 'reportingController'],
  ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['count', 'deprecatedCount'],
]

/** events.k8s.io/v1 names the fields of a v1 Event differently. */
export const eventConversion = {
  toStored(event: ApiObject): ApiObject {
    let out: JsonObject = event
    for (const [stored, served] of EVENT_FIELDS) {
      out = withKeys(withPath(out, [stored], at(event, served)), { [served]: undefined })
    }
    return { ...out, apiVersion: 'v1', kind: 'Event', metadata: event.metadata }
  },
  fromStored(event: ApiObject): ApiObject {
    let out: JsonObject = event
    for (const [stored, served] of EVENT_FIELDS) {
      out = withKeys(withPath(out, [served], at(event, stored)), { [stored]: undefined })
    }
    return { ...out, apiVersion: 'events.k8s.io/v1', kind: 'Event', metadata: event.metadata }
  },
}
