/** The extension backend's part of an agent: its commands before the first plan, and its runner afterwards. */

import type { ExtensionConf } from '#flannel/extension/conf.ts'
import type { ExtensionIdentity } from '#flannel/local.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { CHECKS } from '../checks.ts'
import type { Health } from '../health.ts'
import { errorFields, type Log } from '../log.ts'
import { runCommand } from './command.ts'
import { bootId, ExtensionJournal } from './journal.ts'
import { ExtensionRunner } from './runner.ts'

export interface ExtensionPartOptions {
  readonly conf: ExtensionConf
  readonly journal: string
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
}

/** Peers keep no longer text of an annotation, quotes and escapes included. */
const MAX_PUBLISHED = 512
const FIRST_RETRY = 1_000
const LONGEST_RETRY = 30_000

/** Runs PreStartupCommand until it succeeds. Throws the signal's reason. */
export async function preStartup(
  { conf, metrics, health, log }: ExtensionPartOptions,
  signal: AbortSignal,
): Promise<ExtensionIdentity> {
  health.expect(CHECKS.extension, 'required', 'its commands have not been run yet')
  health.expect(CHECKS.extensionPeers, 'degraded', 'no peer has been heard of yet')
  const { preStartup: line } = conf
  if (line === undefined) return { kind: 'extension', text: '' }
  for (let attempt = 0; ; attempt++) {
    try {
      const { output } = await runCommand(line, {}, '')
      if (JSON.stringify(output).length > MAX_PUBLISHED)
        throw new Error(
          `it printed ${output.length} characters, and a Node can tell its peers ${MAX_PUBLISHED} at most`,
        )
      metrics.extensionCommands.add({ command: 'PreStartupCommand', outcome: 'done' })
      return { kind: 'extension', text: output }
    } catch (error) {
      metrics.extensionCommands.add({ command: 'PreStartupCommand', outcome: 'failed' })
      health.fail(CHECKS.extension, `PreStartupCommand: ${errorFields(error).error}`)
      log.error({ program: line[0], ...errorFields(error) }, 'PreStartupCommand failed; trying again')
    }
    await systemClock.sleep(Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** Math.min(attempt, 10)), signal)
  }
}

export async function openExtension({
  conf,
  journal,
  metrics,
  health,
  log,
}: ExtensionPartOptions): Promise<ExtensionRunner> {
  return ExtensionRunner.open({
    conf,
    run: runCommand,
    journal: new ExtensionJournal(journal, await bootId()),
    clock: systemClock,
    log,
    onCommand: (command, outcome) => metrics.extensionCommands.add({ command, outcome }),
    onProgress(waiting) {
      if (waiting === undefined) health.fail(CHECKS.extension, 'PostStartupCommand has not succeeded yet')
      else health.pass(CHECKS.extension)
      if (waiting === 0) health.pass(CHECKS.extensionPeers)
      else health.fail(CHECKS.extensionPeers, `commands for ${waiting ?? 'all'} peers are still to succeed`)
    },
  })
}
