/** The configuration of neutron-ipam: the object `ipam` of a network, and the same object for the daemon. */

import { isAbsolute, join } from 'node:path'

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { NetConf } from '#cni/config.ts'
import type { JsonObject } from '#cni/json.ts'
import { cidrSchema, intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { isClusterName, isMarkNode, UNNAMED_CLUSTER } from '#openstack/mark.ts'
import { DEFAULT_STATE_DIR, FACTS_FILE, type Validity } from './facts.ts'

export const DEFAULT_SOCKET = '/run/neutron-ipam/ipam.sock'
const DEFAULT_LOCK = '/run/neutron-ipam/port.lock'
const DEFAULT_METADATA = 'http://169.254.169.254'

const lookups = ['config', 'metadata', 'ip', 'mac'] as const
/** One way to find the VM's port. */
export type Lookup = (typeof lookups)[number]

export interface PoolConf {
  /** Addresses of a family that are there at least, given out or not. */
  readonly minimum: number
  /** Those of them that are free. */
  readonly warm: number
  /** At most; 0: no limit but Neutron's. */
  readonly max: number
  /** Asked for at once. */
  readonly batch: number
  readonly cooldownMs: number
  readonly settleMs: number
  readonly idleReclaimMs: number
}

export interface ApiConf {
  /** Requests a second, in the long run and in a burst. */
  readonly qps: number
  readonly burst: number
  /** Milliseconds for one attempt of one request. */
  readonly timeoutMs: number
  /** Milliseconds that an ADD waits for an address. */
  readonly addDeadlineMs: number
}

export interface NeutronConf {
  readonly mode: 'daemon' | 'direct'
  /** With the root before them, as all paths here. */
  readonly socket: string
  readonly cloudsFile: string | undefined
  readonly cloud: string | undefined
  readonly hostInterface: string
  readonly portId: string
  readonly portLookup: readonly Lookup[]
  readonly subnetIds: readonly string[]
  readonly validity: 'auto' | Validity
  readonly stateDir: string
  readonly lockFile: string
  readonly factsFile: string
  readonly metadataUrl: string
  /** Names in the marks of what is made in the cloud. `node`: '' for the id of the server, else the host's name. */
  readonly cluster: string
  readonly node: string
  /** Whether floating IPs may point at pods: then they are taken away before an address is used again. */
  readonly floatingIps: boolean
  /** In the result instead of a default route for each family. */
  readonly routes: readonly { readonly dst: CidrText; readonly gw?: IpText }[] | undefined
  readonly pool: PoolConf
  readonly api: ApiConf
}

const text = v.nullish(v.string(), '')
const id = v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/, 'is no id'))
/** Go's and ours: half seconds are allowed, for tests and for the impatient. */
const seconds = (usual: number, most: number) => v.nullish(v.pipe(v.number(), v.minValue(0), v.maxValue(most)), usual)

const poolSchema = v.object({
  minimum: v.nullish(intSchema(0, 1024), 4),
  warm: v.nullish(intSchema(0, 1024), 4),
  max: v.nullish(intSchema(0, 4096), 0),
  batch: v.nullish(intSchema(1, 64), 8),
  cooldownSeconds: seconds(30, 3600),
  settleSeconds: seconds(3, 300),
  idleReclaimSeconds: seconds(1800, 604_800),
})

const apiSchema = v.object({
  qps: v.nullish(v.pipe(v.number(), v.minValue(0.01), v.maxValue(1000)), 4),
  burst: v.nullish(intSchema(1, 1000), 8),
  timeoutMs: v.nullish(intSchema(100, 120_000), 10_000),
  addDeadlineMs: v.nullish(intSchema(100, 50_000), 30_000),
})

const schema = v.object({
  mode: v.nullish(v.picklist(['daemon', 'direct']), 'daemon'),
  socket: text,
  cloudsFile: text,
  cloud: text,
  hostInterface: v.nullish(v.pipe(v.string(), v.regex(/^[^\s/]{0,15}$/, 'is no name of an interface')), ''),
  portId: v.nullish(v.union([id, v.literal('')]), ''),
  portLookup: v.nullish(v.pipe(v.array(v.picklist(lookups)), v.minLength(1)), [...lookups]),
  subnetIds: v.nullish(v.pipe(v.array(id), v.maxLength(64)), []),
  validity: v.nullish(v.picklist(['auto', 'fixed_ips', 'address_pairs', 'prefix', 'port']), 'auto'),
  stateDir: text,
  lockFile: text,
  metadataUrl: text,
  cluster: v.nullish(v.pipe(v.string(), v.check(isClusterName, 'is no name of a cluster')), UNNAMED_CLUSTER),
  node: v.nullish(
    v.pipe(
      v.string(),
      v.check((one) => one === '' || isMarkNode(one), 'is no name of a node'),
    ),
    '',
  ),
  floatingIps: v.nullish(v.boolean(), true),
  routes: v.nullish(v.pipe(v.array(v.object({ dst: cidrSchema, gw: v.optional(ipSchema) })), v.maxLength(256))),
  pool: v.nullish(poolSchema, {}),
  api: v.nullish(apiSchema, {}),
})

