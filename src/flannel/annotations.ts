/**
 * Flannel's annotations on a Node: their names, and what a node publishes in them.
 *
 * Source: flannel's pkg/subnet/kube/annotations.go. Their values come from other machines: whoever may patch a Node's status
 * writes them. `lease.ts` reads them strictly.
 */

import type { Family, IpText } from '#ip/text.ts'
import { backendDataText, type BackendData } from './backend-data.ts'
import { FlannelError, shown } from './errors.ts'

export const DEFAULT_PREFIX = 'flannel.alpha.coreos.com'

/** What each annotation says, by the last part of its name. */
export const ROLES = {
  marker: 'kube-subnet-manager',
  backendType: 'backend-type',
  backendData: 'backend-data',
  backendV6Data: 'backend-v6-data',
  publicIp: 'public-ip',
  publicIpv6: 'public-ipv6',
  /** Written by an operator: the address to use and to publish. */
  nodePublicIp: 'node-public-ip',
  nodePublicIpv6: 'node-public-ipv6',
  /** Written by an operator: replaces only what is published. */
  publicIpOverwrite: 'public-ip-overwrite',
  publicIpv6Overwrite: 'public-ipv6-overwrite',
} as const

export type Role = keyof typeof ROLES

const roleNames = Object.keys(ROLES).filter((name): name is Role => Object.hasOwn(ROLES, name))

/** The values of one Node, as text nobody has checked. */
export type Annotations = { readonly [role in Role]?: string }

/** Full annotation names under one prefix. */
export type AnnotationKeys = { readonly [role in Role]: string }

/**
 * Names under a prefix: `example.org` → `example.org/public-ip`, `example.org/a` → `example.org/a-public-ip`.
 * Throws FlannelError `bad-option` for what Kubernetes would not take as a key.
 */
export function annotationKeys(prefix: string): AnnotationKeys {
  let whole = prefix.includes('/') ? prefix : `${prefix}/`
  if (!whole.endsWith('/') && !whole.endsWith('-')) whole += '-'
  if (!/^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9][a-z0-9_-]*-)?$/.test(whole) || whole.length > 253) {
    throw new FlannelError(
      'bad-option',
      'kube-annotation-prefix',
      `${shown(prefix)} cannot begin an annotation's name`,
      `write a domain name, or one slash and a word more, such as "${DEFAULT_PREFIX}" or "example.org/pods"`,
    )
  }
  const key = (role: Role): string => whole + ROLES[role]
  return {
    marker: key('marker'),
    backendType: key('backendType'),
    backendData: key('backendData'),
    backendV6Data: key('backendV6Data'),
    publicIp: key('publicIp'),
    publicIpv6: key('publicIpv6'),
    nodePublicIp: key('nodePublicIp'),
    nodePublicIpv6: key('nodePublicIpv6'),
    publicIpOverwrite: key('publicIpOverwrite'),
    publicIpv6Overwrite: key('publicIpv6Overwrite'),
  }
}

/** Longer values are nobody's honest annotation; they are not kept in memory. */
const MAX_VALUE = 512

/** Picks flannel's annotations out of a Node's. A value that is too long is replaced by a word saying so, which then fails to parse. */
export function readAnnotations(all: unknown, keys: AnnotationKeys): Annotations {
  const found: { [role in Role]?: string } = {}
  if (typeof all !== 'object' || all === null) return found
  for (const role of roleNames) {
    const value: unknown = Object.getOwnPropertyDescriptor(all, keys[role])?.value
    if (typeof value !== 'string') continue
    found[role] = value.length > MAX_VALUE ? `<${value.length} characters>` : value
  }
  return found
}

/** What this node publishes for one family. */
export interface Published {
  readonly publicIp: IpText
  readonly data: BackendData
}

/**
 * The annotations of the own Node. The backend's data is compact JSON in flannel's key order, because a flanneld that takes the node
 * over finds its MAC by splitting the text.
 */
export function ownAnnotations(
  backendType: string,
  families: { readonly [family in Family]?: Published },
): Annotations {
  const v4 = families[4]
  const v6 = families[6]
  return {
    marker: 'true',
    backendType,
    backendData: v4 === undefined ? 'null' : backendDataText(v4.data),
    ...(v4 === undefined ? {} : { publicIp: v4.publicIp }),
    ...(v6 === undefined ? {} : { backendV6Data: backendDataText(v6.data), publicIpv6: v6.publicIp }),
  }
}

/** Annotations that must be patched, by full name; undefined when the Node has them all. */
export function annotationPatch(
  wanted: Annotations,
  present: Annotations,
  keys: AnnotationKeys,
): Readonly<Record<string, string>> | undefined {
  const patch: Record<string, string> = {}
  for (const role of roleNames) {
    const value = wanted[role]
    if (value !== undefined && value !== present[role]) patch[keys[role]] = value
  }
  return Object.keys(patch).length === 0 ? undefined : patch
}
