/**
 * How what is made in a cloud tells whose it is, so that it is found again after whoever made it has died. Pure.
 *
 * The mark stands twice: as text in a field that is there from the first request on (`name`; `description` of a floating IP), and as tags, by
 * which one can ask. Tags alone are not enough: most Neutrons pass over them in a POST, and a crash before the second request leaves none.
 */

/**
 * `pod`: a port that is one pod's. `prefix`: a port that reserves addresses of which pods get theirs; its subject is the port of the node that has
 * the address pair. `address`: a port that reserves one such address. `nic`: a card that is attached to the node's server. `floating-ip`: a public address made for a pod.
 */
export const MARK_KINDS = ['pod', 'prefix', 'address', 'nic', 'floating-ip'] as const
export type MarkKind = (typeof MARK_KINDS)[number]

export interface Mark {
  /** Tells clusters in one project apart. What bears {@link UNNAMED_CLUSTER} is never collected. */
  readonly cluster: string
  readonly kind: MarkKind
  /** Whose it is: the UID of the Kubernetes Node; where none is known, the id of its server (systemUUID), or its name. */
  readonly node: string
  /** What it belongs to beyond the node, if anything: a port's id, a container's id, `namespace.pod` of a floating IP. */
  readonly subject?: string
}

/** For sites that gave their cluster no name: who has none cannot tell what is its own. */
export const UNNAMED_CLUSTER = 'unnamed'

/** First tag of everything, `openstack port list --tags heddle`. */
export const HEDDLE_TAG = 'heddle'

const CLUSTER = /^[a-z0-9](?:[a-z0-9.-]{0,38}[a-z0-9])?$/
/** A tag has 60 characters at most, in Neutron before 2023. */
const NODE = /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,46}[A-Za-z0-9])?$/
const SUBJECT = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$/

/** True for a cluster's name: 1 to 40 of `a-z 0-9 . -`, as in a DNS name. */
export const isClusterName = (text: string): boolean => CLUSTER.test(text)

/** True for a node's UID, server id or name of up to 48 characters. */
export const isMarkNode = (text: string): boolean => NODE.test(text)

const isKind = (text: string): text is MarkKind => MARK_KINDS.some((kind) => kind === text)

/** The mark as one text: `heddle:CLUSTER:KIND:NODE[:SUBJECT]`. @throws RangeError a part that no mark can have */
export function markText(mark: Mark): string {
  const { cluster, kind, node, subject } = mark
  if (!CLUSTER.test(cluster)) throw new RangeError(`cluster "${cluster}": use 1 to 40 of a-z, 0-9, "." and "-"`)
  if (!NODE.test(node)) throw new RangeError(`node "${node}": use 1 to 48 letters, digits, "." and "-"`)
  if (subject !== undefined && !SUBJECT.test(subject)) {
    throw new RangeError(`subject "${subject}": use 1 to 128 letters, digits, ".", "_" and "-"`)
  }
  return ['heddle', cluster, kind, node, ...(subject === undefined ? [] : [subject])].join(':')
}

/** What a text says that {@link markText} made. */
export function readMarkText(text: string): Mark | undefined {
  if (text.length > 255) return undefined
  const [word, cluster = '', kind = '', node = '', subject, ...more] = text.split(':')
  if (word !== 'heddle' || more.length > 0 || !isKind(kind) || !CLUSTER.test(cluster) || !NODE.test(node))
    return undefined
  if (subject === undefined) return { cluster, kind, node }
  return SUBJECT.test(subject) ? { cluster, kind, node, subject } : undefined
}

/** Tag by which all that is a cluster's is listed. */
export const clusterTag = (cluster: string): string => `heddle-cluster=${cluster}`
/** Tag by which all that is a node's is listed. */
export const nodeTag = (node: string): string => `heddle-node=${node}`

/** The tags that go with {@link markText}. */
export const markTags = (mark: Mark): readonly string[] => [
  HEDDLE_TAG,
  clusterTag(mark.cluster),
  nodeTag(mark.node),
  `heddle-kind=${mark.kind}`,
]

/** A new port's fields that bear the mark. A card's `device_id` becomes the server's when it is attached, so the name alone counts. */
export const markFields = (mark: Mark): { readonly name: string; readonly tags: readonly string[] } => ({
  name: markText(mark),
  tags: markTags(mark),
})

/** What of an object may bear a mark. */
export interface Marked {
  readonly name?: string
  readonly description?: string
  readonly tags?: readonly string[]
}

/**
 * Whose an object is. Undefined for what bears no mark, and for what bears two that contradict each other: somebody changed it, so it is not
 * touched. Tags without the text are no mark either: everybody tags, and the text was there first.
 */
export function markOf(object: Marked): Mark | undefined {
  const mark = readMarkText(object.name ?? '') ?? readMarkText(object.description ?? '')
  if (mark === undefined) return undefined
  const expected = new Set(markTags(mark))
  const foreign = (object.tags ?? []).some((tag) => /^heddle-(cluster|node|kind)=/.test(tag) && !expected.has(tag))
  return foreign ? undefined : mark
}

const POD = 'heddle-pod='

/**
 * Tags by which a pod holds a floating IP that somebody else made: its description is not ours to change. They are set before it leads
 * to the pod, and taken away after it does no more.
 */
export const holdTags = (cluster: string, pod: string): readonly string[] => [clusterTag(cluster), `${POD}${pod}`]

/** UID of the pod of a cluster that holds a floating IP, made for it or not. */
export function holderOf(object: Marked, cluster: string): string | undefined {
  const mark = markOf(object)
  if (mark !== undefined) return mark.kind === 'floating-ip' && mark.cluster === cluster ? mark.subject : undefined
  const tags = object.tags ?? []
  if (!tags.includes(clusterTag(cluster))) return undefined
  const pods = tags.filter((tag) => tag.startsWith(POD)).map((tag) => tag.slice(POD.length))
  return pods.length === 1 ? pods[0] : undefined
}
