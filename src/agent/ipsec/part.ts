/** The part of an agent that tells charon of peers. */

import type { IpsecConf } from '#flannel/ipsec/conf.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { CHECKS } from '../checks.ts'
import type { Health } from '../health.ts'
import type { Log } from '../log.ts'
import { IpsecRunner } from './runner.ts'

export interface IpsecPartOptions {
  readonly conf: IpsecConf
  readonly socket: string
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
}

export function openIpsec({ conf, socket, metrics, health, log }: IpsecPartOptions): IpsecRunner {
  health.expect(CHECKS.ipsec, 'degraded', 'charon has not been told of peers yet')
  return new IpsecRunner({
    conf,
    socket,
    clock: systemClock,
    log,
    onChange: (step, outcome) => metrics.ipsecChanges.add({ step, outcome }),
    onState: (trouble) => (trouble === undefined ? health.pass(CHECKS.ipsec) : health.fail(CHECKS.ipsec, trouble)),
  })
}
