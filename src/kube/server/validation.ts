import { arrayAt, at, equal, isObject, objectAt, textAt, textOf } from '../json.ts'
import type { Json } from '../json.ts'
import type { ApiObject } from './object.ts'
import type { ResourceType } from './resource.ts'
import { isLabelKey, isLabelValue } from './selectors.ts'
import type { FieldError } from './status.ts'

const LABEL = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/
const ANNOTATIONS_LIMIT = 256 * 1024

const SUBDOMAIN_TEXT =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
const LABEL_TEXT =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"

/** A value of the wrong kind. */
export const invalidValue = (field: string, value: Json, why: string): FieldError => ({
  field,
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
})

/** A field that must be there. */
export const required = (field: string, why = ''): FieldError => ({
  field,
  reason: 'FieldValueRequired',
  message: `Required value${why === '' ? '' : `: ${why}`}`,
})

const forbiddenField = (field: string, why: string): FieldError => ({
  field,
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${why}`,
})

const unsupported = (field: string, value: Json, supported: readonly string[]): FieldError => ({
  field,
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((item) => JSON.stringify(item)).join(', ')}`,
})

/** Names, labels and annotations, by the rules that all kinds share. */
export function validateMetadata(type: ResourceType, object: ApiObject): FieldError[] {
  const errors: FieldError[] = []
  const { name, labels = {}, annotations = {}, generateName } = object.metadata
  if (name === '')
    errors.push(required('metadata.name', generateName === undefined ? 'name or generateName is required' : ''))
  else if (type.labelNames && (!LABEL.test(name) || name.length > 63))
    errors.push(invalidValue('metadata.name', name, LABEL_TEXT))
  else if (!SUBDOMAIN.test(name) || name.length > 253) errors.push(invalidValue('metadata.name', name, SUBDOMAIN_TEXT))
  for (const [key, value] of Object.entries(labels)) {
    if (!isLabelKey(key))
      errors.push(invalidValue('metadata.labels', key, 'is no qualified name (prefix/name, at most 63 characters)'))
    if (!isLabelValue(value))
      errors.push(
        invalidValue('metadata.labels', value, 'is no label value (at most 63 alphanumeric characters, -, _ or .)'),
      )
  }
  let size = 0
  for (const [key, value] of Object.entries(annotations)) {
    size += key.length + value.length
    // Annotation keys are compared in lower case.
    if (!isLabelKey(key.toLowerCase()))
      errors.push(
        invalidValue('metadata.annotations', key, 'is no qualified name (prefix/name, at most 63 characters)'),
      )
  }
  if (size > ANNOTATIONS_LIMIT) {
    errors.push({
      field: 'metadata.annotations',
      reason: 'FieldValueInvalid',
      message: `Too long: may not be more than ${ANNOTATIONS_LIMIT} bytes`,
    })
  }
  for (const [index, owner] of arrayAt(object, 'metadata', 'ownerReferences').entries()) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid']) {
      if ((textAt(owner, field) ?? '') === '') errors.push(required(`metadata.ownerReferences[${index}].${field}`))
    }
  }
  return errors
}

/** Pods: named containers with images, no two of one name; the node is chosen once. */
export function validatePod(pod: ApiObject, previous: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = []
  const containers = arrayAt(pod, 'spec', 'containers')
  if (containers.length === 0) errors.push(required('spec.containers'))
  const seen = new Set<string>()
  for (const [index, container] of containers.entries()) {
    const field = `spec.containers[${index}]`
    const name = textAt(container, 'name') ?? ''
    if (name === '') errors.push(required(`${field}.name`))
    else if (!LABEL.test(name)) errors.push(invalidValue(`${field}.name`, name, LABEL_TEXT))
    if (seen.has(name))
      errors.push({
        field: `${field}.name`,
        reason: 'FieldValueInvalid',
        message: `Duplicate value: ${JSON.stringify(name)}`,
      })
    seen.add(name)
    if ((textAt(container, 'image') ?? '') === '') errors.push(required(`${field}.image`))
    for (const [at_, port] of arrayAt(container, 'ports').entries())
      errors.push(...portErrors(`${field}.ports[${at_}]`, port))
  }
  const before = textAt(previous, 'spec', 'nodeName')
  if (before !== undefined && before !== textAt(pod, 'spec', 'nodeName')) {
    errors.push(
      forbiddenField(
        'spec',
        'pod updates may not change fields other than `spec.containers[*].image`,`spec.tolerations` (nodeName is set once)',
      ),
    )
  }
  return errors
}

const PROTOCOLS = ['SCTP', 'TCP', 'UDP']

