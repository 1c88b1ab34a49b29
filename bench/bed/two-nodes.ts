/** Two nodes on one wire, with a pod each: the pod network made by agents and plugins, or the same devices by hand. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ipText } from '#ip/address.ts'
import { CniNode } from './attach.ts'
import { serveApi, socketOf, startAgent, subnetFileOf } from './agents.ts'
import type { Bed, Namespace } from './bed.ts'
import { compiled } from './native.ts'
import { ownPlugins } from './paths.ts'
import { until } from './plugins.ts'

export type Backend = 'vxlan' | 'host-gw' | 'udp'

/** The far ends of a measurement: paths of two pods' namespaces, and the address of the second. */
export interface PodPair {
  readonly from: string
  readonly to: string
  readonly address: string
}

interface Node {
  readonly netns: Namespace
  readonly number: 1 | 2
}

const NODES = [1, 2] as const
const underlay = (n: number): string => `192.168.0.${n}`
const subnet = (n: number): string => `10.244.${n}.0/24`
const vtepMac = (n: number): string => `02:00:00:00:00:0${n}`
const wireMac = (n: number): string => `02:00:00:00:01:0${n}`

/** Two namespaces and the cable between them. */
async function wired(bed: Bed, label: string): Promise<readonly Node[]> {
  const nodes = await Promise.all(
    NODES.map(async (number) => ({ number, netns: await bed.namespace(`${label}-${number}`) })),
  )
  const [first, second] = nodes
  if (first === undefined || second === undefined) throw new Error('two nodes were asked for')
  const peer = ['peer', 'name', 'eth0', 'mtu', '1500', 'netns', second.netns.path]
  await first.netns.run('ip', 'link', 'add', 'eth0', 'mtu', '1500', 'type', 'veth', ...peer)
  for (const { netns, number } of nodes) {
    await netns.run('ip', 'link', 'set', 'eth0', 'address', wireMac(number), 'up')
    await netns.run('ip', 'address', 'add', `${underlay(number)}/24`, 'dev', 'eth0')
  }
  return nodes
}

/** By an agent on each node and the plugin flannel. The API server's life is the bed's: dispose `server` after it. */
export async function ownPair(bed: Bed, label: string, type: Backend): Promise<PodPair & AsyncDisposable> {
  const nodes = await wired(bed, label)
  const [first] = nodes
  if (first === undefined) throw new Error('two nodes were asked for')
  const api = await serveApi(first.netns, ipText(underlay(1)))
  try {
    for (const { number } of nodes) {
      const name = `node-${number}`
      api.createNode(name, { metadata: { name }, spec: { podCIDR: subnet(number), podCIDRs: [subnet(number)] } })
    }
    const netConf = { Network: '10.244.0.0/16', Backend: { Type: type } }
    const pods = await Promise.all(
      nodes.map(async ({ netns, number }) => {
        const root = join(bed.directory, `${label}-${number}-agent`)
        const agent = startAgent(bed, netns, { node: `node-${number}`, api, root, netConf })
        const other = type === 'udp' ? '10.244.0.0/16' : subnet(3 - number)
        const isReady = async (): Promise<boolean> =>
          existsSync(subnetFileOf(root)) && (await netns.run('ip', 'route', 'show', other)) !== ''
        await until(isReady, () => agent.child.exitCode === null, 20_000).catch((error: unknown) => {
          throw new Error(`the agent of node-${number} is not ready: ${agent.lastWords()}`, { cause: error })
        })
        return pod(bed, `${label}-pods-${number}`, netns, root)
      }),
    )
    const [from, to] = pods
    if (from === undefined || to === undefined) throw new Error('two pods were asked for')
    await reached(bed, from.netns, to.address)
    return { from: from.netns, to: to.netns, address: to.address, [Symbol.asyncDispose]: () => api.server.close() }
  } catch (error) {
    await api.server.close()
    throw error
  }
}

/** The relay of the udp backend knows its peers a moment after the route is there. */
async function reached(bed: Bed, netns: string, address: string): Promise<void> {
  const isReached = async (): Promise<boolean> => {
    const said = await bed.run('ping', ['-c', '1', '-W', '1', address], { netns }).catch(() => '')
    return said.includes(' 0% packet loss')
  }
  await until(isReached, () => true, 20_000)
}

