/** The few fields of a Kubernetes Node that this network lives by. Five thousand of them are kept, so nothing else is. */

import { readAnnotations, type AnnotationKeys, type Annotations } from './annotations.ts'

export interface NodeView {
  readonly name: string
  readonly uid: string
  /** RFC 3339, as the API server writes it: text order is age order. */
  readonly created: string
  /** `spec.podCIDRs`, else `spec.podCIDR`; unchecked text. */
  readonly podCidrs: readonly string[]
  readonly annotations: Annotations
  /** Status of the condition NetworkUnavailable; absent on most clusters. */
  readonly networkUnavailable?: string
  /** Message of the condition, where it is true, that tells of a configuration that is not used. */
  readonly confRefused?: string
}

/** The condition that tells of a changed network configuration that is not used. */
export const CONF_REFUSED = 'NetworkConfigurationRefused'

const MAX_TEXT = 256
const MAX_PODCIDRS = 8

/** Reads a Node as the API server sent it; undefined for what is no object with a name. Never throws. */
export function nodeView(object: unknown, keys: AnnotationKeys): NodeView | undefined {
  const metadata = field(object, 'metadata')
  const spec = field(object, 'spec')
  const name = text(field(metadata, 'name'))
  if (name === '') return undefined
  const conditions = field(field(object, 'status'), 'conditions')
  const unavailable = condition(conditions, 'NetworkUnavailable', 'status')
  const isRefused = condition(conditions, CONF_REFUSED, 'status') === 'True'
  return {
    name,
    uid: text(field(metadata, 'uid')),
    created: text(field(metadata, 'creationTimestamp')),
    podCidrs: podCidrs(spec),
    annotations: readAnnotations(field(metadata, 'annotations'), keys),
    ...(unavailable === undefined ? {} : { networkUnavailable: unavailable }),
    ...(isRefused ? { confRefused: condition(conditions, CONF_REFUSED, 'message') ?? '' } : {}),
  }
}

function podCidrs(spec: unknown): readonly string[] {
  const list = field(spec, 'podCIDRs')
  const many = Array.isArray(list)
    ? list
        .slice(0, MAX_PODCIDRS)
        .map(text)
        .filter((cidr) => cidr !== '')
    : []
  const one = text(field(spec, 'podCIDR'))
  return many.length > 0 || one === '' ? many : [one]
}

function condition(list: unknown, type: string, part: 'status' | 'message'): string | undefined {
  if (!Array.isArray(list)) return undefined
  const found: unknown = list.find((item) => field(item, 'type') === type)
  return found === undefined ? undefined : text(field(found, part))
}

/** An own property that came from JSON; never one of a prototype. */
function field(object: unknown, name: string): unknown {
  return typeof object === 'object' && object !== null
    ? Object.getOwnPropertyDescriptor(object, name)?.value
    : undefined
}

const text = (value: unknown): string => (typeof value === 'string' && value.length <= MAX_TEXT ? value : '')
