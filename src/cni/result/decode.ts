/** From a result in any version of the specification to the one shape used inside. Source: CNI SPEC.md §5 of each version; CONVENTIONS as the Go types read them. */

import * as v from 'valibot'

import { tryParseMac } from '#ip/mac.ts'
import { decodingFailure } from '../errors.ts'
import { isObject, parseJsonObject, type JsonObject } from '../json.ts'
import { dnsOf, type Dns, type Interface, type IpConfig, type Result, type RouteConfig } from '../result.ts'
import { cidrSchema, dnsSchema, intSchema, ipNetSchema, ipSchema, parseWith } from '../schema.ts'
import { isSpecVersion, oldestVersion, specVersions } from '../version.ts'

/** Go writes an absent address as "" in places. */
const maybeIp = v.nullish(
  v.union([
    v.pipe(
      v.literal(''),
      v.transform(() => undefined),
    ),
    ipSchema,
  ]),
)
const count = v.nullish(intSchema(0, 0xffff_ffff))
const text = v.nullish(v.string())

const interfaceSchema = v.object({
  name: v.string(),
  mac: text,
  mtu: count,
  sandbox: text,
  socketPath: text,
  pciID: text,
})

const ipSchemaOf03 = v.object({
  address: ipNetSchema,
  gateway: maybeIp,
  interface: count,
})

const routeSchema = v.object({
  dst: cidrSchema,
  gw: maybeIp,
  mtu: count,
  advmss: count,
  priority: count,
  table: count,
  scope: v.nullish(intSchema(0, 255)),
})

const legacyIpSchema = v.object({ ip: ipNetSchema, gateway: maybeIp, routes: v.nullish(v.array(routeSchema)) })

const legacySchema = v.object({
  ip4: v.nullish(legacyIpSchema),
  ip6: v.nullish(legacyIpSchema),
  dns: v.nullish(dnsSchema),
})

const resultSchema = v.object({
  interfaces: v.nullish(v.array(interfaceSchema)),
  ips: v.nullish(v.array(ipSchemaOf03)),
  routes: v.nullish(v.array(routeSchema)),
  dns: v.nullish(dnsSchema),
})

/**
 * Reads a result. One without `cniVersion` is in the version of the configuration it answers (`configVersion`).
 * `what` names it in errors ("prevResult", "the result of host-local"). Throws CniError code 6.
 */
export function decodeResult(json: JsonObject, configVersion: string, what: string): Result {
  const version = versionOf(json, configVersion)
  if (!isSpecVersion(version)) {
    throw decodingFailure(
      `${what} has the unknown cniVersion ${JSON.stringify(version).slice(0, 64)}`,
      `known are ${specVersions.join(', ')}`,
    )
  }
  if (version === '0.1.0' || version === '0.2.0') return fromLegacy(json, what)
  const result = parseWith(resultSchema, json, what, 'decodingFailure')
  return {
    interfaces: (result.interfaces ?? []).map(interfaceOf),
    ips: (result.ips ?? []).map(ipOf),
    routes: (result.routes ?? []).map(routeOf),
    dns: dns(result.dns),
  }
}

/** Like `decodeResult`, from the bytes a plugin printed. `null` is an empty result, as libcni reads it. */
export function parseResult(stdout: string, configVersion: string, what: string): Result {
  if (stdout.trim() === 'null') return decodeResult({}, configVersion, what)
  return decodeResult(parseJsonObject(stdout, what), configVersion, what)
}

/** `prevResult` of a configuration; undefined where there is none or it is null. Throws CniError code 6. */
export function decodePrevResult(config: JsonObject, configVersion: string): Result | undefined {
  const prev = config['prevResult']
  if (prev === undefined || prev === null) return undefined
  if (!isObject(prev)) {
    throw decodingFailure('prevResult is not a JSON object', 'the runtime puts the result of the previous plugin there')
  }
  return decodeResult(prev, configVersion, 'prevResult')
}

function versionOf(json: JsonObject, configVersion: string): string {
  const version = json['cniVersion']
  if (typeof version === 'string' && version !== '') return version
  return configVersion === '' ? oldestVersion : configVersion
}

function fromLegacy(json: JsonObject, what: string): Result {
  const { ip4, ip6, dns: names } = parseWith(legacySchema, json, what, 'decodingFailure')
  const both = [ip4, ip6].filter((ip) => ip !== undefined && ip !== null)
  return {
    interfaces: [],
    ips: both.map(({ ip, gateway }) => ipOf({ address: ip, gateway })),
    routes: both.flatMap(({ routes }) => (routes ?? []).map(routeOf)),
    dns: dns(names),
  }
}

const dns = (names: v.InferOutput<typeof dnsSchema> | null | undefined): Dns => dnsOf(names ?? {})

function interfaceOf(from: v.InferOutput<typeof interfaceSchema>): Interface {
  const { name, mac, mtu, sandbox, socketPath, pciID } = from
  return {
    name,
    ...(isFilled(mac) ? { mac: tryParseMac(mac) ?? mac } : {}),
    ...(isPositive(mtu) ? { mtu } : {}),
    ...(isFilled(sandbox) ? { sandbox } : {}),
    ...(isFilled(socketPath) ? { socketPath } : {}),
    ...(isFilled(pciID) ? { pciID } : {}),
  }
}

function ipOf(from: Partial<v.InferOutput<typeof ipSchemaOf03>> & Pick<IpConfig, 'address'>): IpConfig {
  return {
    address: from.address,
    ...(isGiven(from.gateway) ? { gateway: from.gateway } : {}),
    ...(isGiven(from.interface) ? { interface: from.interface } : {}),
  }
}

function routeOf(from: v.InferOutput<typeof routeSchema>): RouteConfig {
  const { dst, gw, mtu, advmss, priority, table, scope } = from
  return {
    dst,
    ...(isGiven(gw) ? { gw } : {}),
    ...(isPositive(mtu) ? { mtu } : {}),
    ...(isPositive(advmss) ? { advmss } : {}),
    ...(isPositive(priority) ? { priority } : {}),
    ...(isGiven(table) ? { table } : {}),
    ...(isGiven(scope) ? { scope } : {}),
  }
}

const isGiven = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined
const isFilled = (value: string | null | undefined): value is string => isGiven(value) && value !== ''
/** Zero is how Go writes "not set" for these. */
const isPositive = (value: number | null | undefined): value is number => isGiven(value) && value > 0
