/** neutron-gc: removes what dead nodes left in the cloud, some in each round, each after two looks. */

import type { ClusterView } from './cluster-view.ts'
import type { ControllerMetrics } from './controller-metrics.ts'
import { planGc, type Leftover } from '#neutron/gc-plan.ts'
import { isServerPort } from '#neutron/servers.ts'
import { errorFields, type Log } from '#agent/log.ts'
import { ipText, type IpText } from '#ip/address.ts'
import type { IpNetText } from '#ip/prefix.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { isCode } from '#openstack/errors.ts'
import { MARK_KINDS, markOf, markText } from '#openstack/mark.ts'
import { deleteFloatingIp, getFloatingIp, listFloatingIps, pointFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { Ports, type Port } from '#openstack/neutron/port.ts'
import { Compute } from '#openstack/nova/compute.ts'
import type { Clock } from '#sys/clock.ts'

export interface GcOptions {
  readonly clusterName: string
  /** Objects that one round removes. */
  readonly limit: number
  /** Finds and tells, and removes nothing. */
  readonly dryRun: boolean
}

export interface GcControllerOptions extends GcOptions {
  readonly cluster: Pick<ClusterView, 'nodes' | 'nodesDoubt'>
  readonly client: OpenStackClient
  readonly metrics: ControllerMetrics
  readonly clock: Clock
  readonly log: Log
  readonly onState: (trouble: string | undefined) => void
}

/** How long one waits for Nova to let go of a card (ms); later rounds go on waiting. */
const DETACH = 30_000
const LOOK = 1_000

export class GcController {
  readonly #options: GcControllerOptions
  readonly #ports: Ports
  readonly #compute: Compute
  #doubted: ReadonlySet<string> = new Set()

  constructor(options: GcControllerOptions) {
    this.#options = options
    this.#ports = new Ports(options.client)
    this.#compute = new Compute(options.client)
  }

  /** Never asks for another round soon: leftovers have time. @throws OpenStackError */
  async round(isFull: boolean, signal: AbortSignal): Promise<boolean> {
    if (!isFull) return false
    const { client, cluster, clusterName, limit, dryRun, log, metrics, onState } = this.#options
    const project = await client.projectId({ signal })
    const ports = await this.#ports.list({ project }, { signal })
    const floating = (await listFloatingIps(client, {}, { signal })).filter((one) => one.project_id === project)
    const plan = planGc({
      cluster: clusterName,
      nodes: [...cluster.nodes.values()],
      isCertain: cluster.nodesDoubt === undefined,
      ports,
      floating,
      doubted: this.#doubted,
      limit,
    })
    this.#doubted = plan.doubted
    for (const kind of MARK_KINDS) {
      metrics.leftovers.set(plan.found.filter(({ mark }) => mark.kind === kind).length, { kind })
    }
    let failures = 0
    for (const one of plan.remove) {
      signal.throwIfAborted()
      const { kind, node } = one.mark
      if (dryRun) {
        log.info({ id: one.id, kind, node }, 'a dead node left this; a dry run removes nothing')
        continue
      }
      try {
        const isGone = await this.#remove(one, signal)
        if (!isGone) continue
        metrics.removed.add({ kind })
        log.info({ id: one.id, kind, node }, 'removed what a dead node left')
      } catch (error) {
        // The leader's time is over, or the service is: the others would fail too.
        if (signal.aborted || isCode(error, 'aborted', 'paused', 'unreachable', 'unauthorized')) throw error
        failures += 1
        metrics.removalFailures.add({ kind })
        log.warn({ id: one.id, kind, node, ...errorFields(error) }, 'a leftover could not be removed; tried again')
      }
    }
    onState(failures === 0 ? undefined : `${failures} leftovers of dead nodes could not be removed`)
    return false
  }

  /** False: it is another's by now, or it takes longer. */
  async #remove(leftover: Leftover, signal: AbortSignal): Promise<boolean> {
    const { client } = this.#options
    try {
      if (leftover.kind === 'floating-ip') {
        const now = await getFloatingIp(client, leftover.id, { signal })
        if (!isSame(leftover, now)) return false
        await deleteFloatingIp(client, leftover.id, { signal })
        return true
      }
      // The list is some moments old: what was given to somebody meanwhile stays.
      const port = await this.#ports.get(leftover.id, { signal })
      if (!isSame(leftover, port) || serverOf(port) !== leftover.server) return false
      for (const id of leftover.unpoint) {
        await ignoreMissing(async () => {
          const one = await getFloatingIp(client, id, { signal })
          if (one.port_id === port.id) await pointFloatingIp(client, id, undefined, { signal })
        })
      }
      await this.#freePairs(leftover, signal)
      if (leftover.server !== undefined && !(await this.#detach(leftover.server, port.id, signal))) return false
      await this.#ports.delete(port.id, { signal })
      return true
    } catch (error) {
      // Somebody else was faster.
      if (isCode(error, 'not-found')) return true
      throw error
    }
  }

  async #freePairs({ pairs }: Extract<Leftover, { kind: 'port' }>, signal: AbortSignal): Promise<void> {
    if (pairs === undefined) return
    await ignoreMissing(async () => {
      const keep = pairs.keep.map(({ ip_address, mac_address }) => ({
        // As people write a single address; reading gave it its length.
        ip_address: plainly(ip_address),
        ...(mac_address === undefined ? {} : { mac_address }),
      }))
      await this.#ports.update(pairs.port, { allowed_address_pairs: keep }, { revision: pairs.revision, signal })
    })
  }

  async #detach(server: string, port: string, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options
    try {
      if (!(await this.#compute.detach(server, port, { signal }))) return true
      const end = clock.now() + DETACH
      while (clock.now() < end) {
        if ((await this.#ports.get(port, { signal })).device_id !== server) return true
        await clock.sleep(LOOK, signal)
      }
      return false
    } catch (error) {
      // No such server: its ports are what is left of it. A cloud without Nova has no servers either.
      if (isCode(error, 'not-found', 'no-endpoint')) return true
      throw error
    }
  }
}

const serverOf = (port: Port): string | undefined => (isServerPort(port) ? port.device_id : undefined)

function isSame({ mark }: Leftover, now: Parameters<typeof markOf>[0]): boolean {
  const found = markOf(now)
  return found !== undefined && markText(found) === markText(mark)
}

async function ignoreMissing(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!isCode(error, 'not-found')) throw error
  }
}

/** Like `192.0.2.1` for `192.0.2.1/32`. */
const plainly = (net: IpNetText): IpNetText | IpText =>
  !net.includes(':') && net.endsWith('/32') ? ipText(net.slice(0, -3)) : net
