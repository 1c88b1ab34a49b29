/** The representation that a client prefers, among those that this server has. */
export interface Representation {
  /** `Table`, `PartialObjectMetadata`, `PartialObjectMetadataList`, `APIGroupDiscoveryList`; undefined: the object itself. */
  readonly as: string | undefined
  /** Version of that kind's group: `v1`, `v1beta1`, `v2`. */
  readonly version: string
}

const PLAIN: Representation = { as: undefined, version: '' }
const KNOWN = new Map([
  ['Table', ['v1', 'v1beta1']],
  ['PartialObjectMetadata', ['v1', 'v1beta1']],
  ['PartialObjectMetadataList', ['v1', 'v1beta1']],
  ['APIGroupDiscoveryList', ['v2', 'v2beta1']],
])

/**
 * Reads an Accept header: the first media type that can be served, in the order given (clients of Kubernetes use no
 * weights). Answers undefined where there is none (406).
 */
export function negotiate(accept: string | undefined): Representation | undefined {
  if (accept === undefined || accept.trim() === '') return PLAIN
  for (const entry of accept.split(',')) {
    const [type = '', ...parameters] = entry.split(';').map((part) => part.trim())
    const values = new Map(
      parameters.map((parameter) => [parameter.split('=')[0] ?? '', parameter.split('=')[1] ?? '']),
    )
    const as = values.get('as')
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue
    if (as === undefined) return PLAIN
    const version = values.get('v') ?? ''
    if (KNOWN.get(as)?.includes(version) === true) return { as, version }
  }
  return undefined
}
