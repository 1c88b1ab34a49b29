/**
 * Which floating IP leads to which pod. Pure. What must hold: a floating IP that a pod of ours holds never leads to an address that is
 * another pod's, or nobody's. Neutron itself looks after nothing of that kind.
 */

import type { IpText } from '#ip/address.ts'
import { clusterTag, holderOf, markOf, UNNAMED_CLUSTER } from '#openstack/mark.ts'
import type { FloatingIp, Target } from '#openstack/neutron/floating-ip.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { namesOf, type NodeView } from './node-view.ts'
import { address4, type PodView } from './pod-view.ts'
import { serversOf } from './servers.ts'

export interface FloatingView {
  readonly cluster: string
  readonly pods: readonly PodView[]
  readonly nodes: ReadonlyMap<string, NodeView>
  readonly floating: readonly FloatingIp[]
  readonly ports: readonly Port[]
  /** Where `auto` takes them from. */
  readonly network: string | undefined
  /** Pods are known for certain. If not, nothing is taken from pods that are not seen. */
  readonly isCertain: boolean
  /** UIDs of pods that were seen to end in this life. */
  readonly ended: ReadonlySet<string>
  /** Ids of those whose pod was not seen in the round before. */
  readonly doubted: ReadonlySet<string>
  readonly isFull: boolean
}

export type FloatingStep =
  | { readonly do: 'unpoint'; readonly id: string; readonly why: string }
  /** After it leads nowhere: the holder's tags go, or, where it was made for the pod, all of it. */
  | { readonly do: 'give-back'; readonly id: string; readonly tags: readonly string[]; readonly isMade: boolean }
  | { readonly do: 'hold'; readonly id: string; readonly pod: PodView }
  | { readonly do: 'point'; readonly id: string; readonly pod: PodView; readonly target: Target }
  | { readonly do: 'make'; readonly network: string; readonly pod: PodView; readonly target: Target }

export type FloatingReason =
  | 'unreadable'
  | 'no-network'
  | 'no-such-address'
  | 'held-by-another-pod'
  | 'used-by-others'
  | 'not-ready'
  | 'no-port'
  | 'no-address'

/** What a pod that wants one is told. */
export interface FloatingState {
  readonly pod: PodView
  /** With neither this nor a reason, one is being made. */
  readonly address: IpText | undefined
  readonly reason: FloatingReason | undefined
}

export interface FloatingPlan {
  readonly steps: readonly FloatingStep[]
  readonly states: readonly FloatingState[]
  readonly doubted: ReadonlySet<string>
}

/** Older pods have their wish first: a newer one that names the same address must not take it away. */
const byAge = (a: PodView, b: PodView): number => a.created - b.created || (a.key < b.key ? -1 : 1)

/** The port that a pod's address is a fixed IP of: its node's, or a card or port that is its node's by the mark. */
export function portOf(
  address: IpText,
  node: NodeView | undefined,
  ports: readonly Port[],
  cluster: string,
): Port | undefined {
  if (node === undefined) return undefined
  const names = new Set(namesOf(node).map((name) => name.toLowerCase())).union(serversOf(node, ports))
  return ports.find((port) => {
    if (!port.fixed_ips.some((fixed) => fixed.ip_address === address)) return false
    const mark = markOf(port)
    if (mark?.cluster === cluster)
      return names.has(mark.node.toLowerCase()) && (mark.kind === 'pod' || mark.kind === 'nic')
    return mark === undefined && names.has(port.device_id.toLowerCase())
  })
}

export function planFloating(view: FloatingView): FloatingPlan {
  const { cluster } = view
  if (cluster === '' || cluster === UNNAMED_CLUSTER) return { steps: [], states: [], doubted: new Set() }
  const steps: FloatingStep[] = []
  const states: FloatingState[] = []
  const doubted = new Set<string>()
  const living = new Map(view.pods.filter(({ isOver }) => !isOver).map((pod) => [pod.uid, pod]))
  const given = new Map<string, PodView>()
  const heldBy = new Map<string, FloatingIp>()

  // What is held, by whom: does it still lead where it should?
  for (const one of view.floating) {
    const uid = holderOf(one, cluster)
    if (uid === undefined) continue
    const pod = living.get(uid)
    if (pod !== undefined && suits(one, pod) && !heldBy.has(uid)) {
      given.set(one.id, pod)
      heldBy.set(uid, one)
      const astray = strays(one, pod, view)
      if (astray !== undefined) steps.push({ do: 'unpoint', id: one.id, why: astray })
      continue
    }
    const isKnownOver = pod !== undefined || view.ended.has(uid) || view.pods.some((each) => each.uid === uid)
    if (isKnownOver || (view.isCertain && view.isFull && view.doubted.has(one.id)))
      steps.push(...release(one, cluster, uid))
    else {
      if (view.isFull || view.doubted.has(one.id)) doubted.add(one.id)
      const other = ownerOf(one, view)
      if (other !== undefined) steps.push({ do: 'unpoint', id: one.id, why: `its address is pod ${other.key}'s now` })
    }
  }

  for (const pod of [...living.values()].filter(({ floating }) => floating !== undefined).toSorted(byAge)) {
    const state = wishOf(pod, view, given, heldBy, steps)
    states.push({ pod, ...state })
  }
  return { steps, states, doubted }
}

