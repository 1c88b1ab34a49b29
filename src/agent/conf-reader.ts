/** Reading the network configuration, with patience. */

import { setTimeout as delay } from 'node:timers/promises'

import { FlannelError } from '#flannel/errors.ts'
import { parseNetConf, type NetConf } from '#flannel/net-conf.ts'
import { CHECKS } from './checks.ts'
import type { Health } from './health.ts'
import { errorFields, type Log } from './log.ts'

/** So long (ms) the API server has before the last-known cluster is used instead. */
export const PATIENCE = 1_500

const RETRY = 2_000
const QUICK_RETRY = 300
const TIMEOUT = 10_000

export interface ConfReaderOptions {
  /** The text, from the datastore. */
  readonly read: (signal: AbortSignal) => Promise<string>
  /** Whether the extension backend may be used. */
  readonly allowExtension: boolean
  /** net-conf.json of a former life. */
  readonly lastKnown: string | undefined
  readonly health: Health
  readonly log: Log
  readonly signal: AbortSignal
}

export interface ReadConf {
  readonly text: string
  readonly conf: NetConf
}

/**
 * Tries until there is a configuration that can be used. The last-known one serves while the present one cannot be had; one that is there
 * and wrong is waited for, because whoever wrote it will want to see that. Throws the signal's reason.
 */
export async function readConf(options: ConfReaderOptions): Promise<ReadConf> {
  const { read, allowExtension, lastKnown, health, log, signal } = options
  const started = performance.now()
  const known = lastKnown === undefined ? undefined : usable(lastKnown, allowExtension)
  for (let said = ''; ;) {
    try {
      const text = await read(AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]))
      const conf = allowedConf(parseNetConf(text), allowExtension)
      health.pass(CHECKS.conf)
      return { text, conf }
    } catch (error) {
      signal.throwIfAborted()
      const { error: message, code } = errorFields(error)
      health.fail(CHECKS.conf, message)
      if (message !== said)
        log.error({ error: message, code }, 'the network configuration cannot be used; trying again')
      said = message
      const isAway = code !== 'bad-net-conf' && code !== 'unsupported-backend'
      if (isAway && known !== undefined && performance.now() - started > PATIENCE) {
        log.warn({}, 'using the last-known network configuration')
        health.pass(CHECKS.conf, 'last-known one; the present one cannot be read')
        return known
      }
    }
    await delay(known === undefined ? RETRY : QUICK_RETRY, undefined, { signal })
  }
}

/** Whoever may write the network configuration could run commands on every node: the node's own operator has to allow it. Throws FlannelError. */
export function allowedConf(conf: NetConf, allowExtension: boolean): NetConf {
  if (conf.backend.type !== 'extension' || allowExtension) return conf
  throw new FlannelError(
    'unsupported-backend',
    'Backend.Type',
    'network configuration: Backend.Type: "extension" runs commands that the configuration names, which is off',
    'start the agent with --allow-extension-commands, or take another backend',
  )
}

/** Undefined for one that this version cannot use any more. */
function usable(text: string, allowExtension: boolean): ReadConf | undefined {
  try {
    return { text, conf: allowedConf(parseNetConf(text), allowExtension) }
  } catch {
    return undefined
  }
}
