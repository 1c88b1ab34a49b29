/** Tells of entries that two parts of the agent want to be different things, and who put an entry where it is. */

import type { Claim, Conflict } from '#state/contributions.ts'
import type { Reconciler } from '#state/reconciler.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import type { Pages } from './health-server.ts'
import type { Log } from './log.ts'

export interface StateReportOptions {
  readonly state: Pick<Reconciler, 'conflicts' | 'explain'>
  readonly pages: Pages
  readonly metrics: AgentMetrics
  readonly log: Log
  /** Milliseconds between two looks; 30 s unless told otherwise. */
  readonly interval?: number
}

/** So many are logged, told by a page, in one go. */
const SHOWN = 100

/** Until it is disposed: a gauge, a log line for each conflict that is new, and the pages /conflicts and /explain?entry=KEY. */
export function reportState({ state, pages, metrics, log, interval = 30_000 }: StateReportOptions): Disposable {
  let known: ReadonlySet<string> = new Set()
  const look = (): void => {
    const found = state.conflicts()
    metrics.conflicts.set(found.length)
    for (const conflict of found.filter((one) => !known.has(nameOf(one))).slice(0, SHOWN))
      log.warn(told(conflict), 'two parts want one entry to be different things; the first keeps it')
    known = new Set(found.map(nameOf))
  }
  const timer = setInterval(look, interval).unref()
  const collector = metrics.registry.onCollect(() => metrics.conflicts.set(state.conflicts().length))
  pages.set('/conflicts', () => state.conflicts().slice(0, SHOWN).map(told))
  pages.set('/explain', (query) => state.explain((query.get('entry') ?? '').slice(0, 1024)).map(claimed))
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      collector[Symbol.dispose]()
      pages.clear()
    },
  }
}

const nameOf = ({ key, kept, refused }: Conflict): string => `${key} ${kept.source} ${refused.source}`

const told = ({ key, kept, refused }: Conflict) => ({ entry: key, kept: claimed(kept), refused: claimed(refused) })

const claimed = ({ source, desired: { entry, origin } }: Claim) => ({ source, ...origin, wants: entry })
