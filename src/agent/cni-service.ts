/** The CNI socket of the agent, with its plugins, log and metrics. */

import { openHost } from '#cni/runtime/host.ts'
import { releaseEarlierBoots } from '#ipam/host-local/plugin.ts'
import { registry } from '#plugins/registry.ts'
import { nativeSys } from '#sys/addon.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { ChainsKeeper } from './chains-keeper.ts'
import { peerOf } from './cni/peer.ts'
import { startCniServer } from './cni/server.ts'
import type { Health } from './health.ts'
import { watchLeaks } from './leak-watch.ts'
import { errorFields, type Log } from './log.ts'
import type { AgentPaths } from './paths.ts'
import { keepProxies } from './proxy-keeper.ts'
import { RulesKeeper, type RulesKeeperOptions } from './rules-keeper.ts'

export const CNI_CHECK = 'cni-socket'

/** Running calls have so long (ms) to end when the agent stops. */
const GRACE = 5_000

export interface CniServiceOptions {
  /** Milliseconds between two looks for leftovers; 0 for none. */
  readonly leakInterval: number
}

/** Answers CNI calls until it is disposed. Throws CniError where another agent listens, or the path cannot be used. */
export async function openCniService(
  paths: AgentPaths,
  metrics: AgentMetrics,
  health: Health,
  log: Log,
  options: CniServiceOptions,
): Promise<AsyncDisposable> {
  health.expect(CNI_CHECK, 'required', 'not listening yet')
  const host = openHost({
    root: paths.root,
    log: (level, message, fields) => log[level](fields ?? {}, message),
  })
  await releaseEarlierBoots(host).catch((error: unknown) =>
    log.warn(
      errorFields(error),
      'addresses of an earlier boot cannot be released; the first call of each network tries again',
    ),
  )
  try {
    const server = await startCniServer({
      socketPath: paths.cniSocket,
      registry,
      host,
      peerOf: peerOf(nativeSys()),
      onCall: ({ type, verb, exitCode, milliseconds }) => {
        const labels = { verb, type, result: exitCode === 0 ? 'success' : 'error' }
        metrics.cniDuration.observe(milliseconds / 1000, labels)
        if (exitCode !== 0) metrics.cniErrors.add({ verb, type })
      },
    })
    health.pass(CNI_CHECK)
    const { leakInterval: interval } = options
    const leaks = interval === 0 ? undefined : watchLeaks({ host, registry, server, metrics, log, interval })
    log.info({ socket: paths.cniSocket, plugins: [...registry.keys()] }, 'answering CNI calls')
    const rules = keepRules({ host, metrics, log })
    const proxies = keepProxies({ host, metrics, log })
    return {
      [Symbol.asyncDispose]: async () => {
        for (const keeper of [...rules, proxies]) await keeper[Symbol.asyncDispose]()
        await leaks?.[Symbol.asyncDispose]()
        await server.close(GRACE)
        host[Symbol.dispose]()
      },
    }
  } catch (error) {
    host[Symbol.dispose]()
    throw error
  }
}

/** Without nf_tables, or the right to use it, pods are served all the same. */
function keepRules(options: RulesKeeperOptions): readonly AsyncDisposable[] {
  const keepers: AsyncDisposable[] = []
  try {
    keepers.push(new RulesKeeper(options))
    keepers.push(new ChainsKeeper(options))
  } catch (error) {
    options.log.warn(errorFields(error), "changes of nftables are not heard of: attachments' rules are not put back")
  }
  return keepers
}
