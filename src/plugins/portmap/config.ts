/** The portmap plugin's configuration: every field of the reference plugin, with its default. */

import * as v from 'valibot'

import { invalidConfig, unsupportedField } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import { isUnspecified, parseIp } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { checkRule } from '#nft/quote.ts'
import { checkIptablesCondition, isIptablesLanguage } from '../iptables/condition.ts'
import type { IptablesPortOptions } from '../iptables/host-ports.ts'
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
  /** For nftables; empty with the other backend. */
  readonly conditions: Conditions
  /** Present where the ports are mapped by iptables. */
  readonly iptables?: IptablesPortOptions
  readonly mappings: readonly PortMapping[]
}

/** Kubernetes uses 14 and 15, Calico 20 to 31. */
const DEFAULT_MARK_BIT = 13

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
        hostIP: v.nullish(v.union([v.literal(''), ipSchema]), ''),
      }),
    ),
    [],
  ),
})

/**
 * The backend is nftables unless the configuration says otherwise, or says something that only iptables can do. Throws CniError 7 naming the field and its value;
 * 2 for an option that the backend it names has not.
 */
export function portmapConf(input: PluginInput): PortmapConf {
  const what = `portmap configuration of network ${JSON.stringify(input.config.name)}`
  const conf = parseWith(schema, input.config.raw, what)
  const { portMappings } = parseWith(runtimeSchema, input.config.runtimeConfig, 'runtimeConfig')
  const nat = conf.masqAll ? 'all' : conf.snat ? 'snat' : 'none'
  const mappings = portMappings
    .filter(({ hostPort }) => hostPort !== 0)
    .map(({ hostIP, protocol, hostPort, containerPort }) => ({
      protocol,
      hostPort,
      containerPort,
      hostIp: hostIP === '' || isUnspecified(parseIp(hostIP)) ? undefined : hostIP,
      family: hostIP === '' ? undefined : familyOf(hostIP),
    }))
  const v4: Field = [conf.conditionsV4, `${what}: "conditionsV4"`]
  const v6: Field = [conf.conditionsV6, `${what}: "conditionsV6"`]
  const setMarkChain = setMarkChainOf(conf, what)
  const isIptables =
    conf.backend === 'iptables' ||
    (conf.backend === '' && (setMarkChain !== undefined || isIptablesLanguage(v4[0]) || isIptablesLanguage(v6[0])))
  if (!isIptables) {
    if (setMarkChain !== undefined)
      throw unsupportedField(
        `${what}: "externalSetMarkChain" is ${JSON.stringify(setMarkChain)}`,
        'it names a chain of iptables: leave it out, or set "backend" to "iptables"',
      )
    return { nat, mappings, conditions: { v4: nftCondition(...v4), v6: nftCondition(...v6) } }
  }
  const iptables: IptablesPortOptions = {
    nat,
    markBit: conf.markMasqBit ?? DEFAULT_MARK_BIT,
    setMarkChain,
    conditions: { 4: iptablesCondition(...v4), 6: iptablesCondition(...v6) },
  }
  return { nat, mappings, conditions: { v4: '', v6: '' }, iptables }
}

type Field = readonly [words: readonly string[], field: string]

/** XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h, without the closing NUL. */
const MAX_CHAIN = 28

function setMarkChainOf(conf: v.InferOutput<typeof schema>, what: string): string | undefined {
  const chain = conf.externalSetMarkChain
  if (typeof chain !== 'string' || chain === '') return undefined
  if (typeof conf.markMasqBit === 'number')
    throw invalidConfig(`${what}: markMasqBit and externalSetMarkChain exclude each other`, 'leave one of them out')
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.:-]*$/.test(chain) || chain.length > MAX_CHAIN)
    throw invalidConfig(
      `${what}: "externalSetMarkChain" is ${JSON.stringify(chain.slice(0, 64))}`,
      `a chain of iptables has a name of up to ${MAX_CHAIN} letters, digits, "-", "_" and "."`,
    )
  return chain
}

/** Throws CniError 2 for nft's language, 7 for what is more than a match. */
function iptablesCondition(list: readonly string[], field: string): readonly string[] {
  if (list.length > 0 && !isIptablesLanguage(list))
    throw unsupportedField(
      `${field} is ${JSON.stringify(list.join(' ').slice(0, 64))}, which is nftables' language`,
      'write it in iptables\', such as ["!", "-d", "10.0.0.0/8"], or set "backend" to "nftables"',
    )
  return checkIptablesCondition(list, field)
}

/** Words of nft's language that become part of one rule. Throws CniError 2 for iptables' language, 7 for what is more than a match. */
function nftCondition(list: readonly string[], field: string): string {
  if (list.length === 0) return ''
  const text = list.join(' ')
  if (isIptablesLanguage(list)) {
    throw unsupportedField(
      `${field} is ${JSON.stringify(text.slice(0, 64))}, which is iptables' language`,
      'write it in nftables\', such as ["ip", "saddr", "!=", "10.0.0.0/8"], or set "backend" to "iptables"',
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
