/** The IPAM plugin static: the addresses that the configuration or the caller names; nothing is stored, so nothing has to be undone. */

import * as v from 'valibot'

import { invalidConfig, invalidEnvironment } from '#cni/errors.ts'
import { dnsOf } from '#cni/config.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type IpConfig, type Result } from '#cni/result.ts'
import { ipNetSchema, ipSchema, parseWith, stringList } from '#cni/schema.ts'
import { specVersions } from '#cni/version.ts'
import { formatIp, tryParseIp } from '#ip/address.ts'
import { contains, formatIpNet, networkOf, parseIpNet } from '#ip/prefix.ts'
import { checkFailed } from '../check-failed.ts'
import { requestedOf, type Requested } from '../requested.ts'
import { routesSchema } from '../route-schema.ts'

export const staticIpam: Plugin = {
  type: 'static',
  versions: specVersions,
  stateless: true,
  add: async (input) => resultOf(input),
  del: async () => {},
  check,
  status: async (input) => void parse(input),
  gc: async () => {},
}

const schema = v.object({
  addresses: v.nullish(
    v.array(v.object({ address: ipNetSchema, gateway: v.nullish(v.union([ipSchema, v.literal('')])) })),
  ),
  routes: routesSchema,
  dns: v.nullish(
    v.object({
      nameservers: v.nullish(stringList),
      domain: v.nullish(v.string()),
      search: v.nullish(stringList),
      options: v.nullish(stringList),
    }),
  ),
})

const parse = (input: PluginInput): v.InferOutput<typeof schema> =>
  parseWith(schema, input.config.ipam.raw, `ipam of network ${JSON.stringify(input.config.name)}`)

/** `addresses` and those of CNI_ARGS IP together; `args.cni.ips`, or before those `runtimeConfig.ips`, replace them all. */
function resultOf(input: PluginInput): Result {
  const conf = parse(input)
  const requests = requestedOf(input)
  const configured = (conf.addresses ?? []).map((entry): IpConfig => ({
    address: entry.address,
    ...(entry.gateway ? { gateway: entry.gateway } : {}),
  }))
  const asked = requests.runtimeConfig.length > 0 ? requests.runtimeConfig : requests.args
  const ips =
    asked.length > 0
      ? asked.map((request) => ({ address: addressOf(request, 'runtimeConfig.ips or args.cni.ips') }))
      : [...configured, ...requests.env.map((request) => ({ address: addressOf(request, 'CNI_ARGS IP') }))]
  refuseOldVersion(ips, input.config.cniVersion)
  const dns = conf.dns ?? {}
  return {
    ...emptyResult,
    ips: withGateways(ips, input.args.get('GATEWAY')),
    routes: conf.routes ?? [],
    dns: dnsOf({
      nameservers: dns.nameservers ?? undefined,
      domain: dns.domain ?? undefined,
      search: dns.search ?? undefined,
      options: dns.options ?? undefined,
    }),
  }
}

function addressOf(request: Requested, field: string): IpConfig['address'] {
  if (request.length === undefined) {
    throw invalidConfig(
      `${field}: ${formatIp(request.ip)} has no prefix length`,
      `write ${formatIp(request.ip)}/24, for instance`,
    )
  }
  return formatIpNet({ ip: request.ip, length: request.length })
}

/** CNI_ARGS GATEWAY: each gateway serves the addresses whose network it lies in. */
function withGateways(ips: readonly IpConfig[], gateways: string | undefined): readonly IpConfig[] {
  if (gateways === undefined || gateways === '') return ips
  const parsed = gateways.split(',').map((text) => {
    const ip = tryParseIp(text.trim())
    if (ip === undefined)
      throw invalidEnvironment(`CNI_ARGS GATEWAY: ${JSON.stringify(text.slice(0, 64))} is not an IP address`)
    return ip
  })
  return ips.map((config) => {
    const gateway = parsed.find((ip) => contains(networkOf(parseIpNet(config.address)), ip))
    return gateway === undefined ? config : { ...config, gateway: formatIp(gateway) }
  })
}

function refuseOldVersion(ips: readonly IpConfig[], cniVersion: string): void {
  if (!/^0\.[12]\./.test(cniVersion)) return
  const families = ips.map((config) => parseIpNet(config.address).ip.family)
  if (new Set(families).size === families.length) return
  throw invalidConfig(
    `CNI version ${cniVersion} holds one address of each family, ${ips.length} are given`,
    'raise cniVersion to 0.3.1 or later',
  )
}

async function check(input: PluginInput): Promise<void> {
  const held = new Set(input.prevResult?.ips.map((config) => config.address))
  for (const { address } of resultOf(input).ips) {
    if (!held.has(address))
      throw checkFailed(`static: ${address} is configured, but the result of ADD does not have it`)
  }
}
