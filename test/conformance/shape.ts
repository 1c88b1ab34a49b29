/**
 * The shape of a result in each version of the specification, and the same result written in another version. On purpose not the code
 * that Heddle's own plugins use: they are among those that are judged. Source: CNI SPEC.md §5 of the versions named.
 */

import * as v from 'valibot'
import { isIPv4, isIPv6 } from 'node:net'
import type { JsonObject } from '#cni/json.ts'
import { Failed, shorten } from './call.ts'

const ip = (is: (text: string) => boolean) => v.pipe(v.string(), v.check(is, 'no address'))
const cidr = (is: (text: string) => boolean, bits: number) =>
  v.pipe(
    v.string(),
    v.check((text) => {
      const [address = '', length = ''] = text.split('/')
      return is(address) && /^\d{1,3}$/.test(length) && Number(length) <= bits
    }, 'no address/length'),
  )
const anyIp = v.union([ip(isIPv4), ip(isIPv6)])
const anyCidr = v.union([cidr(isIPv4, 32), cidr(isIPv6, 128)])
const count = v.pipe(v.number(), v.integer(), v.minValue(0))
const dns = v.strictObject({
  nameservers: v.optional(v.array(anyIp)),
  domain: v.optional(v.string()),
  search: v.optional(v.array(v.string())),
  options: v.optional(v.array(v.string())),
})
const plainRoute = v.strictObject({ dst: anyCidr, gw: v.optional(anyIp) })
/** What 1.1.0 added is not forbidden to a 1.0.0 result: there, unknown keys are to be ignored. */
const route = v.strictObject({
  ...plainRoute.entries,
  mtu: v.optional(count),
  advmss: v.optional(count),
  priority: v.optional(count),
  table: v.optional(count),
  scope: v.optional(count),
})
const plainInterface = v.strictObject({
  name: v.pipe(v.string(), v.minLength(1)),
  mac: v.optional(v.pipe(v.string(), v.regex(/^([\da-f]{2}:){5}[\da-f]{2}$/))),
  sandbox: v.optional(v.string()),
})
const newInterface = v.strictObject({
  ...plainInterface.entries,
  mtu: v.optional(count),
  socketPath: v.optional(v.string()),
  pciID: v.optional(v.string()),
})
const oldFamily = (is: (text: string) => boolean, bits: number) =>
  v.strictObject({
    ip: cidr(is, bits),
    gateway: v.optional(ip(is)),
    routes: v.optional(v.nullable(v.array(v.strictObject({ dst: cidr(is, bits), gw: v.optional(ip(is)) })))),
  })

const oldest = (version: string) =>
  v.strictObject({
    cniVersion: v.literal(version),
    ip4: v.optional(oldFamily(isIPv4, 32)),
    ip6: v.optional(oldFamily(isIPv6, 128)),
    dns: v.optional(dns),
  })

const middle = (version: string) =>
  v.strictObject({
    cniVersion: v.literal(version),
    interfaces: v.optional(v.array(plainInterface)),
    ips: v.optional(
      v.array(
        v.strictObject({
          version: v.picklist(['4', '6']),
          interface: v.optional(count),
          address: anyCidr,
          gateway: v.optional(anyIp),
        }),
      ),
    ),
    routes: v.optional(v.array(v.union([plainRoute, route]))),
    dns: v.optional(dns),
  })

const newest = (version: string) =>
  v.strictObject({
    cniVersion: v.literal(version),
    interfaces: v.optional(v.array(newInterface)),
    ips: v.optional(
      v.array(v.strictObject({ interface: v.optional(count), address: anyCidr, gateway: v.optional(anyIp) })),
    ),
    routes: v.optional(v.array(route)),
    dns: v.optional(dns),
  })

const schemas: Readonly<Record<string, v.GenericSchema>> = {
  '0.1.0': oldest('0.1.0'),
  '0.2.0': oldest('0.2.0'),
  '0.3.0': middle('0.3.0'),
  '0.3.1': middle('0.3.1'),
  '0.4.0': middle('0.4.0'),
  '1.0.0': newest('1.0.0'),
  '1.1.0': newest('1.1.0'),
}

export interface ResultLink {
  readonly name: string
  readonly mac?: string
  readonly sandbox?: string
}

/** What all versions from 0.3.0 on have in common, read out of a result. */
export interface ReadResult {
  readonly interfaces: readonly ResultLink[]
  readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[]
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[]
}

const readable = v.object({
  interfaces: v.optional(
    v.array(v.object({ name: v.string(), mac: v.exactOptional(v.string()), sandbox: v.exactOptional(v.string()) })),
    [],
  ),
  ips: v.optional(
    v.array(
      v.object({
        address: v.string(),
        gateway: v.exactOptional(v.string()),
        interface: v.exactOptional(v.number()),
      }),
    ),
    [],
  ),
  routes: v.optional(v.array(v.object({ dst: v.string(), gw: v.exactOptional(v.string()) })), []),
})

/** Throws Failed unless the document is a result of that version in every detail. */
export function checkShape(document: JsonObject, version: string): void {
  const schema = schemas[version]
  if (schema === undefined) throw new Error(`no shape for version ${version}`)
  const checked = v.safeParse(schema, document)
  if (checked.success) return
  const problems = checked.issues.map((issue) => `${v.getDotPath(issue) ?? '(all)'}: ${issue.message}`)
  throw new Failed(`the result is not one of ${version}: ${shorten(problems.join('; '))}`)
}

/** The parts of a result from 0.3.0 on. */
export function readResult(document: JsonObject): ReadResult {
  const read = v.safeParse(readable, document)
  if (!read.success) throw new Failed(`the result cannot be read: ${shorten(JSON.stringify(document))}`)
  return read.output
}

/** Addresses of a result of any version, with their prefix lengths. */
export function addressesOf(document: JsonObject): readonly string[] {
  const old = v.safeParse(
    v.object({ ip4: v.optional(v.object({ ip: v.string() })), ip6: v.optional(v.object({ ip: v.string() })) }),
    document,
  )
  const fromOld = old.success ? [old.output.ip4?.ip, old.output.ip6?.ip].filter((text) => text !== undefined) : []
  return [...fromOld, ...readResult(document).ips.map(({ address }) => address)]
}

/** A previous result as a runtime would pass it on in this version (0.3.0 and later). */
export function resultIn(version: string, { interfaces, ips, routes }: ReadResult): JsonObject {
  const hasFamily = version.startsWith('0.')
  return {
    cniVersion: version,
    interfaces: interfaces.map((link) => ({ ...link })),
    ips: ips.map((one) => ({ ...(hasFamily ? { version: one.address.includes(':') ? '6' : '4' } : {}), ...one })),
    routes: routes.map((one) => ({ ...one })),
    ...(hasFamily ? { dns: {} } : {}),
  }
}
