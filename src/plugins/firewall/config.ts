/** The firewall plugin's configuration: every field of the reference plugin, with its default, and the backend nftables. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { parseWith } from '#cni/schema.ts'
import { hostCidr, formatCidr, parseIpNet } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { checkInterfaceName } from '../link/interface-name.ts'

export const BACKENDS = ['firewalld', 'iptables', 'nftables'] as const
export type FirewallBackend = (typeof BACKENDS)[number]

export const POLICIES = ['open', 'same-bridge', 'isolated'] as const
/**
 * `open`: all may connect. `same-bridge`: other bridges with such pods may not. `isolated`: nor may the bridge's own pods.
 */
export type IngressPolicy = (typeof POLICIES)[number]

export interface FirewallConf {
  /** '' for the first of `BACKENDS` that this node has. */
  readonly backend: FirewallBackend | ''
  /** The chain that comes before ours, for the operator's own rules. */
  readonly adminChain: string
  readonly zone: string
  readonly ingressPolicy: IngressPolicy
}

const schema = v.object({
  backend: v.nullish(v.picklist([...BACKENDS, '']), ''),
  iptablesAdminChainName: v.nullish(v.string(), ''),
  firewalldZone: v.nullish(v.string(), ''),
  ingressPolicy: v.nullish(v.picklist([...POLICIES, '']), ''),
})

/** XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h, without the closing NUL. */
const MAX_CHAIN = 28
/** firewalld's own bound, so that `ZONE_…` is a chain's name. */
const MAX_ZONE = 17

/** Chains that are the plugin's own, or the kernel's. */
const TAKEN = /^(CNI-FORWARD|CNI-ISOLATION-STAGE-[12]|FORWARD|INPUT|OUTPUT|PREROUTING|POSTROUTING|ACCEPT|DROP|RETURN)$/

/** Throws CniError 7 naming the field and its value. */
export function firewallConf(input: PluginInput): FirewallConf {
  const what = `firewall configuration of network ${JSON.stringify(input.config.name)}`
  const conf = parseWith(schema, input.config.raw, what)
  const adminChain = conf.iptablesAdminChainName === '' ? 'CNI-ADMIN' : conf.iptablesAdminChainName
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.:-]*$/.test(adminChain) || adminChain.length > MAX_CHAIN || TAKEN.test(adminChain))
    throw invalidConfig(
      `${what}: "iptablesAdminChainName" is ${JSON.stringify(adminChain.slice(0, 64))}`,
      `it must be the name of a chain of one's own: up to ${MAX_CHAIN} letters, digits, "-", "_" and "."`,
    )
  const zone = conf.firewalldZone === '' ? 'trusted' : conf.firewalldZone
  if (!/^[A-Za-z0-9_-]+$/.test(zone) || zone.length > MAX_ZONE)
    throw invalidConfig(
      `${what}: "firewalldZone" is ${JSON.stringify(zone.slice(0, 64))}`,
      `a zone has up to ${MAX_ZONE} letters, digits, "-" and "_": firewall-cmd --get-zones lists them`,
    )
  const ingressPolicy = conf.ingressPolicy === '' ? 'open' : conf.ingressPolicy
  return { backend: conf.backend, adminChain, zone, ingressPolicy }
}

/** The pod's addresses, each as a prefix of one. Throws CniError 7 where nothing was made before. */
export function podAddresses(input: PluginInput): readonly CidrText[] {
  const { prevResult } = input
  if (prevResult === undefined)
    throw invalidConfig(
      'firewall must be called as a chained plugin',
      'put it after bridge or another plugin in the list',
    )
  return addressesOf(prevResult)
}

export const addressesOf = (result: Result): readonly CidrText[] => [
  ...new Set(result.ips.map(({ address }) => formatCidr(hostCidr(parseIpNet(address).ip)))),
]

export interface Guard {
  readonly policy: Exclude<IngressPolicy, 'open'>
  readonly bridge: string
  /** The bridge's ports that the pod is behind. */
  readonly ports: readonly string[]
}

/** What the policy is about: the result's first interface and the others of the host. Undefined where there is no policy. Throws CniError 7. */
export function guardOf(input: PluginInput, { ingressPolicy }: FirewallConf): Guard | undefined {
  if (ingressPolicy === 'open') return undefined
  const [first, ...others] = input.prevResult?.interfaces ?? []
  const ports = others.filter(({ sandbox }) => sandbox === undefined || sandbox === '').map(({ name }) => name)
  if (first === undefined || first.sandbox || (ingressPolicy === 'isolated' && ports.length === 0))
    throw invalidConfig(
      `ingressPolicy ${JSON.stringify(ingressPolicy)} needs a bridge, and the previous result names none with a port`,
      'put firewall after the plugin bridge, or leave ingressPolicy out',
    )
  const names = [first.name, ...ports].map((name) => checkInterfaceName(name, 'an interface in the previous result'))
  return { policy: ingressPolicy, bridge: names[0] ?? '', ports: names.slice(1) }
}
