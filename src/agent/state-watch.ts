/** What the reconciler reports, as log lines, metrics and checks. */

import type { Operation } from '#state/diff.ts'
import { keyOf } from '#state/entry.ts'
import type { ReconcilerOptions } from '#state/reconciler.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { errorFields, type Log } from './log.ts'

type Hooks = Required<Pick<ReconcilerOptions, 'onSync' | 'onRepair' | 'onError'>>

/** Named in one log line; a flush of everything concerns thousands. */
const SHOWN = 5

/** `after` is called after each round. */
export function stateHooks(metrics: AgentMetrics, log: Log, after: () => void): Hooks {
  let repaired: Operation[] = []
  return {
    onRepair: (operation) => {
      metrics.repairs.add({ kind: operation.entry.kind })
      repaired.push(operation)
    },
    onSync: ({ operations, failures }, milliseconds) => {
      if (operations.length > 0) metrics.reconcileDuration.observe(milliseconds / 1000)
      for (const operation of operations) metrics.operations.add({ do: operation.do, kind: operation.entry.kind })
      for (const { operation } of failures) metrics.failures.add({ kind: operation.entry.kind })
      if (repaired.length > 0) {
        const entries = repaired.slice(0, SHOWN).map(({ entry }) => keyOf(entry))
        log.warn({ count: repaired.length, entries }, 'repaired what somebody else removed or changed')
        repaired = []
      }
      if (failures.length > 0) {
        const shown = failures
          .slice(0, SHOWN)
          .map(({ operation, error }) => `${operation.do} ${keyOf(operation.entry)}: ${error.message}`)
        log.warn({ count: failures.length, failures: shown }, 'the kernel refused changes; trying again')
      }
      if (operations.length > 0)
        log.debug({ operations: operations.length, failures: failures.length, milliseconds }, 'reconciled')
      after()
    },
    onError: (error) => log.error(errorFields(error), 'reading or changing the kernel failed as a whole; trying again'),
  }
}
