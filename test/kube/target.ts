import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadKubeConfig } from '#kube/config.ts'
import type { ClusterConfig } from '#kube/config.ts'
import type { Json } from '#kube/json.ts'
import { startApiServer } from '#kube/server/server.ts'
import type { ApiServer } from '#kube/server/server.ts'
import { Transport } from '#kube/transport.ts'

/** An answer as it came. */
export interface Answer {
  readonly status: number
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined }
  readonly text: string
  readonly body: Json
}

/** What a request may have beside method and path. */
export interface Ask {
  readonly body?: unknown
  readonly type?: string
  readonly accept?: string
  readonly timeout?: number
}

/** An API server that the suite runs against. */
export interface Target {
  readonly name: string
  /** Present for the embedded server only: what it alone promises is tested where this is set. */
  readonly embedded: ApiServer | undefined
  readonly config: ClusterConfig
  ask(method: string, path: string, ask?: Ask): Promise<Answer>
  close(): Promise<void>
}

/** A configuration for a plain URL. */
export function plainConfig(url: string, token?: string): ClusterConfig {
  return {
    server: new URL(url),
    tls: () => ({ rejectUnauthorized: false }),
    token: token === undefined ? undefined : { read: () => token, refresh: () => false },
    basic: undefined,
    namespace: 'default',
  }
}

function parse(text: string): Json {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function targetOf(
  name: string,
  config: ClusterConfig,
  embedded: ApiServer | undefined,
  close: () => Promise<void>,
): Target {
  const transport = new Transport(config, 'heddle-conformance')
  return {
    name,
    embedded,
    config,
    async ask(method, path, ask = {}) {
      const body =
        ask.body === undefined ? undefined : typeof ask.body === 'string' ? ask.body : JSON.stringify(ask.body)
      const response = await transport.send({
        method,
        path,
        accept: ask.accept ?? 'application/json',
        object: `${method} ${path}`,
        signal: AbortSignal.timeout(ask.timeout ?? 15_000),
        ...(body === undefined ? {} : { body, contentType: ask.type ?? 'application/json' }),
      })
      let text = ''
      for await (const chunk of response) text += String(chunk)
      return { status: response.statusCode ?? 0, headers: response.headers, text, body: parse(text) }
    },
    async close() {
      transport[Symbol.dispose]()
      await close()
    },
  }
}

/** The embedded server. */
export async function embeddedTarget(): Promise<Target> {
  const server = await startApiServer()
  return targetOf('embedded', plainConfig(server.urls[0] ?? ''), server, () => server.close())
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.on('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      probe.close(() => resolve(port))
    })
  })

function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}

/** kube-apiserver and etcd from a folder, as controller-runtime's envtest starts them. */
async function envtestTarget(assets: string): Promise<Target> {
  const dir = mkdtempSync(join(tmpdir(), 'heddle-envtest-'))
  const [client, peer, secure] = [await freePort(), await freePort(), await freePort()]
  const token = randomBytes(16).toString('hex')
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  writeFileSync(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  writeFileSync(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
  writeFileSync(join(dir, 'tokens.csv'), `${token},admin,admin,system:masters\n`, { mode: 0o600 })
  const etcdUrl = `http://127.0.0.1:${client}`
  const etcd = spawn(
    join(assets, 'etcd'),
    [
      `--data-dir=${join(dir, 'etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      '--unsafe-no-fsync',
    ],
    { stdio: 'ignore' },
  )
  const apiserver = spawn(
    join(assets, 'kube-apiserver'),
    [
      `--etcd-servers=${etcdUrl}`,
      `--cert-dir=${dir}`,
      `--secure-port=${secure}`,
      '--bind-address=127.0.0.1',
      '--authorization-mode=RBAC',
      `--token-auth-file=${join(dir, 'tokens.csv')}`,
      '--service-account-issuer=https://127.0.0.1/',
      `--service-account-key-file=${join(dir, 'sa.pub')}`,
      `--service-account-signing-key-file=${join(dir, 'sa.key')}`,
      '--disable-admission-plugins=ServiceAccount',
      '--service-cluster-ip-range=10.96.0.0/16',
    ],
    { stdio: 'ignore' },
  )
  const close = async (): Promise<void> => {
    await Promise.all([stop(apiserver), stop(etcd)])
    rmSync(dir, { recursive: true, force: true })
  }
  const target = targetOf('kube-apiserver', plainConfig(`https://127.0.0.1:${secure}`, token), undefined, close)
  const end = performance.now() + 120_000
  for (;;) {
    const ready = await target.ask('GET', '/readyz').catch(() => undefined)
    if (ready?.status === 200) return target
    if (performance.now() > end || apiserver.exitCode !== null) {
      await target.close()
      throw new Error(`kube-apiserver in ${assets} did not become ready`)
    }
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
}

/** A real API server, where the environment names one; otherwise the reason why there is none. */
export function realTarget(
  env: NodeJS.ProcessEnv = process.env,
): { readonly start: () => Promise<Target> } | { readonly skip: string } {
  const kubeconfig = env['HEDDLE_TEST_KUBECONFIG'] ?? ''
  if (kubeconfig !== '') {
    const start = (): Promise<Target> => {
      const config = loadKubeConfig({ file: kubeconfig })
      return Promise.resolve(targetOf(kubeconfig, config, undefined, () => Promise.resolve()))
    }
    return { start }
  }
  const assets = env['KUBEBUILDER_ASSETS'] ?? ''
  if (assets === '')
    return {
      skip: 'no real kube-apiserver: set KUBEBUILDER_ASSETS (folder of etcd and kube-apiserver) or HEDDLE_TEST_KUBECONFIG',
    }
  for (const program of ['etcd', 'kube-apiserver']) {
    try {
      accessSync(join(assets, program), constants.X_OK)
    } catch {
      return { skip: `KUBEBUILDER_ASSETS=${assets} holds no executable ${program}` }
    }
  }
  return { start: () => envtestTarget(assets) }
}

/** The kubectl programs on this machine, by version; the reason where there is none. */
export function findKubectl(): readonly string[] {
  const candidates = [process.env['HEDDLE_TEST_KUBECTL'] ?? '', 'kubectl'].filter((name) => name !== '')
  return candidates.filter((name) => {
    try {
      execFileSync(name, ['version', '--client'], { stdio: 'ignore', timeout: 20_000 })
      return true
    } catch {
      return false
    }
  })
}