function portErrors(field: string, port: Json): FieldError[] {
  const errors: FieldError[] = []
  for (const key of ['containerPort', 'port', 'hostPort', 'nodePort']) {
    const value = at(port, key)
    const zero = value === 0 && (key === 'hostPort' || key === 'nodePort')
    if (value === undefined || zero) continue
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65535) {
      errors.push(invalidValue(`${field}.${key}`, value, 'must be between 1 and 65535, inclusive'))
    }
  }
  const protocol = at(port, 'protocol')
  if (protocol !== undefined && !PROTOCOLS.includes(textOf(protocol)))
    errors.push(unsupported(`${field}.protocol`, protocol, PROTOCOLS))
  return errors
}

/** Nodes: pod CIDRs are given once. */
export function validateNode(node: ApiObject, previous: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = []
  for (const field of ['podCIDR', 'podCIDRs', 'providerID']) {
    const before = at(previous, 'spec', field)
    const empty = before === undefined || before === '' || (Array.isArray(before) && before.length === 0)
    if (!empty && !equal(before, at(node, 'spec', field))) {
      errors.push(forbiddenField('spec', `node updates may not change ${field} except from "" to valid`))
    }
  }
  const [first] = arrayAt(node, 'spec', 'podCIDRs')
  const single = at(node, 'spec', 'podCIDR')
  if (first !== undefined && single !== undefined && single !== first) {
    errors.push(invalidValue('spec.podCIDRs[0]', first, 'the first of podCIDRs must be podCIDR'))
  }
  return errors
}

/** Services: ports, and a type that exists. */
export function validateService(service: ApiObject): FieldError[] {
  const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']
  const type = at(service, 'spec', 'type') ?? 'ClusterIP'
  const errors: FieldError[] = types.includes(textOf(type)) ? [] : [unsupported('spec.type', type, types)]
  const ports = arrayAt(service, 'spec', 'ports')
  const headless = at(service, 'spec', 'clusterIP') === 'None'
  if (ports.length === 0 && type !== 'ExternalName' && !headless) errors.push(required('spec.ports'))
  for (const [index, port] of ports.entries()) {
    if (at(port, 'port') === undefined) errors.push(required(`spec.ports[${index}].port`))
    if (ports.length > 1 && (textAt(port, 'name') ?? '') === '') errors.push(required(`spec.ports[${index}].name`))
    errors.push(...portErrors(`spec.ports[${index}]`, port))
  }
  return errors
}

/** ConfigMaps and Secrets: maps of strings; immutable ones stay as they are. */
export function validateData(object: ApiObject, previous: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = []
  for (const field of ['data', 'binaryData']) {
    const data = at(object, field)
    if (data !== undefined && data !== null && !isObject(data))
      errors.push(invalidValue(field, data, 'must be a map of strings'))
    for (const [key, value] of Object.entries(objectAt(object, field))) {
      if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key))
        errors.push(
          invalidValue(
            `${field}[${key}]`,
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
          ),
        )
      if (typeof value !== 'string') errors.push(invalidValue(`${field}[${key}]`, value, 'must be a string'))
    }
  }
  if (at(previous, 'immutable') === true && !equal(at(previous, 'data'), at(object, 'data'))) {
    errors.push(forbiddenField('data', 'field is immutable when `immutable` is set'))
  }
  return errors
}

/** Leases: positive durations. */
export function validateLease(lease: ApiObject): FieldError[] {
  const errors: FieldError[] = []
  const seconds = at(lease, 'spec', 'leaseDurationSeconds')
  if (seconds !== undefined && !(typeof seconds === 'number' && seconds > 0)) {
    errors.push(invalidValue('spec.leaseDurationSeconds', seconds, 'must be greater than 0'))
  }
  const transitions = at(lease, 'spec', 'leaseTransitions')
  if (transitions !== undefined && !(typeof transitions === 'number' && transitions >= 0)) {
    errors.push(invalidValue('spec.leaseTransitions', transitions, 'must be greater than or equal to 0'))
  }
  return errors
}

/** Events: in the namespace of what they speak of. */
export function validateEvent(event: ApiObject): FieldError[] {
  const about = textAt(event, 'involvedObject', 'namespace') ?? ''
  const { namespace = '' } = event.metadata
  const fits = about === namespace || (about === '' && (namespace === 'default' || namespace === 'kube-system'))
  return fits ? [] : [invalidValue('involvedObject.namespace', about, 'does not match event.namespace')]
}

/** EndpointSlices: an address family that is fixed. */
export function validateEndpointSlice(slice: ApiObject, previous: ApiObject | undefined): FieldError[] {
  const types = ['FQDN', 'IPv4', 'IPv6']
  const type = at(slice, 'addressType')
  if (type === undefined) return [required('addressType')]
  if (!types.includes(textOf(type))) return [unsupported('addressType', type, types)]
  if (previous !== undefined && !equal(at(previous, 'addressType'), type))
    return [invalidValue('addressType', type, 'field is immutable')]
  return []
}
