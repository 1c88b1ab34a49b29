/** The MAC address that a caller asks for. */

import * as v from 'valibot'

import { refuseUnknownArgs, wellKnownArgs } from '#cni/env.ts'
import { invalidConfig, invalidEnvironment } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { macSchema, parseWith } from '#cni/schema.ts'
import { isGroupMac, tryParseMac } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'

const argsSchema = v.object({ cni: v.nullish(v.object({ mac: v.nullish(v.union([macSchema, v.literal('')])) })) })
const runtimeSchema = v.object({ mac: v.nullish(v.union([macSchema, v.literal('')])) })

/** `runtimeConfig.mac`, else `args.cni.mac`, else MAC of CNI_ARGS. Throws CniError 7 or 4 for what is no unicast MAC, 4 for CNI_ARGS that no plugin knows. */
export function requestedMac(input: PluginInput): MacText | undefined {
  refuseUnknownArgs(input.args, wellKnownArgs)
  const { args, runtimeConfig, name } = input.config
  const runtime = parseWith(runtimeSchema, runtimeConfig, `runtimeConfig of network ${JSON.stringify(name)}`).mac
  const config = parseWith(argsSchema, args, `args of network ${JSON.stringify(name)}`).cni?.mac
  const mac = runtime || config || fromEnvironment(input.args.get('MAC'))
  if (mac !== undefined && isGroupMac(mac)) {
    throw invalidConfig(`MAC address ${mac} is a group address`, 'the first byte of an interface address is even')
  }
  return mac
}

function fromEnvironment(text: string | undefined): MacText | undefined {
  if (text === undefined || text === '') return undefined
  const mac = tryParseMac(text)
  if (mac !== undefined) return mac
  throw invalidEnvironment(
    `CNI_ARGS MAC: ${JSON.stringify(text.slice(0, 64))} is not a MAC address`,
    'write 0a:1b:2c:3d:4e:5f',
  )
}
