/** The configuration of dhcp: every field of the reference plugin, and what Heddle adds. Shared by plugin and daemon. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { NetConf } from '#cni/config.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import { ascii, knownOptionNames, OPTION4, optionCode } from './wire/option4.ts'

export const DEFAULT_SOCKET = '/run/cni/dhcp.sock'

export interface DhcpConf {
  /** Codes of DHCPv4 options that are asked for. */
  readonly requested: ReadonlySet<number>
  /** Options told to the server, by code. */
  readonly provided: ReadonlyMap<number, Uint8Array>
  /** Metric of every route; 0 is the kernel's default. */
  readonly priority: number
  readonly families: ReadonlySet<4 | 6>
  readonly rapidCommit: boolean
  readonly clientId: 'text' | 'rfc4361'
}

const text = v.nullish(v.string(), '')

const schema = v.object({
  daemonSocketPath: text,
  request: v.nullish(v.array(v.object({ option: text, skipDefault: v.nullish(v.boolean(), false) })), []),
  provide: v.nullish(v.array(v.object({ option: v.string(), value: text, fromArg: text })), []),
  priority: v.nullish(intSchema(0, 0xffff_ffff), 0),
  families: v.nullish(v.pipe(v.array(v.picklist(['ipv4', 'ipv6'])), v.minLength(1)), ['ipv4']),
  rapidCommit: v.nullish(v.boolean(), false),
  clientID: v.nullish(v.picklist(['', 'rfc4361']), ''),
})

const where = (config: NetConf): string => `ipam of network ${JSON.stringify(config.name)}`

/** Path of the daemon's socket; needs nothing else to be right, so that DEL and GC work after somebody broke the rest. Throws CniError 7. */
export function socketPathOf(config: NetConf): string {
  const { daemonSocketPath } = parseWith(v.object({ daemonSocketPath: text }), config.ipam.raw, where(config))
  if (daemonSocketPath !== '' && !daemonSocketPath.startsWith('/'))
    throw invalidConfig(
      `${where(config)}: "daemonSocketPath" is ${JSON.stringify(daemonSocketPath)}`,
      'write an absolute path',
    )
  return daemonSocketPath === '' ? DEFAULT_SOCKET : daemonSocketPath
}

/** What is asked for unless `skipDefault` says otherwise. Route options come in the order of RFC 3442 §"Client behaviour": 121 before 3. */
const DEFAULT_REQUEST = [OPTION4.classlessRoutes, OPTION4.staticRoutes, OPTION4.router, OPTION4.subnetMask]

/** Throws CniError 7 naming the field. `args`: CNI_ARGS. */
export function dhcpConf(config: NetConf, args: ReadonlyMap<string, string>): DhcpConf {
  const conf = parseWith(schema, config.ipam.raw, where(config))
  const codeOf = (name: string, field: string): number => {
    const code = optionCode(name)
    if (code !== undefined) return code
    throw invalidConfig(
      `${where(config)}: ${field} ${JSON.stringify(name.slice(0, 64))} is no DHCP option`,
      `give a number from 1 to 254 or one of ${knownOptionNames.join(', ')}`,
    )
  }
  const requested = new Set<number>(conf.request.some(({ skipDefault }) => skipDefault) ? [] : DEFAULT_REQUEST)
  for (const [i, { option, skipDefault }] of conf.request.entries()) {
    // `{"skipDefault": true}` alone names no option.
    if (option !== '' || !(skipDefault ?? false)) requested.add(codeOf(option ?? '', `request.${i}.option`))
  }
  const provided = new Map<number, Uint8Array>()
  for (const [i, { option, value, fromArg }] of conf.provide.entries()) {
    const code = codeOf(option, `provide.${i}.option`)
    refuseOwn(config, code, option)
    for (const given of [value ?? '', fromArg ? (args.get(fromArg) ?? '') : '']) {
      if (given === '') continue
      const bytes = ascii(given)
      if (bytes.length > 255)
        throw invalidConfig(
          `${where(config)}: the value of option ${option} has ${bytes.length} bytes`,
          'at most 255 fit',
        )
      provided.set(code, bytes)
    }
  }
  return {
    requested,
    provided,
    priority: conf.priority,
    families: new Set(conf.families.map((family) => (family === 'ipv4' ? 4 : 6))),
    rapidCommit: conf.rapidCommit,
    clientId: conf.clientID === 'rfc4361' ? 'rfc4361' : 'text',
  }
}

/** Options that the protocol itself sets: the exchange would break. */
const OWN: ReadonlySet<number> = new Set([50, 52, 53, 54, 55])

function refuseOwn(config: NetConf, code: number, name: string): void {
  if (!OWN.has(code)) return
  throw invalidConfig(`${where(config)}: option ${name} cannot be provided`, 'the DHCP client sets it by itself')
}
