/** The configuration of host-device-plus: which cloud, which of its networks, and how many cards. */

import { isAbsolute } from 'node:path'

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { JsonObject } from '#cni/json.ts'
import { intSchema, jsonObject, parseWith, stringList } from '#cni/schema.ts'
import { isClusterName, UNNAMED_CLUSTER } from '#openstack/mark.ts'

export interface NicConf {
  /** Names the configuration in messages. */
  readonly what: string
  /** Of the CNI network. */
  readonly network: string
  /** Undefined: where `openstack` looks. */
  readonly cloudsFile: string | undefined
  readonly cloud: string | undefined
  readonly cluster: string
  /** The link by whose MAC address the node's server is found; '' for that of the default route. */
  readonly hostInterface: string
  /** 0 for that of the Neutron network. */
  readonly mtu: number
  readonly isDefaultGateway: boolean
  /** Instead of the catalog's. */
  readonly computeUrl: URL | undefined
  /** '' for the one that has `hostInterface`'s card. */
  readonly serverId: string
  /** Neutron's; '' for that of `hostInterface`'s card. */
  readonly networkId: string
  /** None: one address of each family, as Neutron chooses. */
  readonly subnetIds: readonly string[]
  /** None: the project's default group. */
  readonly securityGroups: readonly string[]
  /** Cards of the server, whoever attached them. */
  readonly deviceLimit: number
  readonly attachTimeoutMs: number
  readonly poolSize: number
  readonly onDelete: 'detach' | 'keep'
}

const text = v.nullish(v.string(), '')
const id = v.nullish(v.union([v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/, 'is no id')), v.literal('')]), '')
const ids = v.pipe(
  v.nullish(stringList, []),
  v.array(v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/, 'is no id'))),
  v.maxLength(10),
)

const novaSchema = v.object({
  computeUrl: text,
  serverId: id,
  networkId: id,
  subnetIds: ids,
  securityGroups: ids,
  deviceLimit: v.nullish(intSchema(1, 1024), 26),
  attachTimeoutMs: v.nullish(intSchema(100, 600_000), 60_000),
  poolSize: v.nullish(intSchema(0, 64), 1),
  onDelete: v.nullish(v.picklist(['detach', 'keep']), 'detach'),
})

const cloudSchema = v.object({ cloudsFile: text, cloud: text, cluster: text, hostInterface: text })

const schema = v.object({
  ...cloudSchema.entries,
  mtu: v.nullish(intSchema(0, 65_535), 0),
  isDefaultGateway: v.nullish(v.boolean(), true),
  nova: v.nullish(novaSchema, {}),
  ipam: v.nullish(v.object({ type: text, ...cloudSchema.entries }), {}),
})

/** The IPAM plugin that may stand in the configuration: its cloud is this one's too. It is not called, since a card brings its own addresses. */
const IPAM = 'neutron-ipam'

/** What of a configuration is read, as it is remembered for the time between calls. */
export const remembered = (raw: JsonObject): JsonObject =>
  Object.fromEntries(
    ['cloudsFile', 'cloud', 'cluster', 'hostInterface', 'mtu', 'isDefaultGateway', 'nova', 'ipam'].flatMap((key) => {
      const value = raw[key]
      return value === undefined ? [] : [[key, value]]
    }),
  )

/** Throws CniError 7. */
export function nicConf(network: string, raw: JsonObject): NicConf {
  const what = `host-device-plus configuration of network ${JSON.stringify(network)}`
  const conf = parseWith(schema, parseWith(jsonObject, raw, what), what)
  const { nova, ipam } = conf
  if (ipam.type !== '' && ipam.type !== IPAM)
    throw invalidConfig(
      `${what}: "ipam.type" is ${JSON.stringify(ipam.type.slice(0, 64))}`,
      `a card has the addresses of its Neutron port, and port security drops others: leave "ipam" out, or name ${IPAM}`,
    )
  const either = (key: keyof typeof cloudSchema.entries): string => conf[key] || ipam[key]
  const cloudsFile = either('cloudsFile')
  if (cloudsFile !== '' && !isAbsolute(cloudsFile))
    throw invalidConfig(`${what}: "cloudsFile" is ${JSON.stringify(cloudsFile)}`, 'write an absolute path')
  const cluster = either('cluster') || UNNAMED_CLUSTER
  if (!isClusterName(cluster))
    throw invalidConfig(
      `${what}: "cluster" is ${JSON.stringify(cluster.slice(0, 64))}`,
      'use 1 to 40 of a-z, 0-9, "." and "-"',
    )
  const cloud = either('cloud')
  const { computeUrl, ...rest } = nova
  return {
    what,
    network,
    cloudsFile: cloudsFile === '' ? undefined : cloudsFile,
    cloud: cloud === '' ? undefined : cloud,
    cluster,
    hostInterface: either('hostInterface'),
    mtu: conf.mtu,
    isDefaultGateway: conf.isDefaultGateway,
    computeUrl: urlOf(computeUrl, what),
    ...rest,
  }
}

function urlOf(given: string, what: string): URL | undefined {
  if (given === '' || given === 'catalog') return undefined
  const url = URL.parse(given)
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:') && url.username === '') return url
  throw invalidConfig(
    `${what}: "nova.computeUrl" is ${JSON.stringify(given.slice(0, 128))}`,
    '"catalog", or an http or https URL',
  )
}