/** The configuration of a network. Throws CniError 7 naming the field. */
export const neutronConf = (config: NetConf, root: string): NeutronConf =>
  ipamConf(config.ipam.raw, root, `ipam of network ${JSON.stringify(config.name)}`)

/** Like `neutronConf`, for DEL and GC: they have to work after somebody broke the rest. Throws CniError 7 where the paths themselves are wrong. */
export function forgivingConf(config: NetConf, root: string): NeutronConf {
  try {
    return neutronConf(config, root)
  } catch {
    const { mode, socket, stateDir, lockFile, cloudsFile, cloud } = config.ipam.raw
    const paths = Object.entries({ mode, socket, stateDir, lockFile, cloudsFile, cloud }).filter(
      ([, value]) => value !== undefined,
    )
    return ipamConf(Object.fromEntries(paths), root, `ipam of network ${JSON.stringify(config.name)}`)
  }
}

/** An object `ipam`. Throws CniError 7 naming the field and `where` it stands. */
export function ipamConf(raw: JsonObject, root: string, where: string): NeutronConf {
  const conf = parseWith(schema, raw, where)
  const path = (name: 'socket' | 'cloudsFile' | 'stateDir' | 'lockFile', usual: string): string => {
    const given = conf[name] ?? ''
    if (given !== '' && !isAbsolute(given))
      throw invalidConfig(`${where}: ${JSON.stringify(name)} is ${JSON.stringify(given)}`, 'write an absolute path')
    return join(root, given === '' ? usual : given)
  }
  const stateDir = path('stateDir', DEFAULT_STATE_DIR)
  const pool = parseWith(poolSchema, conf.pool ?? {}, `${where}: pool`)
  const api = parseWith(apiSchema, conf.api ?? {}, `${where}: api`)
  if (pool.max !== 0 && pool.max !== null && pool.max < Math.max(pool.minimum ?? 0, pool.warm ?? 0))
    throw invalidConfig(`${where}: pool.max is ${pool.max}, less than minimum or warm`, 'raise it, or lower those')
  return {
    mode: conf.mode ?? 'daemon',
    socket: path('socket', DEFAULT_SOCKET),
    // Credentials are the machine's, not part of the state that a root moves.
    cloudsFile: conf.cloudsFile || undefined,
    cloud: conf.cloud || undefined,
    hostInterface: conf.hostInterface ?? '',
    portId: conf.portId ?? '',
    portLookup: conf.portLookup ?? lookups,
    subnetIds: conf.subnetIds ?? [],
    validity: conf.validity ?? 'auto',
    stateDir,
    lockFile: path('lockFile', DEFAULT_LOCK),
    factsFile: join(stateDir, FACTS_FILE),
    metadataUrl: urlOf(conf.metadataUrl || DEFAULT_METADATA, where),
    cluster: conf.cluster ?? UNNAMED_CLUSTER,
    node: conf.node ?? '',
    floatingIps: conf.floatingIps ?? true,
    routes: conf.routes?.map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { gw }) })),
    pool: {
      minimum: pool.minimum ?? 4,
      warm: pool.warm ?? 4,
      max: pool.max ?? 0,
      batch: pool.batch ?? 8,
      cooldownMs: (pool.cooldownSeconds ?? 30) * 1000,
      settleMs: (pool.settleSeconds ?? 3) * 1000,
      idleReclaimMs: (pool.idleReclaimSeconds ?? 1800) * 1000,
    },
    api: {
      qps: api.qps ?? 4,
      burst: api.burst ?? 8,
      timeoutMs: api.timeoutMs ?? 10_000,
      addDeadlineMs: api.addDeadlineMs ?? 30_000,
    },
  }
}

function urlOf(given: string, where: string): string {
  const url = URL.parse(given)
  if (url?.protocol === 'http:' && url.username === '' && url.password === '') return url.href.replace(/\/$/, '')
  throw invalidConfig(`${where}: "metadataUrl" is no plain http URL`, `leave it out for ${DEFAULT_METADATA}`)
}
