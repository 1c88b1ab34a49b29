/** What some backends need before anything can be planned: a key, kept on disk; the word of a command. */

import { setTimeout as delay } from 'node:timers/promises'

import type { Identity } from '#flannel/local.ts'
import type { NetConf } from '#flannel/net-conf.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { CHECKS } from './checks.ts'
import { preStartup } from './extension/part.ts'
import type { Health } from './health.ts'
import { errorFields, type Log } from './log.ts'
import { WireguardKeyFile, type KeyPlaces } from './wireguard-key-file.ts'

export interface IdentityOptions {
  readonly conf: NetConf
  readonly places: KeyPlaces
  /** Of the extension backend. */
  readonly journal: string
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
  readonly signal: AbortSignal
}

/** Undefined for backends without one. Tries until it can be had, and says why it cannot. Throws the signal's reason. */
export async function openIdentity(
  options: IdentityOptions,
  stack: AsyncDisposableStack,
): Promise<Identity | undefined> {
  const { conf, places, health, log, signal } = options
  if (conf.backend.type === 'extension') return preStartup({ ...options, conf: conf.backend }, signal)
  if (conf.backend.type !== 'wireguard') return undefined
  health.expect(CHECKS.key, 'degraded', 'not read yet')
  const onKept = (trouble: string | undefined): void =>
    trouble === undefined ? health.pass(CHECKS.key) : health.fail(CHECKS.key, trouble)
  for (let said = ''; ;) {
    try {
      return stack.use(await WireguardKeyFile.open({ places, log, onKept })).identity
    } catch (error) {
      const { error: message } = errorFields(error)
      health.fail(CHECKS.key, message)
      if (message !== said) log.error(errorFields(error), 'the WireGuard key cannot be read; trying again')
      said = message
    }
    await delay(RETRY, undefined, { signal })
  }
}

const RETRY = 2_000
