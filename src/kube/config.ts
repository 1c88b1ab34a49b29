import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import * as v from 'valibot'
import { parse as parseYaml } from 'yaml'
import { fileText } from './credentials.ts'
import type { TextSource } from './credentials.ts'
import { KubeError } from './errors.ts'

/** TLS material as `node:tls` takes it; read anew for each connection, because files are rotated. */
export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly servername?: string
  readonly rejectUnauthorized: boolean
}

/** How to reach an API server, and as whom. */
export interface ClusterConfig {
  /** Base URL; a path in it is kept (`https://host/k8s/clusters/x`). */
  readonly server: URL
  readonly tls: () => TlsMaterial
  /** Bearer token; undefined where there is none. */
  readonly token: TextSource | undefined
  readonly basic: { readonly username: string; readonly password: string } | undefined
  /** The namespace of the context. */
  readonly namespace: string
}

const text = v.optional(v.string())
const named = <T extends v.GenericSchema>(key: string, entry: T) =>
  v.optional(v.nullable(v.array(v.looseObject({ name: v.string(), [key]: v.optional(v.nullable(entry)) }))))

const Cluster = v.looseObject({
  server: text,
  'certificate-authority': text,
  'certificate-authority-data': text,
  'tls-server-name': text,
  'insecure-skip-tls-verify': v.optional(v.boolean()),
})
const User = v.looseObject({
  'client-certificate': text,
  'client-certificate-data': text,
  'client-key': text,
  'client-key-data': text,
  token: text,
  tokenFile: text,
  username: text,
  password: text,
  exec: v.optional(v.unknown()),
  'auth-provider': v.optional(v.unknown()),
})
const Context = v.looseObject({ cluster: text, user: text, namespace: text })
const KubeConfig = v.looseObject({
  'current-context': text,
  clusters: named('cluster', Cluster),
  users: named('user', User),
  contexts: named('context', Context),
})

type Parsed = v.InferOutput<typeof KubeConfig>

interface Entry<T> {
  readonly value: T
  /** The folder that relative paths start from. */
  readonly folder: string
}

const fail = (message: string, cause?: unknown): KubeError => new KubeError('config', message, { cause })