/** True while a pod still wishes for what it holds. */
function suits(one: FloatingIp, pod: PodView): boolean {
  const wish = pod.floating
  if (wish === undefined || wish.kind === 'unreadable') return false
  if (wish.kind === 'address') return one.floating_ip_address === wish.address
  return markOf(one)?.kind === 'floating-ip' && (wish.network === undefined || wish.network === one.floating_network_id)
}

/** Why a floating IP leads where it should not, if it does. */
function strays(one: FloatingIp, pod: PodView, view: FloatingView): string | undefined {
  const { port_id: port, fixed_ip_address: fixed } = one
  if (port === undefined || fixed === undefined) return undefined
  if (fixed !== address4(pod)) return `pod ${pod.key} has another address`
  const found = portOf(fixed, view.nodes.get(pod.node), view.ports, view.cluster)
  // A port that is not seen is no proof: the list is some moments old.
  if (found === undefined) {
    const led = view.ports.find(({ id }) => id === port)
    const left = led !== undefined && !led.fixed_ips.some((ip) => ip.ip_address === fixed)
    return left ? `${fixed} has left its port` : undefined
  }
  return found.id === port ? undefined : `the address of pod ${pod.key} is on another port`
}

/** The pod that is seen to have the address a floating IP leads to. */
const ownerOf = (one: FloatingIp, view: FloatingView): PodView | undefined =>
  one.fixed_ip_address === undefined
    ? undefined
    : view.pods.find((pod) => !pod.isOver && address4(pod) === one.fixed_ip_address)

function release(one: FloatingIp, cluster: string, uid: string): readonly FloatingStep[] {
  const isMade = markOf(one) !== undefined
  const unpoint: FloatingStep = { do: 'unpoint', id: one.id, why: 'its pod is gone, or wants it no more' }
  const tags = one.tags.filter((tag) => tag === `heddle-cluster=${cluster}` || tag === `heddle-pod=${uid}`)
  const giveBack: FloatingStep = { do: 'give-back', id: one.id, tags, isMade }
  return one.port_id === undefined ? [giveBack] : [unpoint, giveBack]
}

type Outcome = Omit<FloatingState, 'pod'>

function wishOf(
  pod: PodView,
  view: FloatingView,
  given: Map<string, PodView>,
  heldBy: ReadonlyMap<string, FloatingIp>,
  steps: FloatingStep[],
): Outcome {
  const no = (reason: FloatingReason): Outcome => ({ address: undefined, reason })
  const wish = pod.floating
  if (wish === undefined || wish.kind === 'unreadable') return no('unreadable')
  const held = heldBy.get(pod.uid)
  const isBeingUnpointed = steps.some((step) => step.do === 'unpoint' && step.id === held?.id)
  if (held?.port_id !== undefined && !isBeingUnpointed) return { address: held.floating_ip_address, reason: undefined }
  const address = address4(pod)
  if (address === undefined) return no('no-address')
  if (!pod.isReady) return no('not-ready')
  const port = portOf(address, view.nodes.get(pod.node), view.ports, view.cluster)
  if (port === undefined) return no('no-port')
  const target: Target = { port: port.id, address }
  if (held !== undefined) {
    steps.push({ do: 'point', id: held.id, pod, target })
    return { address: held.floating_ip_address, reason: undefined }
  }
  if (wish.kind === 'auto') {
    const network = wish.network ?? view.network
    if (network === undefined) return no('no-network')
    steps.push({ do: 'make', network, pod, target })
    return { address: undefined, reason: undefined }
  }
  const named = view.floating.find((one) => one.floating_ip_address === wish.address)
  if (named === undefined) return no('no-such-address')
  const holder = holderOf(named, view.cluster)
  if (given.has(named.id) || (holder !== undefined && holder !== pod.uid)) return no('held-by-another-pod')
  // Whoever made it lead somewhere wants it there.
  const isElsewhere = named.tags.some((tag) => tag.startsWith(clusterTag('')) && tag !== clusterTag(view.cluster))
  if (named.port_id !== undefined || markOf(named) !== undefined || isElsewhere) return no('used-by-others')
  given.set(named.id, pod)
  steps.push({ do: 'hold', id: named.id, pod }, { do: 'point', id: named.id, pod, target })
  return { address: named.floating_ip_address, reason: undefined }
}
