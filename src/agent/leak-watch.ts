/** The agent's leak finder: looks every minute, with log lines and metrics. */

import type { HostBase } from '#cni/runtime/delegate.ts'
import type { PluginRegistry } from '#cni/runtime/find.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import type { CniServer } from './cni/server.ts'
import { LeakFinder } from './leaks/finder.ts'
import { judge, type Leftover } from './leaks/judge.ts'
import { observeLeaks } from './leaks/observe.ts'
import { removeLeftover } from './leaks/remove.ts'
import { errorFields, type Log } from './log.ts'

export interface LeakWatchOptions {
  readonly host: HostBase
  readonly registry: PluginRegistry
  readonly server: Pick<CniServer, 'alone' | 'busy'>
  readonly metrics: AgentMetrics
  readonly log: Log
  /** Milliseconds between the end of a look and the next one. */
  readonly interval: number
}

const KINDS = ['attachment', 'rules', 'link', 'proxy', 'file'] as const

/** Looks until it is disposed; disposing waits for the look that runs. */
export function watchLeaks({ host, registry, server, metrics, log, interval }: LeakWatchOptions): AsyncDisposable {
  const fieldsOf = ({ kind, owner, object, reason, detail }: Leftover) => ({
    kind,
    network: owner?.network,
    container: owner?.containerId,
    ifname: owner?.ifname,
    object,
    reason,
    detail,
  })
  const finder = new LeakFinder({
    look: async () => judge(await observeLeaks({ host, busy: server.busy })),
    remove: (leftover) => removeLeftover(leftover, { host, registry, alone: server.alone }),
    onFound: (leftover) =>
      log.info(fieldsOf(leftover), 'found what an attachment left; it goes if it is still there next time'),
    onRemoved: (leftover) => {
      metrics.leaksRemoved.add({ kind: leftover.kind })
      log.warn(fieldsOf(leftover), 'removed what an attachment left')
    },
    onFailure: (leftover, error) => {
      metrics.leakFailures.add({ kind: leftover.kind })
      log.warn(
        { ...fieldsOf(leftover), ...errorFields(error) },
        'what an attachment left cannot be removed; trying again',
      )
    },
  })
  const look = async (): Promise<void> => {
    try {
      const { leftovers, removed } = await finder.round()
      const gone = new Set(removed)
      for (const kind of KINDS)
        metrics.leaks.set(leftovers.filter((one) => one.kind === kind && !gone.has(one)).length, { kind })
    } catch (error) {
      log.warn(errorFields(error), 'looking for what attachments left failed; trying again')
    }
  }
  let ended = false
  let running: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  const arm = (): void => {
    timer = setTimeout(() => {
      running = look().finally(() => {
        running = undefined
        if (!ended) arm()
      })
    }, interval).unref()
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
