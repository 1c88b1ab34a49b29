/** Whole chains, driven as a runtime does: ADD forwards, CHECK forwards with the last result, DEL backwards. */

import { once } from 'node:events'
import { spawn } from 'node:child_process'
import type { JsonObject } from '#cni/json.ts'
import { slowness } from '../../slow.ts'
import type { Case } from '../case.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, readResult } from '../shape.ts'
import { Baseline } from '../state.ts'
import { lanIpam } from '../subjects/damage.ts'
import { demand, type Trial } from '../trial.ts'

const main: JsonObject = {
  type: 'bridge',
  bridge: 'br0',
  isGateway: true,
  ipMasq: true,
  hairpinMode: true,
  ipam: lanIpam,
}
const mapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const portmap: JsonObject = {
  type: 'portmap',
  capabilities: { portMappings: true },
  runtimeConfig: { portMappings: [mapping] },
}
const all: readonly JsonObject[] = [
  main,
  portmap,
  { type: 'firewall' },
  { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1' }, mtu: 1400 },
  {
    type: 'bandwidth',
    ingressRate: 80_000_000,
    ingressBurst: 8_000_000,
    egressRate: 80_000_000,
    egressBurst: 8_000_000,
  },
]

/** One container with its list of plugins. */
class Chain {
  readonly pods: readonly Pod[]
  result: JsonObject | undefined

  private constructor(pods: readonly Pod[]) {
    this.pods = pods
  }

  static async of(t: Trial, plugins: readonly JsonObject[], containerId: string): Promise<Chain> {
    const netns = await t.machine.pod()
    const pods: Pod[] = []
    for (const conf of plugins) pods.push(await t.podOf(conf, { netns, containerId }))
    return new Chain(pods)
  }

  get netns(): string {
    return this.pods[0]?.netns ?? ''
  }

  async add(): Promise<JsonObject> {
    for (const pod of this.pods)
      this.result = await pod.add(this.result === undefined ? {} : { prevResult: this.result })
    return this.result ?? {}
  }

  async check(): Promise<void> {
    for (const pod of this.pods) await pod.check({ prevResult: this.result }, `of plugin ${pod.n}`)
  }

  async del(): Promise<void> {
    for (const pod of this.pods.toReversed()) await pod.del({ prevResult: this.result }, `of plugin ${pod.n}`)
    this.result = undefined
  }

  async gc(valid: readonly Chain[]): Promise<void> {
    const pods = valid.flatMap((chain) => chain.pods.slice(0, 1))
    for (const pod of this.pods) await pod.gc(pods)
  }
}

async function whole(t: Trial): Promise<void> {
  await useOnce(t)
  const chain = await Chain.of(t, all, 'web')
  const before = await Baseline.of(t.machine)
  const { interfaces, ips } = readResult(await chain.add())
  const at = ips[0]?.interface
  demand(at !== undefined && interfaces[at]?.name === 'eth0', 'the address does not point to eth0 any more')
  await chain.check()
  await chain.del()
  await chain.del()
  await t.unchanged(before, 'after DEL of the chain')
}

/** What all share is there afterwards. */
async function useOnce(t: Trial): Promise<void> {
  const chain = await Chain.of(t, all, 'first')
  await chain.add()
  await chain.del()
  await t.machine.removePod(chain.netns)
}

async function versions(t: Trial): Promise<void> {
  for (const version of t.versions.filter((one) => one >= '0.4.0')) {
    const chain = await Chain.of(
      t,
      all.map((conf) => ({ ...conf, cniVersion: version })),
      `of-${version.replaceAll('.', '-')}`,
    )
    const result = await chain.add()
    demand(
      result['cniVersion'] === version,
      `the last result of ${version} is of ${JSON.stringify(result['cniVersion'])}`,
    )
    await chain.del()
  }
}

async function netnsGone(t: Trial): Promise<void> {
  await useOnce(t)
  const before = await Baseline.of(t.machine)
  const chain = await Chain.of(t, all, 'web')
  await chain.add()
  await t.machine.removePod(chain.netns)
  await chain.del()
  await t.unchanged(before, 'after DEL of the chain without its namespace')
}

async function collected(t: Trial): Promise<void> {
  await useOnce(t)
  const kept = await Chain.of(
    t,
    [main, { ...portmap, runtimeConfig: { portMappings: [{ ...mapping, hostPort: 8081 }] } }, ...all.slice(2)],
    'kept',
  )
  await kept.add()
  const before = await Baseline.of(t.machine)
  const stale = await Chain.of(t, all, 'stale')
  await stale.add()
  await t.machine.removePod(stale.netns)
  await stale.gc([kept])
  await t.unchanged(before, 'after GC of the chain')
  await kept.check()
}

/** A pod behind a hostPort, and another one. */
async function served(t: Trial): Promise<{ readonly address: string; readonly other: Chain }> {
  await t.machine.do('ip', 'address', 'add', '192.0.2.1/32', 'dev', 'lo')
  const [web, other] = [await Chain.of(t, [main, portmap], 'web'), await Chain.of(t, [main], 'other')]
  const [address = ''] = addressesOf(await web.add())
  await other.add()
  const server = new URL('../../plugins/server.ts', import.meta.url).pathname
  const [file, ...args] = [...t.machine.entry(web.netns), process.execPath, server, 'tcp', '0.0.0.0', '80', 'web']
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  await once(child.stdout, 'data')
  child.stdout.destroy()
  child.unref()
  servers.set(t, () => child.kill('SIGKILL'))
  return { address: address.split('/')[0] ?? '', other }
}

const servers = new WeakMap<Trial, () => void>()

async function answers(t: Trial, pod: string | undefined, address: string, port: number, tries = 3): Promise<boolean> {
  const client = new URL('../../plugins/client.ts', import.meta.url).pathname
  for (let i = 0; i < tries * slowness; i++) {
    const { stdout } = await t.machine.run([process.execPath, client, 'tcp', address, String(port)], '', pod)
    if (stdout === 'web') return true
  }
  return false
}

async function hostPort(t: Trial): Promise<void> {
  const { address, other } = await served(t)
  try {
    demand(await answers(t, other.netns, address, 80), 'the pod itself does not answer')
    demand(await answers(t, undefined, '192.0.2.1', 8080), 'the host does not reach it by its own address')
    demand(await answers(t, undefined, '127.0.0.1', 8080), 'the host does not reach it by 127.0.0.1')
    demand(await answers(t, other.netns, '10.88.0.1', 8080), 'another pod does not reach it by the host’s address')
  } finally {
    servers.get(t)?.()
  }
}

async function foreignAddress(t: Trial): Promise<void> {
  const { other } = await served(t)
  try {
    // Routed through the host, and nobody has it.
    demand(
      !(await answers(t, other.netns, '198.51.100.7', 8080, 1)),
      'the mapping caught a connection to a foreign address',
    )
  } finally {
    servers.get(t)?.()
  }
}

const of = (id: string, asserts: string, run: (t: Trial) => Promise<void>, more: Partial<Case> = {}): Case => ({
  plugin: 'chain',
  id: `chain/${id}`,
  asserts,
  basis: 'SPEC',
  also: ['bridge', 'host-local', 'portmap', 'firewall', 'tuning', 'bandwidth'],
  since: '0.4.0',
  run,
  ...more,
})
const ports = { also: ['bridge', 'host-local', 'portmap'], basis: 'REF' } as const

export const chainCases: readonly Case[] = [
  of('whole', 'bridge, portmap, firewall, tuning, bandwidth: ADD, CHECK, DEL, DEL; the machine is as before', whole),
  of('versions', 'so it is in every version from 0.4.0 on', versions),
  of('netns-gone', 'DEL of the chain after the namespace vanished leaves nothing', netnsGone),
  of('gc', 'GC of the chain removes a stale container and spares a valid one', collected, { since: '1.1.0' }),
  of('host-port', 'a hostPort is reached from the host, by 127.0.0.1 too, and from other pods', hostPort, ports),
  of('foreign-address', 'a hostPort catches no connection to a foreign address (CVE-2025-67499)', foreignAddress, {
    ...ports,
    basis: 'OPS',
  }),
]
