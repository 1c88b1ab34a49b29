/**
 * A lab whose leases lie in etcd, as with flannel outside of Kubernetes: Debian's etcd on the lab's router, with the network configuration and a reservation for
 * each node, so that addresses can be read from names as in every lab.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { accessSync, closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { backoff } from '#etcd/backoff.ts'
import { EtcdClient } from '#etcd/client.ts'
import { NO_LEASE } from '#etcd/messages.ts'
import { formatAttributes } from '#flannel/etcd/attributes.ts'
import { leaseName } from '#flannel/etcd/key.ts'
import { familyOf } from '#ip/prefix.ts'
import { inNetns } from '#sys/netns.ts'
import { LabError, messageOf } from './error.ts'
import { jsonText, netConf } from './network.ts'
import { netnsPath, type LabPaths } from './paths.ts'
import type { LabPlan, NodePlan } from './plan.ts'
import { MARK } from './process.ts'
import { labEnvironment, type Program } from './program.ts'
import type { LabRecord } from './record.ts'
import type { Supervised } from './supervisor.ts'

/** Among the keeper's processes. */
export const ETCD_PROCESS = 'etcd'
const PREFIX = '/coreos.com/network'
const PORTS = { client: 2379, peer: 2380 }
/** Of the log of etcd, which is the lab's as well. */
const MAX_SEEDING_MS = 60_000
const WAIT = { base: 200, cap: 2_000 }

export const etcdUrl = ({ api }: LabPlan): string => `http://${api.ip}:${PORTS.client}`

export const etcdLog = (paths: LabPaths): string => join(paths.directory, 'etcd.log')

/** Throws `LabError` `no-kernel` where there is no etcd. */
export function requireEtcd(path = process.env['PATH'] ?? ''): void {
  if (path.split(':').some((folder) => folder !== '' && isProgram(join(folder, 'etcd')))) return
  throw new LabError(
    'no-kernel',
    'leases are to lie in etcd, and this machine has no program etcd',
    'apt-get install --no-install-recommends etcd-server (the package starts a service of its own; the lab does not use that), or leave --datastore out.',
  )
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** One member, in the fabric, where the router's address is. Killed, it finds everything again in its folder. */
export function etcdProcess(plan: LabPlan, record: LabRecord, paths: LabPaths): Supervised {
  const peer = `http://127.0.0.1:${PORTS.peer}`
  return {
    name: ETCD_PROCESS,
    file: 'etcd',
    args: [
      '--name=lab',
      `--data-dir=${join(paths.directory, 'etcd')}`,
      `--listen-client-urls=${etcdUrl(plan)}`,
      `--advertise-client-urls=${etcdUrl(plan)}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=lab=${peer}`,
    ],
    env: labEnvironment({ [MARK]: record.id }),
    netns: netnsPath(plan.fabric.namespace),
    log: etcdLog(paths),
  }
}

/** What etcd holds before the first agent asks: key and value. */
export const etcdContents = (plan: LabPlan): readonly (readonly [key: string, value: string])[] => [
  ...plan.nodes.map((node) => [`${PREFIX}/subnets/${leaseName(subnetsOf(node))}`, reservation(node)] as const),
  // Last: agents begin when it is there.
  [`${PREFIX}/config`, jsonText(netConf(plan))],
]

function subnetsOf({ podCidrs, name }: NodePlan): Parameters<typeof leaseName>[0] {
  const v4 = podCidrs.find((cidr) => familyOf(cidr) === 4)
  const v6 = podCidrs.find((cidr) => familyOf(cidr) === 6)
  if (v4 === undefined) throw new Error(`${name} has no IPv4 subnet`)
  return { 4: v4, ...(v6 === undefined ? {} : { 6: v6 }) }
}

/** As an operator writes one: the node's address, and no lease of etcd's that could end. */
function reservation({ underlay }: NodePlan): string {
  const v4 = underlay.find(({ ip }) => familyOf(ip) === 4)
  const v6 = underlay.find(({ ip }) => familyOf(ip) === 6)
  return formatAttributes({
    publicIp: v4?.ip ?? '',
    ...(v6 === undefined ? {} : { publicIpv6: v6.ip }),
    backendType: '',
  })
}

/** Writes it, in the namespace where this process is. What is there already stays: a lease may lie on it. Throws EtcdError after a minute. */
export async function seedEtcd(plan: LabPlan): Promise<void> {
  using client = new EtcdClient({ endpoints: [etcdUrl(plan)] })
  const deadline = Date.now() + MAX_SEEDING_MS
  for (let failures = 0; ;) {
    try {
      for (const [key, value] of etcdContents(plan)) {
        const { kv } = await client.get(key)
        if (kv === undefined) await client.put(key, value, NO_LEASE)
      }
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(backoff(++failures, WAIT, Math.random))
    }
  }
}

/** Has it written by a process in the fabric, from which alone etcd can be reached. Its failure is in the log, and seen by agents that wait. */
export function startSeeding(plan: LabPlan, record: LabRecord, paths: LabPaths, program: Program): ChildProcess {
  const log = openSync(etcdLog(paths), 'a', 0o600)
  try {
    const child = inNetns(netnsPath(plan.fabric.namespace), () =>
      spawn(program.file, [...program.args, 'lab', 'seed', '--name', plan.spec.name], {
        env: labEnvironment({ [MARK]: record.id }),
        stdio: ['ignore', log, log],
      }),
    )
    child.on('error', (error) => void process.stderr.write(`etcd cannot be filled: ${messageOf(error)}\n`))
    return child
  } finally {
    closeSync(log)
  }
}

/** Flags of a node's agent for where its lease lies. */
export const etcdFlags = (plan: LabPlan): readonly string[] => [
  '--etcd-endpoints',
  etcdUrl(plan),
  '--etcd-prefix',
  PREFIX,
]
