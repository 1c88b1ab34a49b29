/**
 * Where everything in a lab is: names and addresses, as a pure function of its specification.
 *
 * Every number can be read from a name: worker-3 is 172.30.1.13, its pods have 10.244.3.0/24, and pod-3-1 is the first of them. Labs do not share
 * namespaces, so two labs use the same addresses.
 */

import { createHash } from 'node:crypto'
import { ipText, ipToBytes, parseIp } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { cidrText, ipNetOf } from '#ip/prefix.ts'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import { planCloud, type CloudPlan } from './cloud/plan.ts'
import { familiesOf, type LabSpec } from './spec.ts'

/** An address together with the prefix of its network, per family of the lab. */
export interface Located {
  readonly ip: IpText
  readonly address: IpNetText
}

/** One subnet of the underlay: a bridge in the fabric namespace, whose own addresses are its nodes' default gateway. */
export interface SwitchPlan {
  readonly name: string
  readonly addresses: readonly Located[]
}

export interface PodPlan {
  readonly name: string
  readonly node: string
  readonly namespace: string
  /** 64 hex digits, as container runtimes name a sandbox. */
  readonly containerId: string
  /** The node's port that leads to the pod's port 80; the first pod of every node has one. */
  readonly hostPort?: number
}

export interface NodePlan {
  readonly name: string
  readonly index: number
  readonly namespace: string
  /** The switch that eth0 is plugged into. */
  readonly switch: string
  readonly mac: MacText
  readonly underlay: readonly Located[]
  readonly gateways: readonly IpText[]
  readonly podCidrs: readonly CidrText[]
  readonly pods: readonly PodPlan[]
}

export interface LabPlan {
  readonly spec: LabSpec
  /** The pods' networks of the whole cluster: flannel's `Network` and `IPv6Network`. */
  readonly podNetworks: readonly CidrText[]
  /** Holds the switches, and routes between them and to the outside. */
  readonly fabric: {
    readonly namespace: string
    readonly switches: readonly SwitchPlan[]
    readonly toOutside: readonly Located[]
  }
  /** A machine beyond the router: it knows the way to the nodes and knows nothing of pods. */
  readonly outside: {
    readonly namespace: string
    readonly addresses: readonly Located[]
    readonly routes: readonly CidrText[]
    readonly gateways: readonly IpText[]
  }
  readonly nodes: readonly NodePlan[]
  /** Where nodes and pods find the API server, inside the lab. */
  readonly api: { readonly ip: IpText; readonly port: number }
  /** Where nodes are a cloud's virtual machines. */
  readonly cloud?: CloudPlan | undefined
}

/** The pod port that `HOST_PORT` of a node leads to. */
export const POD_PORT = 80
export const HOST_PORT = 8080
export const API_PORT = 6443
/** The underlay's links are ordinary Ethernet. */
export const UNDERLAY_MTU = 1500

const NODE_OFFSET = 10

/** Plans a lab. The specification must have been checked (`labSpec`). */
export function planLab(spec: LabSpec): LabPlan {
  if (spec.cloud !== undefined) return planCloud(spec, spec.cloud)
  const both = (v4: string, v6: string): string[] => familiesOf(spec).map((family) => (family === 4 ? v4 : v6))
  const located = (v4: string, v6: string): Located[] => both(v4, v6).map(locate)
  const switches = (spec.topology === 'flat' ? [1] : [1, 2]).map((n) => ({
    name: `rack-${n}`,
    addresses: located(`172.30.${n}.1`, `fd00:30:${n}::1`),
  }))
  const [first] = switches
  if (first === undefined) throw new Error('a lab has at least one switch')
  return {
    spec,
    podNetworks: both('10.244.0.0/16', 'fd00:10:244::/48').map(cidrText),
    fabric: { namespace: `${spec.name}-fabric`, switches, toOutside: located('172.30.0.1', 'fd00:30:0::1') },
    outside: {
      namespace: `${spec.name}-outside`,
      addresses: located('172.30.0.2', 'fd00:30:0::2'),
      routes: both('172.30.0.0/16', 'fd00:30::/32').map(cidrText),
      gateways: both('172.30.0.1', 'fd00:30:0::1').map(ipText),
    },
    nodes: Array.from({ length: spec.nodes }, (_, i) => planNode(spec, i + 1, both)),
    api: { ip: ipText(spec.ipv4 ? '172.30.1.1' : 'fd00:30:1::1'), port: API_PORT },
  }
}

function planNode(spec: LabSpec, n: number, both: (v4: string, v6: string) => string[]): NodePlan {
  const name = `worker-${n}`
  const rack = rackOf(spec, n)
  const host = NODE_OFFSET + n
  const v4 = `172.30.${rack}.${host}`
  return {
    name,
    index: n,
    namespace: `${spec.name}-${name}`,
    switch: `rack-${rack}`,
    // Readable in a capture: 02:00, then the four bytes of the node's IPv4 address (that it would have, where there is none).
    mac: macFromBytes(Uint8Array.of(2, 0, ...ipToBytes(parseIp(v4)))),
    underlay: both(v4, `fd00:30:${rack}::${host}`).map(locate),
    gateways: both(`172.30.${rack}.1`, `fd00:30:${rack}::1`).map(ipText),
    podCidrs: both(`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`).map(cidrText),
    pods: Array.from({ length: spec.podsPerNode }, (_, i) => planPod(spec, name, n, i + 1)),
  }
}

export function planPod(spec: LabSpec, node: string, n: number, i: number): PodPlan {
  const name = `pod-${n}-${i}`
  const namespace = `${spec.name}-${name}`
  return {
    name,
    node,
    namespace,
    containerId: createHash('sha256').update(`heddle-lab/${namespace}`).digest('hex'),
    ...(i === 1 ? { hostPort: HOST_PORT } : {}),
  }
}

/** In `routed` the first half of the nodes (rounded up) is in rack 1: from three nodes on, two of them share a subnet. */
export const rackOf = (spec: LabSpec, n: number): number =>
  spec.topology === 'routed' && n > Math.ceil(spec.nodes / 2) ? 2 : 1

export const locate = (text: string): Located => {
  const ip = ipText(text)
  return { ip, address: ipNetOf(ip, ip.includes(':') ? 64 : 24) }
}

export const podsOf = (plan: LabPlan): readonly PodPlan[] => plan.nodes.flatMap((node) => node.pods)

/** Every namespace of the lab, in the order in which they are made. */
export const namespacesOf = (plan: LabPlan): readonly string[] => [
  plan.fabric.namespace,
  plan.outside.namespace,
  ...(plan.cloud === undefined ? [] : [plan.cloud.router]),
  ...plan.nodes.flatMap((node) => [node.namespace, ...node.pods.map((pod) => pod.namespace)]),
]

/**
 * Whether agents clear the mark NetworkUnavailable of their Nodes. None does in a cloud, whose networks are there before the node is, nor with leases in etcd, where
 * agents know nothing of Nodes.
 */
export const hasMark = ({ cloud, spec }: LabPlan): boolean => cloud === undefined && spec.datastore === 'kubernetes'
