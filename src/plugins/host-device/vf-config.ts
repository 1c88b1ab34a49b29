/** What a configuration asks for a virtual function: the sriov plugin's fields, with its rules. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, macSchema, parseWith } from '#cni/schema.ts'
import { isGroupMac } from '#ip/mac.ts'
import { VLAN_PROTOCOL, type VfSettings } from '#netlink/link-vf.ts'

const onOff = v.nullish(v.picklist(['on', 'off', '']))
/** Mbit/s; 0 for no limit. */
const rate = v.nullish(intSchema(0, 0xffff_ffff))

const schema = v.object({
  vlan: v.nullish(intSchema(0, 4094)),
  vlanQoS: v.nullish(intSchema(0, 7)),
  vlanProto: v.nullish(
    v.pipe(
      v.string(),
      v.transform((text) => text.toLowerCase()),
      v.picklist(['802.1q', '802.1ad']),
    ),
  ),
  mac: v.nullish(v.union([macSchema, v.literal('')])),
  spoofchk: onOff,
  trust: onOff,
  link_state: v.nullish(v.picklist(['auto', 'enable', 'disable', ''])),
  min_tx_rate: rate,
  max_tx_rate: rate,
})

type Fields = v.InferOutput<typeof schema>

export interface VfConf {
  readonly settings: VfSettings
  /** A field of the configuration that only means something for a virtual function. */
  readonly field?: string | undefined
}

/** What the configuration itself says; an address may come with the call. Throws CniError 7 naming field and value. */
export function vfConf(input: PluginInput, what: string): VfConf {
  const fields = parseWith(schema, input.config.raw, what)
  const own = fields.mac || undefined
  if (own !== undefined && isGroupMac(own))
    throw invalidConfig(`${what}: "mac" ${own} is a group address`, 'the first byte of an interface address is even')
  const { min_tx_rate: min, max_tx_rate: max, link_state: state } = fields
  const isLimited = (min ?? undefined) !== undefined || (max ?? undefined) !== undefined
  return {
    settings: {
      mac: own,
      vlan: vlanOf(fields, what),
      spoofCheck: switchOf(fields.spoofchk),
      trust: switchOf(fields.trust),
      linkState: state || undefined,
      rate: isLimited ? { min: min ?? 0, max: max ?? 0 } : undefined,
    },
    field: Object.entries(fields).find(([, value]) => value !== undefined && value !== null && value !== '')?.[0],
  }
}

const switchOf = (text: Fields['spoofchk']): boolean | undefined => (text ? text === 'on' : undefined)

function vlanOf({ vlan, vlanQoS, vlanProto }: Fields, what: string): VfSettings['vlan'] {
  const id = vlan ?? undefined
  if (id === undefined) {
    const [lone] = [['vlanQoS', vlanQoS] as const, ['vlanProto', vlanProto] as const].filter(
      ([, value]) => (value ?? undefined) !== undefined,
    )
    if (lone !== undefined) throw invalidConfig(`${what}: "${lone[0]}" without "vlan"`, 'it is about the tag: name one')
    return undefined
  }
  const qos = vlanQoS ?? 0
  const protocol = vlanProto ?? '802.1q'
  if (id === 0 && (qos !== 0 || protocol !== '802.1q'))
    throw invalidConfig(`${what}: "vlan" is 0`, 'with "vlanQoS" or "vlanProto" it is from 1 to 4094')
  return { id, qos, protocol: VLAN_PROTOCOL[protocol] }
}

/** Whether anything is asked for. */
export const asksAnything = (settings: VfSettings): boolean =>
  Object.values(settings).some((value) => value !== undefined)
