/** What is used of a Pod. What cannot be read is left out, and harms only this Pod. */

import * as v from 'valibot'

import { formatIp, tryParseIp, type IpText } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import { FLOATING_IP, FLOATING_IP_STATUS } from './annotations.ts'

/** What the annotation asks for. */
export type FloatingWish =
  | { readonly kind: 'auto'; readonly network: string | undefined }
  | { readonly kind: 'address'; readonly address: IpText }
  | { readonly kind: 'unreadable'; readonly text: string }

export interface PodView {
  /** `namespace/name` */
  readonly key: string
  readonly uid: string
  /** Name of its Node; empty before it has one. */
  readonly node: string
  readonly addresses: readonly IpText[]
  /** It ran and never will again; its addresses are another's, soon. */
  readonly isOver: boolean
  readonly isReady: boolean
  readonly floating: FloatingWish | undefined
  /** What the status annotation says now. */
  readonly floatingStatus: string | undefined
  /** Milliseconds since 1970. */
  readonly created: number
}

const Text = v.fallback(v.pipe(v.string(), v.maxLength(253)), '')
const Shape = v.object({
  metadata: v.object({
    namespace: v.pipe(v.string(), v.maxLength(63)),
    name: v.pipe(v.string(), v.maxLength(253)),
    uid: v.pipe(v.string(), v.maxLength(128)),
    creationTimestamp: Text,
    annotations: v.fallback(v.record(v.string(), v.unknown()), {}),
  }),
  spec: v.fallback(v.object({ nodeName: Text, hostNetwork: v.fallback(v.boolean(), false) }), {
    nodeName: '',
    hostNetwork: false,
  }),
  status: v.fallback(
    v.object({
      phase: Text,
      podIP: Text,
      podIPs: v.fallback(v.array(v.object({ ip: Text })), []),
      conditions: v.fallback(v.array(v.object({ type: Text, status: Text })), []),
    }),
    { phase: '', podIP: '', podIPs: [], conditions: [] },
  ),
})

const MAX_ADDRESSES = 8

/** Reads the annotation {@link FLOATING_IP}. */
export function floatingWish(text: string): FloatingWish {
  if (text === 'auto') return { kind: 'auto', network: undefined }
  const network = /^auto:([\w-]{1,64})$/.exec(text)?.[1]
  if (network !== undefined) return { kind: 'auto', network }
  const ip = tryParseIp(text)
  // Neutron has floating IPs of IPv4 alone.
  if (ip?.family === 4) return { kind: 'address', address: formatIp(ip) }
  return { kind: 'unreadable', text: text.slice(0, 64) }
}

/** Undefined for pods that share their node's network. @throws v.ValiError what has no name or uid */
export function podView(pod: unknown): PodView | undefined {
  const { metadata, spec, status } = v.parse(Shape, pod)
  if (spec.hostNetwork) return undefined
  const texts = status.podIPs.length > 0 ? status.podIPs.map(({ ip }) => ip) : [status.podIP]
  const addresses = texts.slice(0, MAX_ADDRESSES).flatMap((text) => tryParseIp(text) ?? [])
  const wish = metadata.annotations[FLOATING_IP]
  const told = metadata.annotations[FLOATING_IP_STATUS]
  const created = Date.parse(metadata.creationTimestamp)
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    uid: metadata.uid,
    node: spec.nodeName,
    addresses: [...new Set(addresses.map(formatIp))],
    isOver: status.phase === 'Succeeded' || status.phase === 'Failed',
    isReady: status.conditions.some((one) => one.type === 'Ready' && one.status === 'True'),
    floating: typeof wish === 'string' && wish !== '' ? floatingWish(wish) : undefined,
    floatingStatus: typeof told === 'string' ? told.slice(0, 1_024) : undefined,
    created: Number.isNaN(created) ? 0 : created,
  }
}

/** The address that a floating IP can lead to. */
export const address4 = (pod: PodView): IpText | undefined => pod.addresses.find((ip) => familyOf(ip) === 4)
