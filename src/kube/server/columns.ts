import { arrayAt, at, isObject, objectAt, textAt, textOf } from '../json.ts'
import type { Json } from '../json.ts'
import { ageOf } from './duration.ts'
import type { ApiObject } from './object.ts'
import type { Column } from './resource.ts'

const NONE = '<none>'
const UNKNOWN = '<unknown>'

const column = (name: string, cell: Column['cell'], more: Partial<Column> = {}): Column => ({
  name,
  type: 'string',
  cell,
  ...more,
})
const wide = { priority: 1 } as const
const or = (text: string | undefined, instead: string): string => (text === undefined || text === '' ? instead : text)

export const NAME = column('Name', (o) => o.metadata.name, {
  format: 'name',
  description: 'Name must be unique within a namespace.',
})
export const AGE = column('Age', (o, now) => ageOf(o.metadata.creationTimestamp, now), {
  description: 'CreationTimestamp is the time when this object was created.',
})

const text = (name: string, path: readonly string[], instead: string, more: Partial<Column> = {}): Column =>
  column(name, (o) => or(textAt(o, ...path), instead), more)

function nodeStatus(node: ApiObject): string {
  const ready = arrayAt(node, 'status', 'conditions').find((item) => textAt(item, 'type') === 'Ready')
  const words = [ready === undefined ? 'Unknown' : textAt(ready, 'status') === 'True' ? 'Ready' : 'NotReady']
  if (at(node, 'spec', 'unschedulable') === true) words.push('SchedulingDisabled')
  return words.join(',')
}

function nodeRoles(node: ApiObject): string {
  const prefix = 'node-role.kubernetes.io/'
  const roles = Object.entries(node.metadata.labels ?? {}).flatMap(([key, value]) => {
    if (key.startsWith(prefix)) return key.length > prefix.length ? [key.slice(prefix.length)] : []
    return key === 'kubernetes.io/role' && value !== '' ? [value] : []
  })
  return or([...new Set(roles)].toSorted().join(','), NONE)
}

const nodeAddress = (type: string) => (node: ApiObject) =>
  or(
    textAt(
      arrayAt(node, 'status', 'addresses').find((item) => textAt(item, 'type') === type),
      'address',
    ),
    NONE,
  )

function podStatus(pod: ApiObject): string {
  let reason = or(textAt(pod, 'status', 'reason'), or(textAt(pod, 'status', 'phase'), UNKNOWN))
  for (const status of arrayAt(pod, 'status', 'containerStatuses')) {
    const waiting = textAt(status, 'state', 'waiting', 'reason')
    const terminated = textAt(status, 'state', 'terminated', 'reason')
    reason = waiting ?? terminated ?? reason
  }
  return pod.metadata.deletionTimestamp === undefined ? reason : 'Terminating'
}

function podReady(pod: ApiObject): string {
  const statuses = arrayAt(pod, 'status', 'containerStatuses')
  const ready = statuses.filter((item) => at(item, 'ready') === true).length
  return `${ready}/${arrayAt(pod, 'spec', 'containers').length}`
}

function podRestarts(pod: ApiObject): string {
  let sum = 0
  for (const status of arrayAt(pod, 'status', 'containerStatuses')) sum += Number(at(status, 'restartCount') ?? 0)
  return String(sum)
}

const dataCount = (object: ApiObject): number =>
  Object.keys(objectAt(object, 'data')).length + Object.keys(objectAt(object, 'binaryData')).length

const labelsText = (labels: Json | undefined): string =>
  or(
    Object.entries(isObject(labels) ? labels : {})
      .map(([key, value]) => `${key}=${textOf(value)}`)
      .join(','),
    NONE,
  )

function servicePorts(service: ApiObject): string {
  const ports = arrayAt(service, 'spec', 'ports').map((port) => {
    const nodePort = at(port, 'nodePort')
    const number = textOf(at(port, 'port'))
    return `${number}${typeof nodePort === 'number' && nodePort > 0 ? `:${nodePort}` : ''}/${textAt(port, 'protocol') ?? 'TCP'}`
  })
  return or(ports.join(','), NONE)
}

function externalAddress(service: ApiObject): string {
  const type = textAt(service, 'spec', 'type')
  if (type === 'ExternalName') return textAt(service, 'spec', 'externalName') ?? NONE
  const own = arrayAt(service, 'spec', 'externalIPs').map(String)
  const given = arrayAt(service, 'status', 'loadBalancer', 'ingress').map(
    (item) => textAt(item, 'ip') ?? textAt(item, 'hostname') ?? '',
  )
  return or([...given, ...own].join(','), type === 'LoadBalancer' ? '<pending>' : NONE)
}

function shorten(items: readonly string[]): string {
  if (items.length === 0) return NONE
  const rest = items.length - 3
  return items.slice(0, 3).join(',') + (rest > 0 ? ` + ${rest} more...` : '')
}

