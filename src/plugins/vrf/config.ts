/** The vrf plugin's configuration: every field of the reference plugin. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import { checkInterfaceName } from '../link/interface-name.ts'

export interface VrfConf {
  readonly what: string
  readonly name: string
  /** Undefined for the lowest one that is free, or that of the VRF where there is one already. */
  readonly table?: number | undefined
}

const schema = v.object({
  vrfname: v.nullish(v.string(), ''),
  table: v.nullish(intSchema(0, 0xffff_ffff), 0),
})

/** Tables that every packet is looked up in; the local one would make its routes the host's own addresses. */
export const SHARED_TABLES: readonly number[] = [RT_TABLE.DEFAULT, RT_TABLE.MAIN, RT_TABLE.LOCAL]

/** Throws CniError 7 naming field and value. */
export function vrfConf(input: PluginInput): VrfConf {
  const what = `vrf configuration of network ${JSON.stringify(input.config.name)}`
  const { vrfname, table } = parseWith(schema, input.config.raw, what)
  if (vrfname === '')
    throw invalidConfig(`${what}: "vrfname" is missing`, 'name the VRF that the interface shall belong to')
  if (SHARED_TABLES.includes(table))
    throw invalidConfig(`${what}: "table" is ${table}`, '253 to 255 are shared by all: choose another')
  return {
    what,
    name: checkInterfaceName(vrfname, `${what}: "vrfname"`),
    table: table === 0 ? undefined : table,
  }
}

/** For verbs that clean up, where a name that no ADD accepts names nothing. */
export const vrfNameIn = ({ config }: PluginInput): string =>
  typeof config.raw['vrfname'] === 'string' ? config.raw['vrfname'] : ''
