/** Neutron as this node asks it: at its pace, with its deadlines, and counted. */

import type { Clock } from '#sys/clock.ts'
import { OpenStackClient, type Attempt, type CallOptions } from '#openstack/client.ts'
import { loadCloud } from '#openstack/clouds-file.ts'
import type { CloudConfig } from '#openstack/config.ts'
import { Ports } from '#openstack/neutron/port.ts'
import type { NeutronConf } from './config.ts'
import { Throttle } from './throttle.ts'

export interface CloudApi extends Disposable {
  readonly client: OpenStackClient
  readonly ports: Ports
  /** Before each request. The options bound the request. Rejects when the daemon ends. */
  turn(): Promise<CallOptions>
}

export interface CloudApiOptions {
  readonly conf: Pick<NeutronConf, 'api' | 'cloudsFile' | 'cloud'>
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Instead of what clouds.yaml says. */
  readonly config?: CloudConfig | undefined
  readonly onAttempt?: ((attempt: Attempt) => void) | undefined
}

/** One attempt: a second one of a PUT whose first was carried out without an answer would hide what it brought. Whoever asks tries again by himself. */
const RETRY = { attempts: 1, baseMs: 1, capMs: 1 }

/** Throws OpenStackError `config`. */
export function openCloud({ conf, clock, signal, config, onAttempt }: CloudApiOptions): CloudApi {
  const { cloudsFile: file, cloud, api } = conf
  const from = { ...(file === undefined ? {} : { file }), ...(cloud === undefined ? {} : { cloud }) }
  const client = new OpenStackClient(config ?? loadCloud(from), {
    timeoutMs: api.timeoutMs * 2,
    attemptMs: api.timeoutMs,
    retry: RETRY,
    userAgent: 'heddle-neutron-ipam',
    clock,
    ...(onAttempt === undefined ? {} : { onAttempt }),
  })
  const throttle = new Throttle(clock, api.qps, api.burst)
  return {
    client,
    ports: new Ports(client),
    turn: async () => {
      await throttle.take(signal)
      return { signal }
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  }
}
