/** The Kubernetes side of the agent: which API server, the network configuration, the own Node's status. */

import { readFile } from 'node:fs/promises'

import type { KubeClient } from '#kube/client.ts'
import type { ClusterConfig } from '#kube/config.ts'
import { KubeError } from '#kube/errors.ts'
import { defaultConfig } from '#kube/in-cluster.ts'
import { configMaps, nodes } from '#kube/resources.ts'
import { FlannelError, shown } from '#flannel/errors.ts'
import { errorFields } from './log.ts'
import type { NodeStatusApi } from './own-node.ts'
import type { NetConfSource } from './options.ts'

/** Where the API server is: a kubeconfig, the pod's service account, or a bare URL. Throws KubeError `config` or FlannelError `bad-option`. */
export function clusterConfig(kubeconfig: string | undefined, url: string | undefined): ClusterConfig {
  if (url !== undefined && kubeconfig === undefined && process.env['KUBERNETES_SERVICE_HOST'] === undefined)
    return bareConfig(url)
  const config = defaultConfig(kubeconfig === undefined ? {} : { file: kubeconfig })
  return url === undefined ? config : { ...config, server: serverUrl(url) }
}

/** For API servers that ask for nothing, as in a lab. */
const bareConfig = (url: string): ClusterConfig => ({
  server: serverUrl(url),
  tls: () => ({ rejectUnauthorized: true }),
  token: undefined,
  basic: undefined,
  namespace: 'default',
})

function serverUrl(text: string): URL {
  const url = URL.parse(text)
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:')) return url
  throw new FlannelError(
    'bad-option',
    'kube-api-url',
    `--kube-api-url is ${shown(text)}`,
    'it must be an http or https URL',
  )
}

/** Requests of the own Node's status; a request that takes longer is tried again. */
const PATCH_TIMEOUT = 10_000

/** `client` is asked for with each request. */
export const nodeStatusApi = (client: () => KubeClient): NodeStatusApi => ({
  patchStatus: async (name, patch, signal) => {
    await client().patch(
      nodes,
      { name },
      { type: 'strategic', body: patch },
      { subresource: 'status', timeout: PATCH_TIMEOUT, signal },
    )
  },
})

const KEY = 'net-conf.json'

/** Where flannel's manifests of different ages put the ConfigMap. */
const USUAL_CONFIGMAPS = [
  { namespace: 'kube-flannel', name: 'kube-flannel-cfg' },
  { namespace: 'kube-system', name: 'kube-flannel-cfg' },
] as const

/** The text of net-conf.json. Throws FlannelError, KubeError or an error of the file system. */
export async function readNetConf(source: NetConfSource, client: KubeClient, signal: AbortSignal): Promise<string> {
  switch (source.from) {
    case 'file':
      return readFile(source.path, 'utf8')
    case 'configmap':
      return fromConfigMap(client, source, signal)
    case 'usual':
      return (await fileIfThere(source.path)) ?? fromUsualConfigMaps(client, source.path, signal)
    default:
      return source satisfies never
  }
}

async function fileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errorFields(error).code === 'ENOENT') return undefined
    throw error
  }
}

async function fromUsualConfigMaps(client: KubeClient, path: string, signal: AbortSignal): Promise<string> {
  for (const ref of USUAL_CONFIGMAPS) {
    try {
      return await fromConfigMap(client, ref, signal)
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 'not-found') throw error
    }
  }
  const places = USUAL_CONFIGMAPS.map(({ namespace, name }) => `ConfigMap ${namespace}/${name}`).join(', ')
  throw new FlannelError(
    'bad-net-conf',
    KEY,
    `there is no network configuration: neither ${path} nor ${places}`,
    'mount one, create one, or say where it is with --net-config-path or --net-config-map',
  )
}

interface ConfigMapRef {
  readonly namespace: string
  readonly name: string
}

async function fromConfigMap(
  client: KubeClient,
  { namespace, name }: ConfigMapRef,
  signal: AbortSignal,
): Promise<string> {
  const { data } = await client.get(configMaps, { namespace, name }, { signal, timeout: PATCH_TIMEOUT })
  const text: unknown = data?.[KEY]
  if (typeof text === 'string') return text
  throw new FlannelError(
    'bad-net-conf',
    KEY,
    `ConfigMap ${namespace}/${name} has no key ${KEY}`,
    'write the network configuration under that key',
  )
}
