/** The bridge plugin's configuration: every field of the reference plugin, with its default. */

import * as v from 'valibot'

import type { NetConf } from '#cni/config.ts'
import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import type { MacText } from '#ip/text.ts'
import { requestedMac } from '../link/mac.ts'
import { checkInterfaceName } from '../link/interface-name.ts'
import type { MasqueradeBackend } from '../rules/pod-masquerade.ts'

export interface BridgeConf {
  /** Name of the bridge. */
  readonly bridge: string
  /** The bridge has the gateway's address and the host forwards. */
  readonly isGateway: boolean
  /** The pod's default route leads to that gateway. */
  readonly isDefaultGateway: boolean
  /** Replace an address of the bridge that is in the way. */
  readonly forceAddress: boolean
  readonly ipMasq: boolean
  readonly ipMasqBackend: MasqueradeBackend
  /** 0 for the kernel's default. */
  readonly mtu: number
  readonly hairpinMode: boolean
  readonly promiscMode: boolean
  /** 0 for none. */
  readonly vlan: number
  /** Tagged VLANs, in order, each once. */
  readonly vlanTrunk: readonly number[]
  readonly preserveDefaultVlan: boolean
  readonly macspoofchk: boolean
  readonly enableDad: boolean
  readonly disableContainerInterface: boolean
  readonly portIsolation: boolean
  readonly mac?: MacText | undefined
}

const bool = v.nullish(v.boolean(), false)
const vlanId = v.nullish(intSchema(1, 4094))

const schema = v.object({
  bridge: v.nullish(v.string(), ''),
  isGateway: bool,
  isDefaultGateway: bool,
  forceAddress: bool,
  ipMasq: bool,
  ipMasqBackend: v.nullish(v.picklist(['iptables', 'nftables', '']), ''),
  mtu: v.nullish(intSchema(0, 65_535), 0),
  hairpinMode: bool,
  promiscMode: bool,
  vlan: v.nullish(intSchema(0, 4094), 0),
  vlanTrunk: v.nullish(v.array(v.object({ minID: vlanId, maxID: vlanId, id: vlanId })), []),
  preserveDefaultVlan: bool,
  macspoofchk: bool,
  enabledad: bool,
  disableContainerInterface: bool,
  portIsolation: bool,
})

/** Throws CniError 7 naming the field, its value and what to do. */
export function bridgeConf(input: PluginInput): BridgeConf {
  const { config } = input
  const what = `bridge configuration of network ${JSON.stringify(config.name)}`
  const { enabledad, bridge, vlanTrunk, ...conf } = parseWith(schema, config.raw, what)
  if (conf.hairpinMode && conf.promiscMode) {
    throw invalidConfig(`${what}: hairpinMode and promiscMode exclude each other`, 'leave one of them out')
  }
  if (conf.disableContainerInterface && config.ipam.type !== '') {
    throw invalidConfig(
      `${what}: disableContainerInterface leaves the interface down, so ipam ${JSON.stringify(config.ipam.type)} cannot work`,
      'leave one of them out',
    )
  }
  return {
    ...conf,
    isGateway: conf.isGateway || conf.isDefaultGateway,
    bridge: checkInterfaceName(bridge === '' ? 'cni0' : bridge, `${what}: "bridge"`),
    vlanTrunk: trunkOf(vlanTrunk, what),
    enableDad: enabledad,
    mac: requestedMac(input),
  }
}

/** The bridge's name alone, for verbs that must work with a configuration that ADD would refuse. */
export function bridgeNameOf(config: NetConf): string {
  const name = config.raw['bridge']
  return typeof name === 'string' && name !== '' ? name : 'cni0'
}

type TrunkEntry = {
  minID?: number | null | undefined
  maxID?: number | null | undefined
  id?: number | null | undefined
}

/** Throws CniError 7 for an entry that names no VLAN, half a range, or a range that ends before it starts. */
function trunkOf(entries: readonly TrunkEntry[], what: string): readonly number[] {
  const ids = new Set<number>()
  for (const [i, { minID, maxID, id }] of entries.entries()) {
    const field = `${what}: vlanTrunk[${i}]`
    const hasMin = typeof minID === 'number'
    const hasMax = typeof maxID === 'number'
    if (hasMin !== hasMax) throw invalidConfig(`${field} has only one of minID and maxID`, 'give both, or an id')
    if (!hasMin && typeof id !== 'number') throw invalidConfig(`${field} names no VLAN`, 'give minID and maxID, or id')
    if (hasMin && hasMax && typeof minID === 'number' && typeof maxID === 'number') {
      if (minID > maxID) throw invalidConfig(`${field}: minID ${minID} is greater than maxID ${maxID}`)
      for (let vlan = minID; vlan <= maxID; vlan++) ids.add(vlan)
    }
    if (typeof id === 'number') ids.add(id)
  }
  return [...ids].sort((a, b) => a - b)
}
