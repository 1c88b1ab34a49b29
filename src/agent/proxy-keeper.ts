/** Keeps the node's card answering for the pods of neutron-veth, whoever or whatever makes the kernel forget them. */

import type { HostBase } from '#cni/runtime/delegate.ts'
import { ProxyRestorer } from '#plugins/neutron-veth/restore.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { errorFields, type Log } from './log.ts'

/** The kernel sends no events for proxy neighbours. */
const LOOK_MS = 2_000
/** After something went wrong, ± 25 %. */
const AGAIN_MS = 10_000
/** Addresses in one line of the log. */
const SHOWN = 16

export interface ProxyKeeperOptions {
  readonly host: HostBase
  readonly metrics: Pick<AgentMetrics, 'rulesRestored'>
  readonly log: Log
  /** Milliseconds between two looks. */
  readonly interval?: number
}

/** Looks until it is disposed; disposing waits for the look that runs. */
export function keepProxies({ host, metrics, log, interval = LOOK_MS }: ProxyKeeperOptions): AsyncDisposable {
  const restorer = new ProxyRestorer(host)
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined
  let ended = false
  let pause = interval
  const look = async (): Promise<void> => {
    pause = interval
    try {
      const ips = await restorer.restore()
      if (ips.length === 0) return
      metrics.rulesRestored.add({ table: 'proxy neighbours' }, ips.length)
      log.warn(
        { addresses: ips.slice(0, SHOWN), count: ips.length },
        'the card answers for pods again that it had forgotten',
      )
    } catch (error) {
      pause = AGAIN_MS * (0.75 + Math.random() / 2)
      log.warn(errorFields(error), 'whether the card answers for all pods cannot be seen or mended; trying again')
    }
  }
  const arm = (): void => {
    timer = setTimeout(() => {
      running = look().finally(() => {
        running = undefined
        if (!ended) arm()
      })
    }, pause).unref()
  }
  arm()
  return {
    [Symbol.asyncDispose]: async () => {
      ended = true
      clearTimeout(timer)
      await running
    },
  }
}