function endpointTexts(endpoints: ApiObject): string {
  const texts = arrayAt(endpoints, 'subsets').flatMap((subset) => {
    const addresses = arrayAt(subset, 'addresses').map((item) => textAt(item, 'ip') ?? '')
    const ports = arrayAt(subset, 'ports')
    if (ports.length === 0) return addresses
    return ports.flatMap((port) =>
      addresses.map((ip) => `${ip.includes(':') ? `[${ip}]` : ip}:${textOf(at(port, 'port'))}`),
    )
  })
  return shorten(texts)
}

function eventSeen(event: ApiObject, now: number): string {
  const series = textAt(event, 'series', 'lastObservedTime')
  return ageOf(
    series ?? textAt(event, 'lastTimestamp') ?? textAt(event, 'eventTime') ?? textAt(event, 'firstTimestamp'),
    now,
  )
}

const SPAN = { description: 'Time as an age.' } as const

/** The columns that a kube-apiserver prints, for the kinds served here. */
export const COLUMNS: { readonly [plural: string]: readonly Column[] } = {
  nodes: [
    NAME,
    column('Status', nodeStatus),
    column('Roles', nodeRoles),
    AGE,
    text('Version', ['status', 'nodeInfo', 'kubeletVersion'], ''),
    column('Internal-IP', nodeAddress('InternalIP'), wide),
    column('External-IP', nodeAddress('ExternalIP'), wide),
    text('OS-Image', ['status', 'nodeInfo', 'osImage'], UNKNOWN, wide),
    text('Kernel-Version', ['status', 'nodeInfo', 'kernelVersion'], UNKNOWN, wide),
    text('Container-Runtime', ['status', 'nodeInfo', 'containerRuntimeVersion'], UNKNOWN, wide),
  ],
  namespaces: [NAME, text('Status', ['status', 'phase'], UNKNOWN), AGE],
  pods: [
    NAME,
    column('Ready', podReady),
    column('Status', podStatus),
    column('Restarts', podRestarts),
    AGE,
    text('IP', ['status', 'podIP'], NONE, wide),
    text('Node', ['spec', 'nodeName'], NONE, wide),
    text('Nominated Node', ['status', 'nominatedNodeName'], NONE, wide),
    column('Readiness Gates', () => NONE, wide),
  ],
  configmaps: [NAME, column('Data', dataCount, { type: 'integer' }), AGE],
  secrets: [NAME, text('Type', ['type'], 'Opaque'), column('Data', dataCount, { type: 'integer' }), AGE],
  services: [
    NAME,
    text('Type', ['spec', 'type'], 'ClusterIP'),
    text('Cluster-IP', ['spec', 'clusterIP'], NONE),
    column('External-IP', externalAddress),
    column('Port(s)', servicePorts),
    AGE,
    column('Selector', (o) => labelsText(at(o, 'spec', 'selector')), wide),
  ],
  endpoints: [NAME, column('Endpoints', endpointTexts), AGE],
  serviceaccounts: [NAME, column('Secrets', (o) => arrayAt(o, 'secrets').length, { type: 'integer' }), AGE],
  events: [
    column('Last Seen', eventSeen, SPAN),
    text('Type', ['type'], ''),
    text('Reason', ['reason'], ''),
    column(
      'Object',
      (o) =>
        `${(textAt(o, 'involvedObject', 'kind') ?? '').toLowerCase()}/${textAt(o, 'involvedObject', 'name') ?? ''}`,
    ),
    text('Subobject', ['involvedObject', 'fieldPath'], '', wide),
    column(
      'Source',
      (o) => {
        const host = textAt(o, 'source', 'host')
        const component = or(textAt(o, 'source', 'component'), textAt(o, 'reportingComponent') ?? '')
        return host === undefined || host === '' ? component : `${component}, ${host}`
      },
      wide,
    ),
    column('Message', (o) => (textAt(o, 'message') ?? '').trim()),
    column('First Seen', (o, now) => ageOf(textAt(o, 'firstTimestamp') ?? textAt(o, 'eventTime'), now), wide),
    column('Count', (o) => Number(at(o, 'count') ?? at(o, 'series', 'count') ?? 1), { ...wide, type: 'integer' }),
    column('Name', (o) => o.metadata.name, wide),
  ],
  leases: [NAME, text('Holder', ['spec', 'holderIdentity'], ''), AGE],
  endpointslices: [
    NAME,
    text('AddressType', ['addressType'], ''),
    column('Ports', (o) => shorten(arrayAt(o, 'ports').map((port) => textOf(at(port, 'port') ?? '*')))),
    column('Endpoints', (o) =>
      shorten(arrayAt(o, 'endpoints').flatMap((item) => arrayAt(item, 'addresses').map(String))),
    ),
    AGE,
  ],
  networkpolicies: [NAME, column('Pod-Selector', (o) => labelsText(at(o, 'spec', 'podSelector', 'matchLabels'))), AGE],
  customresourcedefinitions: [NAME, column('Created At', (o) => o.metadata.creationTimestamp ?? '', { type: 'date' })],
}
