/**
 * Values of leases: what a node says of itself beside its subnet. Source: flannel's pkg/lease (LeaseAttrs); the same JSON with the same keys in the same order,
 * byte for byte, because flanneld reads ours and we read flanneld's.
 */

import { formatIp, tryParseIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import type { Annotations } from '../annotations.ts'
import type { Backend } from '../backend/backend.ts'
import { backendDataText } from '../backend-data.ts'
import { foldKeys } from '../fold.ts'
import type { Local } from '../local.ts'

/** Unchecked text, as a lease states it; data is compact JSON. */
export interface Attributes {
  readonly publicIp: string
  readonly publicIpv6?: string
  /** Empty for udp, and where an operator only reserves a subnet. */
  readonly backendType: string
  readonly backendData?: string
  readonly backendV6Data?: string
}

/** A longer value is nobody's honest lease (bytes). */
const MAX_VALUE = 4096
/** As of annotations. */
const MAX_TEXT = 512

/** `{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"…"}}`; what is empty is left out. */
export function formatAttributes(attributes: Attributes): string {
  const { publicIp, publicIpv6, backendType, backendData, backendV6Data } = attributes
  const fields = [
    `"PublicIP":${JSON.stringify(publicIp)}`,
    `"PublicIPv6":${publicIpv6 === undefined ? 'null' : JSON.stringify(publicIpv6)}`,
    ...(backendType === '' ? [] : [`"BackendType":${JSON.stringify(backendType)}`]),
    ...(backendData === undefined ? [] : [`"BackendData":${backendData}`]),
    ...(backendV6Data === undefined ? [] : [`"BackendV6Data":${backendV6Data}`]),
  ]
  return `{${fields.join(',')}}`
}

/** Reads a value: keys in any case, as Go takes them. Undefined for one that says nothing. Never throws. */
export function parseAttributes(value: Uint8Array): Attributes | undefined {
  if (value.length > MAX_VALUE) return undefined
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(value).toString())
  } catch {
    return undefined
  }
  const values = foldKeys(json)?.values
  if (values === undefined) return undefined
  const text = (key: string): string | undefined => {
    const found = values.get(key)
    return typeof found === 'string' && found.length <= MAX_TEXT ? found : undefined
  }
  const data = (key: string): string | undefined => {
    if (!values.has(key)) return undefined
    const found = JSON.stringify(values.get(key))
    return found.length <= MAX_TEXT ? found : `<${found.length} characters>`
  }
  const [publicIpv6, backendData, backendV6Data] = [text('publicipv6'), data('backenddata'), data('backendv6data')]
  return {
    publicIp: text('publicip') ?? '',
    backendType: text('backendtype') ?? '',
    ...(publicIpv6 === undefined ? {} : { publicIpv6 }),
    ...(backendData === undefined ? {} : { backendData }),
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
  }
}

/** What this node says of itself; undefined without IPv4, which such leases cannot be without. */
export function attributesOf(local: Local, backend: Backend): Attributes | undefined {
  const [v4, v6] = [local[4], local[6]]
  if (v4 === undefined) return undefined
  const data = (family: 4 | 6): string | undefined => {
    const published = backend.published(local, family)
    return published.kind === 'none' ? undefined : backendDataText(published)
  }
  const [backendData, backendV6Data] = [data(4), v6 === undefined ? undefined : data(6)]
  return {
    publicIp: v4.publicIp,
    ...(v6 === undefined ? {} : { publicIpv6: v6.publicIp }),
    backendType: backend.type,
    ...(backendData === undefined ? {} : { backendData }),
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
  }
}

/** True when both speak of the node with these addresses. Addresses may be written in several ways. */
export const sameNode = (a: Attributes, b: Attributes): boolean =>
  canonical(a.publicIp) !== undefined &&
  canonical(a.publicIp) === canonical(b.publicIp) &&
  (a.publicIpv6 === undefined || b.publicIpv6 === undefined || canonical(a.publicIpv6) === canonical(b.publicIpv6))

function canonical(text: string): IpText | undefined {
  const ip = tryParseIp(text)
  return ip === undefined ? undefined : formatIp(ip)
}

/** The same as a Node's annotations would say it. A reservation, which nobody uses yet, has no marker. */
export function annotationsOf(attributes: Attributes, ownType: string): Annotations {
  const { publicIp, publicIpv6, backendType, backendData, backendV6Data } = attributes
  const isReservation = backendType === '' && ownType !== ''
  return {
    ...(isReservation ? {} : { marker: 'true' }),
    backendType,
    backendData: backendData ?? 'null',
    publicIp,
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
    ...(publicIpv6 === undefined ? {} : { publicIpv6 }),
  }
}
