/** Real agents and what they need of a cluster: an API server that they can reach, and Nodes in it. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Json } from '#kube/json.ts'
import { startApiServer, type ApiServer } from '#kube/server/server.ts'
import { listenTcp } from '#lab/check/responder.ts'
import type { IpText } from '#ip/text.ts'
import type { Bed, Namespace, Started } from './bed.ts'
import { heddle } from './paths.ts'

const PORT = 6443

export interface Api {
  readonly url: string
  readonly server: ApiServer
  /** Like `kubectl create` of a Node. */
  createNode(name: string, node: { readonly [key: string]: Json }): void
}

/** An API server in the bench's own process that listens in a node's namespace. Close `server`. */
export async function serveApi(netns: Namespace, ip: IpText): Promise<Api> {
  const server = await startApiServer({ listen: [{ fd: listenTcp(netns.path, { ip, port: PORT }, 4) }] })
  const type = server.api.registry.find('', 'v1', 'nodes')
  if (type === undefined) throw new Error('the API server knows no Nodes')
  return {
    url: `http://${ip}:${PORT}`,
    server,
    createNode: (name, node) =>
      void server.api.create({ type, namespace: undefined, name }, { apiVersion: 'v1', kind: 'Node', ...node }),
  }
}

export interface AgentOptions {
  readonly node: string
  readonly api: Api
  /** Everything of the agent's lies below. */
  readonly root: string
  readonly netConf: object
}

/** Starts `heddle agent` on a node. It lives as long as the bed. */
export function startAgent(bed: Bed, netns: Namespace, { node, api, root, netConf }: AgentOptions): Started {
  mkdirSync(root, { recursive: true })
  const file = join(root, 'net-conf.json')
  writeFileSync(file, JSON.stringify(netConf))
  return bed.start(
    netns,
    heddle,
    [
      'agent',
      ['--node-name', node],
      ['--kube-api-url', api.url],
      ['--net-config-path', file],
      ['--root', root],
      ['--socket', socketOf(root)],
      ['--iface', 'eth0'],
      ['--log-level', 'warn'],
    ].flat(),
    // A relay outlives its agent, but not the bench.
    { HEDDLE_RELAY_LINGER_MS: '10000' },
  )
}

export const socketOf = (root: string): string => join(root, 'cni.sock')
export const subnetFileOf = (root: string): string => join(root, 'run', 'flannel', 'subnet.env')
