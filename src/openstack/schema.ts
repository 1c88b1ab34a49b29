/** Pieces of the services' answers. What an answer has beyond a schema is dropped. */

import * as v from 'valibot'

import { formatIp, tryParseIp, type IpText } from '#ip/address.ts'
import { tryParseMac, type MacText } from '#ip/mac.ts'
import { formatCidr, formatIpNet, tryParseCidr, tryParseIpNet, type CidrText, type IpNetText } from '#ip/prefix.ts'

/** Ids are UUIDs by custom, and anything short by the API's word: projects have 32 digits, `fake_project_id` exists too. */
export const Id = v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/, 'is no id'))
export const OptionalId = v.optional(v.union([Id, v.literal('')]), '')

export const Ip: v.GenericSchema<unknown, IpText> = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const ip = tryParseIp(dataset.value)
    if (ip !== undefined) return formatIp(ip)
    addIssue({ message: `"${dataset.value.slice(0, 60)}" is no IP address` })
    return NEVER
  }),
)

export const CidrSchema: v.GenericSchema<unknown, CidrText> = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const cidr = tryParseCidr(dataset.value)
    if (cidr !== undefined) return formatCidr(cidr)
    addIssue({ message: `"${dataset.value.slice(0, 60)}" is no CIDR` })
    return NEVER
  }),
)

/** An address or network, with or without a length: routes that others wrote may have bits beyond it. */
export const IpNetSchema: v.GenericSchema<unknown, IpNetText> = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const { value } = dataset
    const net = tryParseIpNet(value.includes('/') ? value : `${value}/${value.includes(':') ? 128 : 32}`)
    if (net !== undefined) return formatIpNet(net)
    addIssue({ message: `"${value.slice(0, 60)}" is neither address nor network` })
    return NEVER
  }),
)

export const Mac: v.GenericSchema<unknown, MacText> = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const mac = tryParseMac(dataset.value)
    if (mac !== undefined) return mac
    addIssue({ message: `"${dataset.value.slice(0, 60)}" is no MAC address` })
    return NEVER
  }),
)

/** Null and a missing field are one to these services. */
export const nullable = <S extends v.GenericSchema>(
  schema: S,
): v.GenericSchema<unknown, v.InferOutput<S> | undefined> =>
  v.pipe(
    v.optional(v.nullable(schema)),
    v.transform((value) => value ?? undefined),
  )

export const Text = v.optional(v.string(), '')
export const Count = v.pipe(v.number(), v.safeInteger())
