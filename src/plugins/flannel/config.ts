/** The flannel plugin's configuration, and the delegate's configuration that it renders. Source: flannel-io/cni-plugin. */

import { join } from 'node:path'

import * as v from 'valibot'

import { isPluginType, parseNetConf, type NetConf } from '#cni/config.ts'
import { invalidConfig } from '#cni/errors.ts'
import type { Json, JsonObject } from '#cni/json.ts'
import { jsonObject, parseWith } from '#cni/schema.ts'
import { familyOf } from '#ip/prefix.ts'
import type { SubnetEnv } from './subnet-env.ts'

export interface FlannelConf {
  /** Path of subnet.env, `host.root` included. */
  readonly subnetFile: string
  /** Where each attachment's rendered configuration is kept, `host.root` included. */
  readonly dataDir: string
  readonly delegate: JsonObject
  readonly delegateType: string
  readonly ipam: JsonObject
}

const schema = v.object({
  subnetFile: v.nullish(v.string()),
  dataDir: v.nullish(v.string()),
  delegate: v.nullish(jsonObject),
  ipam: v.nullish(jsonObject),
})

const delegateSchema = v.object({ type: v.nullish(v.string()) })

/** Throws CniError 7. */
export function flannelConf(config: NetConf, root: string): FlannelConf {
  const what = `flannel configuration of network ${JSON.stringify(config.name)}`
  const { subnetFile, dataDir, delegate, ipam } = parseWith(schema, config.raw, what)
  for (const key of ['name', 'ipam']) {
    if (delegate !== null && delegate !== undefined && Object.hasOwn(delegate, key)) {
      throw invalidConfig(
        `${what}: "delegate" must not have "${key}"`,
        'the flannel plugin sets it: put ipam beside delegate',
      )
    }
  }
  const type = parseWith(delegateSchema, delegate ?? {}, `${what}: delegate`).type ?? 'bridge'
  if (!isPluginType(type))
    throw invalidConfig(`${what}: delegate.type ${JSON.stringify(type.slice(0, 64))} is no plugin name`)
  return {
    subnetFile: join(root, subnetFile || '/run/flannel/subnet.env'),
    dataDir: join(root, dataDir || '/var/lib/cni/flannel'),
    delegate: delegate ?? {},
    delegateType: type,
    ipam: ipam ?? {},
  }
}

/** The delegate's complete configuration. Without `env` (DEL and GC while the agent is away) it names the network and the plugins, but no ranges. */
export function renderDelegate(config: NetConf, conf: FlannelConf, env: SubnetEnv | undefined): NetConf {
  const { delegate, delegateType, ipam } = conf
  const rendered: Record<string, Json | undefined> = {
    ...(env === undefined ? {} : { ipMasq: !env.ipMasq, mtu: env.mtu }),
    ...(delegateType === 'bridge' ? { isGateway: true } : {}),
    ...delegate,
    type: delegateType,
    name: config.name,
    cniVersion: config.cniVersion,
    ...(Object.keys(config.runtimeConfig).length > 0 ? { runtimeConfig: config.runtimeConfig } : {}),
    ...(Object.keys(config.args).length > 0 ? { args: config.args } : {}),
    ipam: { type: 'host-local', ...ipam, ...(env === undefined ? {} : addressing(ipam, env)) },
  }
  return parseNetConf(rendered)
}

/** One range set of each family, and a route to each of the cluster's networks over the default gateway of its family. */
function addressing(ipam: JsonObject, env: SubnetEnv): JsonObject {
  const own = ipam['routes']
  if (own !== undefined && own !== null && !Array.isArray(own)) {
    throw invalidConfig('ipam.routes of the flannel configuration is not a list')
  }
  const inOrder = env.subnets.toSorted((a, b) => familyOf(a) - familyOf(b))
  return {
    ranges: inOrder.map((subnet) => [{ subnet }]),
    routes: [...(own ?? []), ...env.networks.map((dst) => ({ dst }))],
  }
}
