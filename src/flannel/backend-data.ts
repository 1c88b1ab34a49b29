/** What a backend publishes beside a node's address: the JSON in `backend-data`. */

import * as v from 'valibot'

import { isGroupMac, tryParseMac, ZERO_MAC } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import { FlannelError, shown } from './errors.ts'
import { foldKeys } from './fold.ts'
import type { TextData } from './extension/data.ts'
import { wireguardDataText, type WireguardPeerData } from './wireguard/data.ts'

/** Where a VXLAN tunnel ends. Flannel of old did not write the VNI. */
export interface VtepData {
  readonly kind: 'vtep'
  readonly vni?: number
  readonly mac: MacText
}

/** host-gw and others have nothing to say. */
export interface NoData {
  readonly kind: 'none'
}

export type BackendData = VtepData | WireguardPeerData | TextData | NoData

/** Compact, in the key order of flannel. */
export function backendDataText(data: BackendData): string {
  switch (data.kind) {
    case 'none':
      return 'null'
    case 'vtep':
      return JSON.stringify({ ...(data.vni === undefined ? {} : { VNI: data.vni }), VtepMAC: data.mac })
    case 'wireguard':
      return wireguardDataText(data)
    case 'text':
      return JSON.stringify(data.text)
    default:
      return data satisfies never
  }
}

const Vtep = v.object({
  vni: v.optional(
    v.pipe(v.number('expected a number'), v.integer('expected a whole number'), v.minValue(0), v.maxValue(0xff_ffff)),
  ),
  vtepmac: v.string('expected a MAC address'),
})

/** Reads a VXLAN peer's data: keys in any case, unknown ones ignored. Throws FlannelError `bad-annotation`. */
export function parseVtepData(text: string | undefined, field: string): VtepData {
  const { vni, vtepmac } = parseAnnotation(Vtep, text, field, { vni: 'VNI', vtepmac: 'VtepMAC' })
  const mac = tryParseMac(vtepmac)
  if (mac === undefined || mac === ZERO_MAC || isGroupMac(mac))
    throw unreadable(field, `VtepMAC is ${shown(vtepmac)}, which is no station's MAC address`)
  return { kind: 'vtep', mac, ...(vni === undefined ? {} : { vni }) }
}

/** A JSON object in an annotation, by a schema with keys in lower case; `names` are their spellings, for messages. Throws FlannelError `bad-annotation`. */
export function parseAnnotation<S extends v.GenericSchema>(
  schema: S,
  text: string | undefined,
  field: string,
  names: Readonly<Record<string, string>>,
): v.InferOutput<S> {
  if (text === undefined) throw unreadable(field, 'it is missing')
  const folded = foldKeys(parseAnnotationJson(text, field))
  if (folded === undefined) throw unreadable(field, `it is ${shown(text)}`)
  const parsed = v.safeParse(schema, Object.fromEntries(folded.values), { abortEarly: true, abortPipeEarly: true })
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  const key = v.getDotPath(issue) ?? ''
  throw unreadable(field, `${names[key] ?? key} is ${shown(issue.input)}: ${issue.message}`)
}

/** Throws FlannelError `bad-annotation`. */
export function parseAnnotationJson(text: string, field: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw unreadable(field, `${shown(text)} is not JSON`)
  }
}

/** An annotation that does not say what it should. */
export const unreadable = (field: string, why: string): FlannelError =>
  new FlannelError(
    'bad-annotation',
    field,
    `annotation ${field}: ${why}`,
    'the agent of that node writes it anew when it is restarted',
  )
