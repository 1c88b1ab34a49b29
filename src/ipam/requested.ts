/** Addresses that the user asks for, in the three ways there are: `CNI_ARGS` IP, `args.cni.ips`, `runtimeConfig.ips`. Source: CNI CONVENTIONS.md. */

import * as v from 'valibot'

import { refuseUnknownArgs, wellKnownArgs } from '#cni/env.ts'
import { invalidConfig, invalidEnvironment } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { parseWith, stringList } from '#cni/schema.ts'
import { parseIp, tryParseIp, type Ip } from '#ip/address.ts'
import { tryParseIpNet } from '#ip/prefix.ts'

/** An address with the prefix length where the user gave one. */
export interface Requested {
  readonly ip: Ip
  readonly length?: number
}

export interface Requests {
  readonly env: readonly Requested[]
  readonly args: readonly Requested[]
  readonly runtimeConfig: readonly Requested[]
}

const argsSchema = v.object({ cni: v.nullish(v.object({ ips: v.nullish(stringList) })) })
const runtimeSchema = v.object({ ips: v.nullish(stringList) })

/** Throws CniError 4 or 7 naming the place and the text that is no address, 4 for CNI_ARGS that no plugin knows. */
export function requestedOf(input: PluginInput): Requests {
  refuseUnknownArgs(input.args, wellKnownArgs)
  const { args, runtimeConfig, name } = input.config
  const env = input.args.get('IP')
  return {
    env: env === undefined || env === '' ? [] : env.split(',').map((text) => parse(text.trim(), 'CNI_ARGS IP', true)),
    args: (parseWith(argsSchema, args, `args of network "${name}"`).cni?.ips ?? []).map((t) =>
      parse(t, 'args.cni.ips'),
    ),
    runtimeConfig: (parseWith(runtimeSchema, runtimeConfig, `runtimeConfig of network "${name}"`).ips ?? []).map((t) =>
      parse(t, 'runtimeConfig.ips'),
    ),
  }
}

function parse(text: string, field: string, fromEnvironment = false): Requested {
  const net = tryParseIpNet(text)
  if (net !== undefined) return net
  if (tryParseIp(text) !== undefined) return { ip: parseIp(text) }
  const error = fromEnvironment ? invalidEnvironment : invalidConfig
  throw error(`${field}: ${JSON.stringify(text.slice(0, 64))} is not an IP address`, 'write 10.0.0.5 or 10.0.0.5/24')
}