function parseFile(file: string): Parsed {
  let raw: unknown
  try {
    raw = parseYaml(readFileSync(file, 'utf8'), { maxAliasCount: 100 })
  } catch (error) {
    throw fail(`kubeconfig ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  const result = v.safeParse(KubeConfig, raw ?? {})
  if (result.success) return result.output
  const [issue] = result.issues
  throw fail(`kubeconfig ${file} is malformed at ${v.getDotPath(issue) ?? 'its root'}: ${issue.message}`)
}

/** Of several files the first that names an entry counts (as kubectl merges KUBECONFIG). */
function find<T>(
  files: readonly { readonly parsed: Parsed; readonly folder: string }[],
  list: 'clusters' | 'users' | 'contexts',
  key: string,
  schema: v.GenericSchema<unknown, T>,
  name: string,
): Entry<T> {
  for (const { parsed, folder } of files) {
    const entry = (parsed[list] ?? []).find((item) => item.name === name)
    if (entry !== undefined) return { value: v.parse(schema, entry[key] ?? {}), folder }
  }
  throw fail(
    `the kubeconfig has no ${key} "${name}": ${files.length === 0 ? 'no file was found' : 'add it, or choose another context'}`,
  )
}

/** Data in base64 wins over a file, as it does for kubectl. */
function material(data: string | undefined, file: string | undefined, folder: string): TextSource | undefined {
  if (data !== undefined && data !== '') {
    const decoded = Buffer.from(data, 'base64').toString('utf8')
    return { read: () => decoded, refresh: () => false }
  }
  return file === undefined || file === '' ? undefined : fileText(resolve(folder, file))
}

function parseServer(server: string | undefined, cluster: string): URL {
  if (server === undefined || server === '') throw fail(`cluster "${cluster}" in the kubeconfig has no server`)
  const url = URL.parse(server.includes('://') ? server : `http://${server}`)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw fail(`server "${server}" of cluster "${cluster}" is no http or https URL`)
  }
  return url
}

function tokenOf(user: v.InferOutput<typeof User>, folder: string): TextSource | undefined {
  const { token, tokenFile } = user
  if (tokenFile !== undefined && tokenFile !== '') return fileText(resolve(folder, tokenFile))
  return token === undefined || token === '' ? undefined : { read: () => token, refresh: () => false }
}

/** Where kubeconfigs are looked for, and which context is taken. */
export interface KubeConfigOptions {
  /** The file; default: `KUBECONFIG` (several, with `:` between them), then `~/.kube/config`. */
  readonly file?: string
  readonly context?: string
  readonly env?: { readonly [name: string]: string | undefined }
}

/** The kubeconfig files that exist. A file that was named must exist; of those in KUBECONFIG some may be missing. */
export function kubeConfigFiles(options: KubeConfigOptions = {}): readonly string[] {
  if (options.file !== undefined) return [options.file]
  const env = options.env ?? process.env
  const list = (env['KUBECONFIG'] ?? '').split(':').filter((file) => file !== '')
  const files = list.length > 0 ? list : [join(env['HOME'] ?? homedir(), '.kube', 'config')]
  return files.filter((file) => existsSync(file))
}

/**
 * Reads a kubeconfig: current or given context, certificates and keys from data or files, tokens from text or files.
 * @throws KubeError `config`, naming file and field. Exec and auth-provider plugins are refused: an agent must not
 * depend on a program that asks a person.
 */
export function loadKubeConfig(options: KubeConfigOptions = {}): ClusterConfig {
  const files = kubeConfigFiles(options).map((file) => ({ parsed: parseFile(file), folder: dirname(resolve(file)) }))
  const current =
    options.context ?? files.map(({ parsed }) => parsed['current-context'] ?? '').find((name) => name !== '')
  if (current === undefined)
    throw fail('the kubeconfig names no current-context: set one (kubectl config use-context NAME)')
  const context = find(files, 'contexts', 'context', Context, current).value
  const clusterName = context.cluster ?? ''
  const cluster = find(files, 'clusters', 'cluster', Cluster, clusterName)
  const user =
    context.user === undefined || context.user === ''
      ? { value: {}, folder: '' }
      : find(files, 'users', 'user', User, context.user)
  const account: v.InferOutput<typeof User> = user.value
  if (account.exec !== undefined || account['auth-provider'] !== undefined) {
    const what = account.exec === undefined ? 'an auth-provider' : 'an exec plugin'
    throw fail(
      `user "${context.user}" logs in by ${what}, which is not supported: use a token, a tokenFile or a client certificate`,
    )
  }
  const ca = material(
    cluster.value['certificate-authority-data'],
    cluster.value['certificate-authority'],
    cluster.folder,
  )
  const cert = material(account['client-certificate-data'], account['client-certificate'], user.folder)
  const key = material(account['client-key-data'], account['client-key'], user.folder)
  if ((cert === undefined) !== (key === undefined)) {
    throw fail(
      `user "${context.user}" has a client ${cert === undefined ? 'key without a certificate' : 'certificate without a key'}`,
    )
  }
  const insecure = cluster.value['insecure-skip-tls-verify'] === true
  if (insecure && ca !== undefined)
    throw fail(`cluster "${clusterName}" has a certificate-authority and insecure-skip-tls-verify: remove one of them`)
  const servername = cluster.value['tls-server-name']
  return {
    server: parseServer(cluster.value.server, clusterName),
    tls: () => ({
      rejectUnauthorized: !insecure,
      ...(ca === undefined ? {} : { ca: ca.read() }),
      ...(cert === undefined ? {} : { cert: cert.read() }),
      ...(key === undefined ? {} : { key: key.read() }),
      ...(servername === undefined ? {} : { servername }),
    }),
    token: tokenOf(account, user.folder),
    basic:
      account.username === undefined ? undefined : { username: account.username, password: account.password ?? '' },
    namespace: context.namespace ?? 'default',
  }
}
