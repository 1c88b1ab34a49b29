/** The portmap plugin's configuration: every field of the reference plugin, with its default. */

import * as v from 'valibot'

import { invalidConfig, unsupportedField } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import { isUnspecified, parseIp } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { checkRule } from '#nft/quote.ts'
import type { Conditions, Protocol, SourceNat } from '../rules/host-ports.ts'

export interface PortMapping {
  readonly protocol: Protocol
  readonly hostPort: number
  readonly containerPort: number
  /** Undefined for every address of the host. */
  readonly hostIp?: IpText | undefined
  /** The family of the given hostIP, also of an unspecified one; undefined for both. */
  readonly family?: 4 | 6 | undefined
}

export interface PortmapConf {
  readonly nat: SourceNat
  readonly conditions: Conditions
  readonly mappings: readonly PortMapping[]
}

const words = v.nullish(v.array(v.string()), [])

const schema = v.object({
  backend: v.nullish(v.picklist(['iptables', 'nftables', '']), ''),
  snat: v.nullish(v.boolean(), true),
  masqAll: v.nullish(v.boolean(), false),
  markMasqBit: v.nullish(intSchema(0, 31)),
  externalSetMarkChain: v.nullish(v.string()),
  conditionsV4: words,
  conditionsV6: words,
})

const port = intSchema(1, 65_535)

const runtimeSchema = v.object({
  portMappings: v.nullish(
    v.array(
      v.object({
        // 0 asks for no port of the host: Kubernetes lists every container port.
        hostPort: v.nullish(intSchema(0, 65_535), 0),
        containerPort: port,
        protocol: v.pipe(
          v.nullish(v.string(), 'tcp'),
          v.transform((text) => (text === '' ? 'tcp' : text.toLowerCase())),
          v.picklist(['tcp', 'udp', 'sctp']),
        ),
        hostIP: v.nullish(v.union([ipSchema, v.literal('')]), ''),
      }),
    ),
    [],
  ),
})

/** Throws CniError 7 naming the field and its value; 2 for what only the iptables backend of the reference can do. */
export function portmapConf(input: PluginInput): PortmapConf {
  const what = `portmap configuration of network ${JSON.stringify(input.config.name)}`
  const conf = parseWith(schema, input.config.raw, what)
  const { portMappings } = parseWith(runtimeSchema, input.config.runtimeConfig, 'runtimeConfig')
  if (conf.externalSetMarkChain) {
    if (typeof conf.markMasqBit === 'number') {
      throw invalidConfig(`${what}: markMasqBit and externalSetMarkChain exclude each other`, 'leave one of them out')
    }
    throw unsupportedField(
      `${what}: "externalSetMarkChain" is ${JSON.stringify(conf.externalSetMarkChain.slice(0, 64))}`,
      'it names a chain of iptables, and Heddle maps ports with nftables: leave it out',
    )
  }
  return {
    nat: conf.masqAll ? 'all' : conf.snat ? 'snat' : 'none',
    conditions: {
      v4: condition(conf.conditionsV4, `${what}: "conditionsV4"`),
      v6: condition(conf.conditionsV6, `${what}: "conditionsV6"`),
    },
    mappings: portMappings
      .filter(({ hostPort }) => hostPort !== 0)
      .map(({ hostIP, protocol, hostPort, containerPort }) => ({
        protocol,
        hostPort,
        containerPort,
        hostIp: hostIP === '' || isUnspecified(parseIp(hostIP)) ? undefined : hostIP,
        family: hostIP === '' ? undefined : familyOf(hostIP),
      })),
  }
}

/** Words of nft's language that become part of one rule. Throws CniError 2 for iptables' language, 7 for what is more than a match. */
function condition(list: readonly string[], field: string): string {
  if (list.length === 0) return ''
  const text = list.join(' ')
  if (list[0]?.startsWith('-') || list[0] === '!') {
    throw unsupportedField(
      `${field} is ${JSON.stringify(text.slice(0, 64))}, which is iptables' language`,
      'write it in nftables\', such as ["ip", "saddr", "!=", "10.0.0.0/8"]',
    )
  }
  // A rule ends where its verdict is: a condition must only match.
  const verdict = /\b(accept|drop|reject|return|jump|goto|dnat|snat|masquerade|redirect|queue|continue|set)\b/.exec(
    text,
  )
  if (verdict !== null) throw invalidConfig(`${field} has ${JSON.stringify(verdict[0])}, and may only match`)
  try {
    return checkRule(text)
  } catch (error) {
    throw invalidConfig(`${field} is ${JSON.stringify(text.slice(0, 64))}`, error instanceof Error ? error.message : '')
  }
}
