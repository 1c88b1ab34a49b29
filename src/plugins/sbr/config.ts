/** The sbr plugin's configuration: every field of the reference plugin. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { RT_TABLE } from '#netlink/route-names.ts'

export interface SbrConf {
  /** Undefined for the next one that is free. */
  readonly table?: number | undefined
  /** Where the default routes lead, instead of the gateways of the addresses. */
  readonly gateways: ReadonlyMap<4 | 6, IpText>
  /** The routes name the interface's address as the source of what the pod itself sends. */
  readonly addSourceHints: boolean
}

const schema = v.object({
  table: v.nullish(intSchema(0, 0xffff_ffff), 0),
  gateways: v.nullish(v.pipe(v.array(ipSchema), v.maxLength(2)), []),
  addSourceHints: v.nullish(v.boolean(), false),
})

const RESERVED: readonly number[] = [RT_TABLE.DEFAULT, RT_TABLE.MAIN, RT_TABLE.LOCAL]

/** Throws CniError 7 naming field and value. */
export function sbrConf(input: PluginInput): SbrConf {
  const what = `sbr configuration of network ${JSON.stringify(input.config.name)}`
  const { table, gateways, addSourceHints } = parseWith(schema, input.config.raw, what)
  if (RESERVED.includes(table))
    throw invalidConfig(
      `${what}: "table" is ${table}`,
      '253 to 255 are the tables that every packet is looked up in: choose another',
    )
  const byFamily = new Map(gateways.map((gateway) => [familyOf(gateway), gateway]))
  if (byFamily.size < gateways.length)
    throw invalidConfig(`${what}: "gateways" ${gateways.join(', ')} are of one family`, 'give one of each family')
  return { table: table === 0 ? undefined : table, gateways: byFamily, addSourceHints }
}