/** A pod by the plugin flannel, as its usual configuration asks for it. */
async function pod(
  bed: Bed,
  label: string,
  netns: Namespace,
  root: string,
): Promise<{ netns: string; address: string }> {
  const config = {
    cniVersion: '1.0.0',
    name: 'cbr0',
    type: 'flannel',
    delegate: { hairpinMode: true, isDefaultGateway: true },
  }
  const env = { HEDDLE_SOCKET: socketOf(root), HEDDLE_NODE: '/bin/false' }
  const plugins = { path: ownPlugins, types: ['flannel'], configs: () => [config], env }
  const node = await CniNode.make(bed, label, 1, async () => plugins, netns)
  await node.add(node.pods)
  const [made] = node.pods
  if (made === undefined) throw new Error('one pod was asked for')
  const address = /"address":\s*"([0-9.]+)\//.exec(JSON.stringify(node.resultOf(made)))?.[1]
  if (address === undefined) throw new Error(`ADD of ${label} gave no address`)
  return { netns: made.netns, address }
}

/** What lets pods reach the outside: without it packets would be spared connection tracking, and the comparison would be about that. */
const MASQUERADE = `table inet hand {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
  }
}
`

/** With `ip`, `bridge` and one rule of `nft`, as the articles on flannel show it; udp with the loop that flannel has. */
export async function handMadePair(bed: Bed, label: string, type: Backend): Promise<PodPair> {
  const nodes = await wired(bed, label)
  const [from, to] = await bed.pods(`${label}-pod`, 2)
  if (from === undefined || to === undefined) throw new Error('two pods were asked for')
  const mtu = { vxlan: '1450', 'host-gw': '1500', udp: '1472' }[type]
  for (const { netns, number } of nodes) {
    const other = 3 - number
    const ip = (...args: readonly string[]): Promise<string> => netns.run('ip', ...args)
    await netns.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
    await bed.run('nft', ['-f', '-'], { netns: netns.path, input: MASQUERADE })
    if (type === 'vxlan') {
      const kind = [
        'type',
        'vxlan',
        'id',
        '1',
        'local',
        underlay(number),
        'dev',
        'eth0',
        'dstport',
        '8472',
        'nolearning',
      ]
      const hop = `10.244.${other}.0`
      await ip('link', 'add', 'flannel.1', 'address', vtepMac(number), 'mtu', mtu, ...kind)
      await ip('address', 'add', `10.244.${number}.0/32`, 'dev', 'flannel.1')
      await ip('link', 'set', 'flannel.1', 'up')
      await ip('neighbour', 'add', hop, 'lladdr', vtepMac(other), 'dev', 'flannel.1', 'nud', 'permanent')
      await netns.run(
        'bridge',
        'fdb',
        'add',
        vtepMac(other),
        'dev',
        'flannel.1',
        'dst',
        underlay(other),
        'self',
        'permanent',
      )
      await ip('route', 'add', subnet(other), 'via', hop, 'dev', 'flannel.1', 'onlink')
    } else if (type === 'udp') {
      await ip('tuntap', 'add', 'mode', 'tun', 'name', 'flannel0')
      await ip('link', 'set', 'flannel0', 'mtu', mtu, 'up')
      await ip('address', 'add', `10.244.${number}.0/32`, 'dev', 'flannel0')
      await ip('route', 'add', '10.244.0.0/16', 'dev', 'flannel0')
      const peer = [`10.244.${other}.0`, '24', underlay(other)]
      bed.start(netns, await compiled('relay'), ['flannel0', underlay(number), '8285', ...peer])
    } else {
      await ip('route', 'add', subnet(other), 'via', underlay(other), 'dev', 'eth0')
    }
    await ip('link', 'add', 'cni0', 'mtu', mtu, 'type', 'bridge')
    await ip('address', 'add', `10.244.${number}.1/24`, 'dev', 'cni0')
    await ip('link', 'set', 'cni0', 'up')
    const path = number === 1 ? from : to
    await ip('link', 'add', 'veth0', 'mtu', mtu, 'type', 'veth', 'peer', 'name', 'eth0', 'mtu', mtu, 'netns', path)
    await netns.run('ip', 'link', 'set', 'veth0', 'master', 'cni0', 'up')
    await netns.run('bridge', 'link', 'set', 'dev', 'veth0', 'hairpin', 'on')
    const inPod = (...args: readonly string[]): Promise<string> => bed.run('ip', args, { netns: path })
    await inPod('address', 'add', `10.244.${number}.2/24`, 'dev', 'eth0')
    await inPod('link', 'set', 'eth0', 'up')
    await inPod('route', 'add', 'default', 'via', `10.244.${number}.1`)
  }
  await reached(bed, from, '10.244.2.2')
  return { from, to, address: '10.244.2.2' }
}
