import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadKubeConfig, kubeConfigFiles } from './config.ts'
import type { ClusterConfig, KubeConfigOptions } from './config.ts'
import { fileText } from './credentials.ts'
import { KubeError } from './errors.ts'

/** Where Kubernetes mounts a pod's service account. */
export const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

type Environment = { readonly [name: string]: string | undefined }

/**
 * The configuration that every pod is given: the API server from the environment, token, CA and namespace from the
 * service account's folder. Token and CA are read again when they change.
 * @throws KubeError `config` outside of a pod.
 */
export function inClusterConfig(env: Environment = process.env, folder: string = SERVICE_ACCOUNT): ClusterConfig {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? ''
  const port = env['KUBERNETES_SERVICE_PORT'] ?? ''
  if (host === '' || port === '') {
    throw new KubeError(
      'config',
      'this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set (give a kubeconfig instead)',
    )
  }
  const server = URL.parse(`https://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`)
  if (server === null)
    throw new KubeError('config', `KUBERNETES_SERVICE_HOST "${host}" and KUBERNETES_SERVICE_PORT "${port}" make no URL`)
  const token = fileText(join(folder, 'token'))
  const ca = fileText(join(folder, 'ca.crt'))
  token.read()
  ca.read()
  let namespace = 'default'
  try {
    namespace = readFileSync(join(folder, 'namespace'), 'utf8').trim()
  } catch {
    // Not every token volume has it; nothing here depends on it.
  }
  return { server, tls: () => ({ rejectUnauthorized: true, ca: ca.read() }), token, basic: undefined, namespace }
}

/**
 * The configuration that is meant where none is named: a given kubeconfig or KUBECONFIG, then the pod's own, then
 * `~/.kube/config`.
 * @throws KubeError `config`
 */
export function defaultConfig(options: KubeConfigOptions = {}): ClusterConfig {
  const env = options.env ?? process.env
  const named = options.file !== undefined || (env['KUBECONFIG'] ?? '') !== ''
  if (!named && (env['KUBERNETES_SERVICE_HOST'] ?? '') !== '') return inClusterConfig(env)
  if (kubeConfigFiles(options).length > 0) return loadKubeConfig(options)
  throw new KubeError(
    'config',
    'no cluster to talk to: there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod',
  )
}
