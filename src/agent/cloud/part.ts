/** The part of an agent that keeps the route table of its cloud. */

import type { CloudName, Keys, OpenCloud } from '#cloud/client.ts'
import { openAliVpc } from '#cloud/ali-vpc.ts'
import { openAwsVpc } from '#cloud/aws-vpc.ts'
import { openGce } from '#cloud/gce.ts'
import { send } from '#cloud/http.ts'
import { openTencentVpc } from '#cloud/tencent-vpc.ts'
import type { CloudConf } from '#flannel/cloud/conf.ts'
import { systemClock } from '#sys/clock.ts'
import { Secret } from '#sys/secret.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { CHECKS } from '../checks.ts'
import type { Health } from '../health.ts'
import type { Log } from '../log.ts'
import { CloudJournal } from './journal.ts'
import { CloudRunner } from './runner.ts'

export interface CloudPartOptions {
  readonly conf: CloudConf
  readonly node: string
  readonly journal: string
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
  readonly env?: Readonly<Record<string, string | undefined>>
}

const OPEN: Readonly<Record<CloudName, OpenCloud>> = {
  gce: openGce,
  'ali-vpc': openAliVpc,
  'aws-vpc': openAwsVpc,
  'tencent-vpc': openTencentVpc,
}

export async function openCloudPart(options: CloudPartOptions): Promise<CloudRunner> {
  const { conf, node, metrics, health, log, env = process.env } = options
  health.expect(CHECKS.cloud, 'degraded', 'the route table has not been read yet')
  return CloudRunner.open({
    cloud: conf.type,
    open: (address, signal) =>
      OPEN[conf.type](
        {
          send,
          clock: systemClock,
          random: Math.random,
          node,
          address,
          keys: keysOf(conf, env),
          tables: conf.routeTables,
          metadata: url(env['HEDDLE_CLOUD_METADATA_URL']),
          api: url(env['HEDDLE_CLOUD_API_URL']),
        },
        signal,
      ),
    journal: new CloudJournal(options.journal),
    clock: systemClock,
    random: Math.random,
    log,
    onPass: (outcome) => metrics.cloudPasses.add({ outcome }),
    onChange: (step) => metrics.cloudChanges.add({ step }),
    onState: (trouble) => (trouble === undefined ? health.pass(CHECKS.cloud) : health.fail(CHECKS.cloud, trouble)),
  })
}

/** The configuration's, else the environment's; neither for those of the instance's role. Google's are always the instance's. */
function keysOf(
  { type, accessKeyId, accessKeySecret }: CloudConf,
  env: CloudPartOptions['env'] = {},
): Keys | undefined {
  if (type === 'gce') return undefined
  if (accessKeyId !== undefined && accessKeySecret !== undefined) return { id: accessKeyId, secret: accessKeySecret }
  const [id = '', secret = '', token = ''] =
    type === 'aws-vpc'
      ? [env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY'], env['AWS_SESSION_TOKEN']]
      : [env['ACCESS_KEY_ID'], env['ACCESS_KEY_SECRET']]
  if (id === '' || secret === '') return undefined
  return { id, secret: bytes(secret), ...(token === '' ? {} : { token: bytes(token) }) }
}

const bytes = (text: string): Secret => new Secret(Buffer.from(text))

const url = (text: string | undefined): string | undefined =>
  text === undefined || text === '' ? undefined : text.replace(/\/+$/, '')
