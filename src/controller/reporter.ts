/** What the controller tells people in the API: events, a condition of Nodes, an annotation of Pods. Nothing of it decides anything. */

import { randomBytes } from 'node:crypto'

import type { KubeClient } from '#kube/client.ts'
import { events, nodes, pods } from '#kube/resources.ts'
import { FLOATING_IP_STATUS, ROUTES_CONDITION } from '#neutron/annotations.ts'
import type { NodeView } from '#neutron/node-view.ts'
import type { PodView } from '#neutron/pod-view.ts'
import { errorFields, type Log } from '#agent/log.ts'
import type { Clock } from '#sys/clock.ts'

export interface ReporterOptions {
  readonly client: KubeClient
  /** Who tells, `heddle-controller`. */
  readonly component: string
  readonly clock: Clock
  readonly log: Log
  readonly onEvent: (outcome: 'done' | 'failed' | 'dropped') => void
}

export interface Told {
  readonly type: 'Normal' | 'Warning'
  /** In CamelCase, as Kubernetes has it. */
  readonly reason: string
  readonly message: string
}

export type Subject =
  | { readonly kind: 'Pod'; readonly pod: PodView }
  | { readonly kind: 'Node'; readonly node: NodeView }

/** The same event about the same object is told again after so long (ms). */
const QUIET = 600_000
const MAX_REMEMBERED = 5_000
/** Events a minute; what is beyond is in the log alone. */
const PER_MINUTE = 60
const TIMEOUT = 10_000

const rfc3339 = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')

export class Reporter {
  readonly #options: ReporterOptions
  readonly #told = new Map<string, number>()
  #minute = 0
  #count = 0

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  /** Like `kubectl events`: writes one, unless the same was told a while ago. Never throws. */
  async event(subject: Subject, told: Told, signal: AbortSignal): Promise<void> {
    const { client, component, clock, log, onEvent } = this.#options
    const about = aboutOf(subject)
    const key = `${about.uid} ${told.reason} ${told.message}`
    const now = clock.now()
    const before = this.#told.get(key)
    if (before !== undefined && now - before < QUIET) return
    this.#remember(key, now)
    if (!this.#isAllowed(now)) {
      onEvent('dropped')
      log.warn({ object: about.name, ...told }, 'too many events: this one is only here')
      return
    }
    const time = rfc3339(clock.wall())
    // Events about what has no namespace lie in this one.
    const namespace = about.namespace ?? 'default'
    const involvedObject = { apiVersion: 'v1', kind: subject.kind, name: about.name, uid: about.uid }
    const body = {
      metadata: { name: `${about.name.slice(0, 200)}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: about.namespace === undefined ? involvedObject : { ...involvedObject, namespace },
      ...told,
      message: told.message.slice(0, 1_024),
      source: { component },
      reportingComponent: component,
      reportingInstance: component,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    }
    try {
      await client.create(events, body, { signal, timeout: TIMEOUT })
      onEvent('done')
    } catch (error) {
      onEvent('failed')
      log.warn({ object: about.name, reason: told.reason, ...errorFields(error) }, 'an event could not be written')
    }
  }

  /** The condition of a Node whose pods lack routes; written only where it differs. @throws KubeError */
  async routesMissing(node: NodeView, missing: number, signal: AbortSignal): Promise<void> {
    const isMissing = missing > 0
    if (node.routesMissing === isMissing || (node.routesMissing === undefined && !isMissing)) return
    const time = rfc3339(this.#options.clock.wall())
    const condition = {
      type: ROUTES_CONDITION,
      status: isMissing ? 'True' : 'False',
      reason: isMissing ? 'RoutesExhausted' : 'RoutesPresent',
      message: isMissing
        ? `the router has no room for ${missing} more routes to pods of this node: raise its limit, allow aggregation, or use strategy per-node`
        : 'the router has all routes to the pods of this node',
      lastHeartbeatTime: time,
      lastTransitionTime: time,
    }
    const body = { status: { conditions: [condition] } }
    const options = { subresource: 'status', timeout: TIMEOUT, signal } as const
    await this.#options.client.patch(nodes, { name: node.name }, { type: 'strategic', body }, options)
  }

  /** What became of a pod's wish. @throws KubeError */
  async floatingStatus(pod: PodView, text: string, signal: AbortSignal): Promise<void> {
    if (pod.floatingStatus === text) return
    const [namespace = '', name = ''] = pod.key.split('/')
    // The uid keeps it off a new pod of the same name.
    const body = { metadata: { uid: pod.uid, annotations: { [FLOATING_IP_STATUS]: text } } }
    const options = { subresource: 'status', timeout: TIMEOUT, signal } as const
    await this.#options.client.patch(pods, { namespace, name }, { type: 'merge', body }, options)
  }

  #remember(key: string, now: number): void {
    this.#told.delete(key)
    this.#told.set(key, now)
    if (this.#told.size <= MAX_REMEMBERED) return
    const [oldest] = this.#told.keys()
    if (oldest !== undefined) this.#told.delete(oldest)
  }

  #isAllowed(now: number): boolean {
    const minute = Math.floor(now / 60_000)
    if (minute !== this.#minute) {
      this.#minute = minute
      this.#count = 0
    }
    this.#count += 1
    return this.#count <= PER_MINUTE
  }
}

function aboutOf(subject: Subject): { readonly name: string; readonly uid: string; readonly namespace?: string } {
  if (subject.kind === 'Node') {
    return { name: subject.node.name, uid: subject.node.uid }
  }
  const [namespace = '', name = ''] = subject.pod.key.split('/')
  return { name, uid: subject.pod.uid, namespace }
}
