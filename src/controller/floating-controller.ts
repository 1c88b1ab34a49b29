/** Leads floating IPs to the pods that ask for them by annotation, and away again. */

import type { ClusterView } from './cluster-view.ts'
import type { ControllerMetrics } from './controller-metrics.ts'
import type { Reporter, Told } from './reporter.ts'
import { planFloating, type FloatingReason, type FloatingState, type FloatingStep } from '#neutron/floating-plan.ts'
import type { PodView } from '#neutron/pod-view.ts'
import { errorFields, type Log } from '#agent/log.ts'
import { KubeError } from '#kube/errors.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { isCode } from '#openstack/errors.ts'
import { holdTags, markTags, markText, type Mark } from '#openstack/mark.ts'
import { createFloatingIp, deleteFloatingIp, listFloatingIps, pointFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { Ports } from '#openstack/neutron/port.ts'
import { addTag, removeTag, setTags } from '#openstack/neutron/tag.ts'

export interface FloatingOptions {
  readonly clusterName: string
  /** Id of the external network of `auto`; without it `auto` has to name one. */
  readonly network: string | undefined
}

export interface FloatingControllerOptions extends FloatingOptions {
  readonly cluster: Pick<ClusterView, 'pods' | 'nodes' | 'doubt' | 'ended'>
  readonly client: OpenStackClient
  readonly reporter: Pick<Reporter, 'event' | 'floatingStatus'>
  readonly metrics: ControllerMetrics
  readonly log: Log
  readonly onState: (trouble: string | undefined) => void
}

const WHY: { readonly [reason in FloatingReason]: string } = {
  unreadable: 'the annotation heddle.io/floating-ip is neither an IPv4 address nor "auto" or "auto:NETWORK"',
  'no-network':
    'no external network is configured: write "auto:NETWORK", or start the controller with --floating-network',
  'no-such-address': 'the project has no floating IP with this address',
  'held-by-another-pod': 'another pod holds this floating IP',
  'used-by-others': 'this floating IP leads elsewhere already: free it first, or choose another',
  'not-ready': 'the pod is not ready yet',
  'no-port': 'its address is no fixed IP of a port of its node (address pairs can have no floating IP)',
  'no-address': 'the pod has no IPv4 address yet',
}
/** States that pass by themselves: no event for these. */
const PASSING: readonly FloatingReason[] = ['not-ready', 'no-address']

export class FloatingController {
  readonly #options: FloatingControllerOptions
  readonly #ports: Ports
  #doubted: ReadonlySet<string> = new Set()
  /** UIDs of pods for which something failed: again in the next regular round, and not with every change of a pod. */
  #failed = new Map<string, string>()

  constructor(options: FloatingControllerOptions) {
    this.#options = options
    this.#ports = new Ports(options.client)
  }

  /** True: look again soon. @throws OpenStackError, KubeError */
  async round(isFull: boolean, signal: AbortSignal): Promise<boolean> {
    const { client, cluster, clusterName, network, metrics, onState } = this.#options
    const { pods } = cluster
    const mine = (one: { readonly project_id: string }): boolean => one.project_id === project
    const project = await client.projectId({ signal })
    const floating = (await listFloatingIps(client, {}, { signal })).filter(mine)
    const wishing = pods.some((pod) => pod.floating !== undefined)
    const isHeld = floating.some(({ tags, description }) => tags.length > 0 || description.startsWith('heddle:'))
    const ports = wishing || isHeld ? await this.#ports.list({ project }, { signal }) : []
    const plan = planFloating({
      cluster: clusterName,
      pods,
      nodes: cluster.nodes,
      floating,
      ports,
      network,
      isCertain: cluster.doubt === undefined,
      ended: cluster.ended,
      doubted: this.#doubted,
      isFull,
    })
    this.#doubted = plan.doubted
    const failed = isFull ? new Map<string, string>() : this.#failed
    this.#failed = failed
    let done = 0
    /** What could not be led away is not given back, and what is not held is not led anywhere. */
    const stuck = new Set<string>()
    for (const step of plan.steps) {
      signal.throwIfAborted()
      if (step.do !== 'make' && stuck.has(step.id)) continue
      if ('pod' in step && failed.has(step.pod.uid)) continue
      try {
        await this.#do(step, signal)
        done += 1
        metrics.floatingChanges.add({ step: step.do })
      } catch (error) {
        if (signal.aborted || isCode(error, 'aborted', 'paused', 'unreachable', 'unauthorized')) throw error
        if (step.do !== 'make') stuck.add(step.id)
        if ('pod' in step) failed.set(step.pod.uid, errorFields(error).error)
        else failed.set(step.id, errorFields(error).error)
        this.#options.log.warn({ ...shownStep(step), ...errorFields(error) }, 'a floating IP could not be changed')
      }
    }
    const texts = plan.states.map(
      ({ pod, address, reason }) => reason ?? (address === undefined || failed.has(pod.uid) ? 'pending' : 'associated'),
    )
    metrics.floating.clear()
    for (const [state, all] of Map.groupBy(texts, (text) => text)) metrics.floating.set(all.length, { state })
    for (const state of plan.states) await this.#tell(state, failed.get(state.pod.uid), signal)
    const [first] = failed.values()
    onState(first === undefined ? undefined : `${failed.size} floating IPs could not be changed: ${first}`)
    // What failed waits for the next regular round; what was done may make room for others.
    return done > 0
  }

  async #do(step: FloatingStep, signal: AbortSignal): Promise<void> {
    const { client, clusterName, cluster, log } = this.#options
    switch (step.do) {
      case 'unpoint':
        await pointFloatingIp(client, step.id, undefined, { signal })
        break
      case 'give-back':
        if (step.isMade) await orMissing(deleteFloatingIp(client, step.id, { signal }))
        else for (const tag of step.tags) await orMissing(removeTag(client, 'floatingips', step.id, tag, { signal }))
        break
      case 'hold':
        for (const tag of holdTags(clusterName, step.pod.uid)) {
          await addTag(client, 'floatingips', step.id, tag, { signal })
        }
        break
      case 'point':
        await pointFloatingIp(client, step.id, step.target, { signal })
        break
      case 'make': {
        const node = cluster.nodes.get(step.pod.node)?.uid ?? step.pod.node
        const mark: Mark = { cluster: clusterName, kind: 'floating-ip', node, subject: step.pod.uid }
        // In one request, so that a kill leaves what its description tells; tags are for people.
        const wanted = { network: step.network, target: step.target, description: markText(mark) }
        const made = await createFloatingIp(client, wanted, { signal })
        await setTags(client, 'floatingips', made.id, markTags(mark), { signal })
        break
      }
      default:
        step satisfies never
    }
    log.info(shownStep(step), 'changed a floating IP')
  }

  async #tell(
    { pod, address, reason }: FloatingState,
    failure: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { reporter, log } = this.#options
    const isPending = reason === undefined && address === undefined
    if (isPending && failure === undefined) return
    const why = failure ?? (reason === undefined ? undefined : WHY[reason])
    const told: Told =
      why === undefined
        ? { type: 'Normal', reason: 'FloatingIPAssociated', message: `Floating IP ${address ?? ''} leads to this pod.` }
        : { type: 'Warning', reason: 'FloatingIPMissing', message: `No floating IP: ${why}.` }
    const status =
      why === undefined
        ? { state: 'associated', address }
        : { state: 'missing', reason: failure === undefined ? reason : 'refused' }
    try {
      const text = JSON.stringify(status)
      if (pod.floatingStatus === text) return
      await reporter.floatingStatus(pod, text, signal)
      if (reason === undefined || failure !== undefined || !PASSING.includes(reason)) {
        await reporter.event({ kind: 'Pod', pod }, told, signal)
      }
    } catch (error) {
      // The pod is gone, or another has its name by now.
      if (error instanceof KubeError && (error.code === 'not-found' || error.code === 'conflict')) return
      log.warn({ pod: pod.key, ...errorFields(error) }, 'a pod could not be told about its floating IP')
    }
  }
}

const shownStep = (step: FloatingStep): Readonly<Record<string, string>> => ({
  step: step.do,
  ...('id' in step ? { floatingIp: step.id } : { network: step.network }),
  ...('pod' in step ? podOf(step.pod) : {}),
  ...('target' in step ? { port: step.target.port, address: step.target.address } : {}),
  ...('why' in step ? { why: step.why } : {}),
})

const podOf = (pod: PodView): { readonly pod: string } => ({ pod: pod.key })

async function orMissing(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isCode(error, 'not-found')) throw error
  }
}
