/**
 * The configuration of one plugin, as it arrives on its stdin: the fields every plugin shares, typed, and the whole object for the plugin's own schema.
 * Source: CNI SPEC.md §1 and §3, CONVENTIONS.md. Files of the configuration directory: `conflist.ts`.
 */

import * as v from 'valibot'

import { canonicalRuntimeConfig } from './capabilities.ts'
import { invalidConfig } from './errors.ts'
import type { JsonObject } from './json.ts'
import { dnsOf, type Dns } from './result.ts'
import { dnsSchema, jsonObject, parseWith } from './schema.ts'

/** What `ipam` holds at least; an IPAM plugin reads its own fields from `raw`. */
export interface IpamConf {
  /** '' where the configuration has no IPAM plugin (L2 only). */
  readonly type: string
  readonly raw: JsonObject
}

export interface NetConf {
  /** The network's name; checked against `namePattern`. */
  readonly name: string
  /** The version the answer must have. '0.1.0' where the configuration names none. */
  readonly cniVersion: string
  readonly type: string
  readonly ipMasq: boolean
  readonly ipam: IpamConf
  readonly dns: Dns
  /** Set by the runtime only, from the capabilities the plugin declares; its keys in their conventional spelling (`capabilities.ts`). */
  readonly runtimeConfig: JsonObject
  /** `args` of the configuration (legacy per-call arguments, `args.cni`). */
  readonly args: JsonObject
  readonly capabilities: Readonly<Record<string, boolean>>
  /** The complete object, unknown keys included: what a delegate gets on its stdin and what a plugin parses its own fields from. */
  readonly raw: JsonObject
}

/** Form of network names and container IDs: they become file names and comments. */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** A plugin type is a file name inside CNI_PATH and nothing else (CVE-2021-20206: `../` ran any executable). */
export const isPluginType = (type: string): boolean =>
  /^[a-zA-Z0-9._-]+$/.test(type) && type !== '.' && type !== '..' && type.length <= 255

const netConfSchema = v.object({
  cniVersion: v.nullish(v.string()),
  type: v.nullish(v.string()),
  ipMasq: v.nullish(v.boolean()),
  ipam: v.nullish(jsonObject),
  dns: v.nullish(dnsSchema),
  runtimeConfig: v.nullish(jsonObject),
  args: v.nullish(jsonObject),
  capabilities: v.nullish(v.record(v.string(), v.boolean())),
})

const ipamSchema = v.object({ type: v.nullish(v.string()) })

/** Reads the shared fields of a plugin configuration. Throws CniError code 7 naming the key, its value and the remedy. */
export function parseNetConf(raw: JsonObject): NetConf {
  const name = networkName(raw)
  const conf = parseWith(netConfSchema, raw, `network ${JSON.stringify(name)}`)
  const ipam = conf.ipam ?? {}
  const type = parseWith(ipamSchema, ipam, `ipam of network ${JSON.stringify(name)}`).type ?? ''
  if (type !== '' && !isPluginType(type)) {
    throw invalidConfig(
      `ipam.type ${JSON.stringify(type.slice(0, 64))} of network ${JSON.stringify(name)} is not a plugin name`,
      'use the name of an executable in CNI_PATH, such as "host-local"',
    )
  }
  return {
    name,
    cniVersion: versionOf(conf.cniVersion),
    type: conf.type ?? '',
    ipMasq: conf.ipMasq ?? false,
    ipam: { type, raw: ipam },
    dns: dnsOf(conf.dns ?? {}),
    runtimeConfig: canonicalRuntimeConfig(conf.runtimeConfig ?? {}),
    args: conf.args ?? {},
    capabilities: conf.capabilities ?? {},
    raw,
  }
}

const versionOf = (text: string | null | undefined): string =>
  text === undefined || text === null || text === '' ? '0.1.0' : text

function networkName(raw: JsonObject): string {
  const name = raw['name']
  if (name === undefined || name === '') {
    throw invalidConfig('missing network name', 'give the configuration a "name"')
  }
  if (typeof name !== 'string' || !namePattern.test(name) || name.length > 255) {
    throw invalidConfig(
      `invalid network name ${JSON.stringify(name).slice(0, 64)}`,
      'a name starts with a letter or digit and holds only letters, digits, "_", "." and "-"',
    )
  }
  return name
}

export { dnsOf, isEmptyDns } from './result.ts'
