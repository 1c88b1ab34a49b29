/** What the API server says of the nodes, and of the time. */

import { annotationKeys, DEFAULT_PREFIX } from '#flannel/annotations.ts'
import { nodeView } from '#flannel/node-view.ts'
import type { ClusterConfig } from '#kube/config.ts'
import { KubeClient } from '#kube/client.ts'
import { listAll } from '#kube/list.ts'
import { nodes } from '#kube/resources.ts'
import { Transport } from '#kube/transport.ts'
import type { Cluster } from '../facts.ts'

const TIMEOUT = 5_000

/** Nodes and clock; a text says why they cannot be had. */
export async function readCluster(config: () => ClusterConfig, node: string | undefined): Promise<Cluster | string> {
  try {
    const found = config()
    using client = new KubeClient(found, { timeout: TIMEOUT, userAgent: 'heddle-doctor' })
    const keys = annotationKeys(DEFAULT_PREFIX)
    const { items } = await listAll(client, nodes, (item) => nodeView(item, keys), { timeout: TIMEOUT })
    return { node, nodes: items, ahead: await clockAhead(found) }
  } catch (error) {
    return `the API server says nothing: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** Milliseconds by which this clock is ahead, to the second, by the Date of an HTTP answer. */
async function clockAhead(config: ClusterConfig): Promise<number | undefined> {
  using transport = new Transport(config, 'heddle-doctor')
  const signal = AbortSignal.timeout(TIMEOUT)
  const before = Date.now()
  const answer = await transport.send({
    method: 'GET',
    path: '/version',
    accept: 'application/json',
    signal,
    object: 'GET /version',
  })
  const after = Date.now()
  answer.resume()
  const told = Date.parse(answer.headers.date ?? '')
  // The header has whole seconds: within that one the clocks agree.
  if (Number.isNaN(told)) return undefined
  const [least, most] = [before - (told + 1000), after - told]
  return least > 0 ? least : most < 0 ? most : 0
}
