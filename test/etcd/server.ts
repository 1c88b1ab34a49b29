/** Debian's etcd for tests: one member, in a namespace or on this machine, killed with the test. */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

import { inNetns } from '#sys/netns.ts'
import { until } from '../agent/cluster.ts'
import { needsProgram } from '../namespace.ts'

export const needsEtcd = needsProgram('etcd', 'etcd-server')
/** The double of another node, and of an operator. */
export const needsEtcdctl = needsEtcd === false ? needsProgram('etcdctl', 'etcd-client') : needsEtcd

export interface EtcdShape {
  /** An empty folder. */
  readonly folder: string
  /** Name of a namespace; this machine's own when absent. */
  readonly ns?: string
  readonly host?: string
  readonly ports: readonly [client: number, peer: number]
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string; readonly clients: boolean }
  readonly flags?: readonly string[]
}

/** Two ports that are free now. */
export async function freePorts(): Promise<readonly [number, number]> {
  const one = async (): Promise<readonly [number, () => void]> => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return [address.port, () => server.close()]
  }
  const [[first, closeFirst], [second, closeSecond]] = [await one(), await one()]
  closeFirst()
  closeSecond()
  return [first, second]
}

export class EtcdServer implements AsyncDisposable {
  readonly url: string
  readonly #shape: EtcdShape
  #process: ChildProcess | undefined
  #log = ''

  constructor(shape: EtcdShape) {
    const { host = '127.0.0.1', ports, tls } = shape
    this.#shape = shape
    this.url = `${tls === undefined ? 'http' : 'https'}://${host}:${ports[0]}`
  }

  static async start(shape: EtcdShape): Promise<EtcdServer> {
    const server = new EtcdServer(shape)
    await server.start()
    return server
  }

  get #data(): string {
    return join(this.#shape.folder, 'data')
  }

  async start(): Promise<void> {
    const { ns, ports, tls, flags = [] } = this.#shape
    const peer = `http://127.0.0.1:${ports[1]}`
    mkdirSync(this.#shape.folder, { recursive: true })
    const args = [
      // Not even a test that is killed leaves it behind.
      '--pdeathsig=KILL',
      'etcd',
      '--name=one',
      `--data-dir=${this.#data}`,
      `--listen-client-urls=${this.url}`,
      `--advertise-client-urls=${this.url}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=one=${peer}`,
      ...(tls === undefined ? [] : ['--cert-file', tls.cert, '--key-file', tls.key, '--trusted-ca-file', tls.ca]),
      ...(tls?.clients === true ? ['--client-cert-auth'] : []),
      ...flags,
    ]
    const make = (): ChildProcess => spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const child = ns === undefined ? make() : inNetns(`/run/netns/${ns}`, make)
    this.#log = ''
    const hear = (text: Buffer): void => void (this.#log = `${this.#log}${text.toString()}`.slice(-20_000))
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    this.#process = child
    await until(
      'etcd serves',
      () => this.#log.includes('ready to serve client requests') || this.#log.slice(-300),
      20_000,
    )
  }

  signal(signal: NodeJS.Signals): void {
    const child = this.#process
    child?.kill(signal)
    if (child?.pid === undefined || signal !== 'SIGSTOP') return
    // One of its threads has to hear of it first, and may answer a request before.
    const deadline = performance.now() + 5_000
    while (!/^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8'))) {
      if (performance.now() > deadline) throw new Error('etcd did not stop')
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    // One that is paused hears nothing else.
    child.kill('SIGCONT')
    await exited
  }

  /** `etcdctl`, as an operator would: what it prints. */
  ctl(...args: readonly string[]): string {
    const { ns, tls } = this.#shape
    const files =
      tls === undefined ? [] : ['--cacert', tls.ca, ...(tls.clients ? ['--cert', tls.cert, '--key', tls.key] : [])]
    const all = ['env', 'ETCDCTL_API=3', 'etcdctl', '--endpoints', this.url, ...files, ...args]
    const [program, ...rest] = ns === undefined ? all : ['nsenter', `--net=/run/netns/${ns}`, ...all]
    return execFileSync(program ?? '', rest, { encoding: 'utf8', timeout: 20_000, stdio: ['ignore', 'pipe', 'pipe'] })
  }

  /** Keys and values below a prefix. */
  keys(prefix: string): ReadonlyMap<string, string> {
    const lines = this.ctl('get', '--prefix', prefix).split('\n')
    const found = new Map<string, string>()
    for (let i = 0; i + 1 < lines.length; i += 2) found.set(lines[i] ?? '', lines[i + 1] ?? '')
    return found
  }

  snapshot(): string {
    const file = join(this.#shape.folder, 'snapshot.db')
    rmSync(file, { force: true })
    this.ctl('snapshot', 'save', file)
    return file
  }

  /** Stopped, put back to what it held then, started: what an operator does after a loss. */
  async restore(file: string): Promise<void> {
    await this.stop()
    rmSync(this.#data, { recursive: true, force: true })
    const peer = `http://127.0.0.1:${this.#shape.ports[1]}`
    execFileSync(
      'etcdctl',
      [
        'snapshot',
        'restore',
        file,
        `--data-dir=${this.#data}`,
        '--name=one',
        `--initial-cluster=one=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
      ],
      { env: { ...process.env, ETCDCTL_API: '3' }, stdio: 'pipe' },
    )
    await this.start()
  }

  get log(): string {
    return this.#log
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.#shape.folder, { recursive: true, force: true })
  }
}

/** What a subnet.env says. */
export const subnetEnv = (file: string): ReadonlyMap<string, string> =>
  new Map(
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
