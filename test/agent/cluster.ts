/**
 * A small cluster for tests: a switch and nodes as network namespaces, the embedded API server, one agent process per node.
 *
 * Everything has a name of its own and goes when the cluster is disposed, whatever happened before.
 */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync, openSync, closeSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Node } from 'kubernetes-types/core/v1.js'

import { ipText } from '#ip/address.ts'
import { KubeClient } from '#kube/client.ts'
import { nodes as nodeResource } from '#kube/resources.ts'
import { startApiServer, type ApiServer } from '#kube/server/server.ts'
import { listenTcp } from '#lab/check/responder.ts'
import { createNetns, deleteNetns, inNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'

/** Another build can be tested: HEDDLE_BIN=dist/bin/heddle. */
const HEDDLE = resolve(process.env['HEDDLE_BIN'] ?? join(import.meta.dirname, '../../bin/heddle'))
const PREFIX = 'flannel.alpha.coreos.com'

let count = 0

export const needsRoot = process.getuid?.() === 0 ? false : 'needs root: makes network namespaces'

export interface ClusterShape {
  readonly nodes: number
  readonly backend?: object
  /** More of net-conf.json. */
  readonly conf?: object
  readonly ipv6?: boolean
  /** Nodes from this index on lie behind a router: 198.51.100.0/24 instead of 192.0.2.0/24. */
  readonly farFrom?: number
  readonly mtu?: number
}

export class TestNode {
  readonly index: number
  readonly name: string
  readonly ns: string
  readonly root: string
  readonly address: string
  readonly address6: string
  readonly subnet: string
  readonly subnet6: string
  agent: ChildProcess | undefined
  /** The `heddle` that this node's agent is of, where that is another one. */
  program: string | undefined

  constructor(index: number, ns: string, root: string, far: boolean) {
    this.index = index
    this.name = `node-${index}`
    this.ns = ns
    this.root = root
    this.address = `${far ? '198.51.100' : '192.0.2'}.${index + 1}`
    this.address6 = `2001:db8::${(index + 1).toString(16)}`
    this.subnet = `10.244.${index}`
    this.subnet6 = `fd00:244:0:${index.toString(16)}`
  }

  get subnetFile(): string {
    return join(this.root, 'run/flannel/subnet.env')
  }

  get healthSocket(): string {
    return join(this.root, 'health.sock')
  }

  /** What a program prints in this node's namespace. */
  run(program: string, ...args: readonly string[]): string {
    return run(this.ns, program, ...args)
  }

  json(program: 'ip' | 'bridge', ...args: readonly string[]): Record<string, unknown>[] {
    const text = this.run(program, '-j', '-d', ...args)
    return text.trim() === '' ? [] : JSON.parse(text)
  }

  /** GET on the agent's health socket. */
  get(path: string): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      // A connection of its own: the server closes idle ones, maybe in the moment of the next request.
      const to = { socketPath: this.healthSocket, path, timeout: 2000 * slowness, agent: false } as const
      const call = request(to, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (body += chunk))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
      })
      call.on('error', reject)
      call.on('timeout', () => call.destroy(new Error('timeout')))
      call.end()
    })
  }

  async metric(name: string): Promise<number> {
    const { body } = await this.get('/metrics')
    const line = body.split('\n').find((text) => text.startsWith(`${name} `) || text.startsWith(name))
    return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1))
  }

  get log(): string {
    const file = join(this.root, 'agent.log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }
}

export class TestCluster implements AsyncDisposable {
  readonly nodes: readonly TestNode[]
  readonly #shape: ClusterShape
  readonly #tag: string
  readonly #folder: string
  readonly #switch: string
  readonly #namespaces: string[] = []
  #api: ApiServer
  #client: KubeClient

  private constructor(shape: ClusterShape, tag: string, folder: string, nodes: readonly TestNode[], api: ApiServer) {
    this.#shape = shape
    this.#tag = tag
    this.#folder = folder
    this.#switch = `${tag}-sw`
    this.nodes = nodes
    this.#api = api
    this.#client = clientOf(api)
  }

  /** Namespaces, cables, API server and Node objects; no agent runs yet. */
  static async open(shape: ClusterShape): Promise<TestCluster> {
    const tag = `agent-${process.pid}-${++count}`
    const folder = mkdtempSync(join(tmpdir(), `${tag}-`))
    const nodes = Array.from({ length: shape.nodes }, (_, i) => {
      const root = join(folder, `n${i}`)
      mkdirSync(join(root, 'etc/kube-flannel'), { recursive: true })
      writeFileSync(join(root, 'etc/kube-flannel/net-conf.json'), JSON.stringify(confOf(shape)))
      return new TestNode(i, `${tag}-n${i}`, root, shape.farFrom !== undefined && i >= shape.farFrom)
    })
    const made: string[] = []
    try {
      wire(tag, nodes, shape, made)
      const api = await serve(tag, folder)
      const cluster = new TestCluster(shape, tag, folder, nodes, api)
      cluster.#namespaces.push(...made)
      for (const node of nodes) await cluster.register(node)
      return cluster
    } catch (error) {
      for (const ns of made) deleteNetns(netns(ns))
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  get client(): KubeClient {
    return this.#client
  }

  get api(): ApiServer {
    return this.#api
  }

  node(index: number): TestNode {
    const node = this.nodes[index]
    if (node === undefined) throw new Error(`there is no node ${index}`)
    return node
  }

  async register(node: TestNode): Promise<void> {
    const podCIDRs = [`${node.subnet}.0/24`, ...(this.#shape.ipv6 === true ? [`${node.subnet6}::/64`] : [])]
    await this.#client.create(nodeResource, nodeObject(node.name, podCIDRs))
  }

  getNode(name: string): Promise<Node> {
    return this.#client.get(nodeResource, { name })
  }

  async annotations(name: string): Promise<Readonly<Record<string, string>>> {
    const { metadata } = await this.getNode(name)
    return Object.fromEntries(
      Object.entries(metadata?.annotations ?? {}).map(([key, value]) => [key.replace(`${PREFIX}/`, ''), value]),
    )
  }

  /** As another agent, or whoever may patch a Node's status, would write them. */
  async annotate(name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    const full = Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`${PREFIX}/${key}`, value]))
    await this.#client.patch(
      nodeResource,
      { name },
      { type: 'strategic', body: { metadata: { annotations: full } } },
      { subresource: 'status' },
    )
  }

  start(node: TestNode, ...flags: readonly string[]): void {
    const args = [
      ['--node-name', node.name],
      ['--kube-api-url', `http://${API}:6443`],
      ['--root', node.root],
      ['--health-listen', node.healthSocket],
      ['--log-level', 'debug'],
    ].flat()
    this.#spawn(node, ['agent', '--until-stdin-closes', ...args, ...flags], {}, node.program)
  }

  /** The same program under flanneld's command line; `around` comes before it, to take rights away for example. */
  startFlanneld(
    node: TestNode,
    flags: readonly string[],
    env: NodeJS.ProcessEnv,
    around: readonly [string, ...string[]] = ['env'],
  ): void {
    const [program, ...before] = around
    const args = [...before, HEDDLE, 'flanneld', `-kube-api-url=http://${API}:6443`, ...flags]
    this.#spawn(node, args, { HEDDLE_ROOT: node.root, HEDDLE_UNTIL_STDIN_CLOSES: '1', ...env }, program)
  }

  #spawn(node: TestNode, args: readonly string[], more: NodeJS.ProcessEnv, program = HEDDLE): void {
    const log = openSync(join(node.root, 'agent.log'), 'a')
    // A relay outlives its agent, but not the test.
    const env = { ...process.env, KUBECONFIG: '', HOME: this.#folder, HEDDLE_RELAY_LINGER_MS: '30000', ...more }
    // A child is born in the namespace that its parent visits.
    node.agent = inNetns(netns(node.ns), () => spawn(program, args, { env, stdio: ['pipe', log, log] }))
    closeSync(log)
  }

  startAll(...flags: readonly string[]): void {
    for (const node of this.nodes) this.start(node, ...flags)
  }

  async stop(node: TestNode, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const { agent } = node
    if (agent === undefined) return
    node.agent = undefined
    if (agent.exitCode !== null || agent.signalCode !== null) return
    const exited = new Promise((resolve) => agent.once('exit', resolve))
    agent.kill(signal)
    await exited
  }

  /** What the agent reads at its next start. */
  configure(node: TestNode, conf: Partial<ClusterShape>): void {
    writeFileSync(
      join(node.root, 'etc/kube-flannel/net-conf.json'),
      JSON.stringify(confOf({ ...this.#shape, ...conf })),
    )
  }

  async ready(...nodes: readonly TestNode[]): Promise<void> {
    for (const node of nodes.length === 0 ? this.nodes : nodes) {
      await until(
        `${node.name} is ready`,
        async () => {
          const { status, body } = await node.get('/readyz')
          return status === 200 && !body.includes('"degraded": true') ? true : body
        },
        20_000,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${node.log.slice(-4000)}`)
      })
    }
  }

  /** Ends the API server as a crash would: all connections gone. */
  async stopApi(): Promise<void> {
    await this.#api.close()
  }

  /** Starts it again with what it held, or empty. */
  async startApi(): Promise<void> {
    this.#api = await serve(this.#tag, this.#folder)
    this.#client[Symbol.dispose]()
    this.#client = clientOf(this.#api)
  }

  /** A namespace cabled to a node as a pod is: `subnet.2`, default route through `subnet.1`. */
  pod(node: TestNode): string {
    const ns = `${this.#tag}-p${node.index}`
    createNetns(netns(ns))
    this.#namespaces.push(ns)
    const at = (...args: string[]): string => node.run('ip', ...args)
    at('link', 'add', 'pod0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns)
    at('addr', 'add', `${node.subnet}.1/24`, 'dev', 'pod0')
    at('link', 'set', 'pod0', 'up')
    run(ns, 'ip', 'link', 'set', 'lo', 'up')
    run(ns, 'ip', 'addr', 'add', `${node.subnet}.2/24`, 'dev', 'eth0')
    run(ns, 'ip', 'link', 'set', 'eth0', 'up')
    run(ns, 'ip', 'route', 'add', 'default', 'via', `${node.subnet}.1`)
    if (this.#shape.ipv6 === true) {
      at('addr', 'add', `${node.subnet6}::1/64`, 'dev', 'pod0', 'nodad')
      run(ns, 'ip', 'addr', 'add', `${node.subnet6}::2/64`, 'dev', 'eth0', 'nodad')
      run(ns, 'ip', 'route', 'add', 'default', 'via', `${node.subnet6}::1`)
    }
    return ns
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) await this.stop(node, 'SIGKILL')
    this.#client[Symbol.dispose]()
    await this.#api.close().catch(() => undefined)
    for (const ns of this.#namespaces) deleteNetns(netns(ns))
    rmSync(this.#folder, { recursive: true, force: true })
  }

  get switch(): string {
    return this.#switch
  }
}

const API = '192.0.2.254'
const netns = (name: string): string => `/run/netns/${name}`

export const run = (ns: string, program: string, ...args: readonly string[]): string =>
  execFileSync('nsenter', [`--net=${netns(ns)}`, program, ...args], {
    encoding: 'utf8',
    timeout: 20_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  })

/** Polls until `probe` says true; else fails with what it said last. */
export async function until(what: string, probe: () => unknown, ms = 5_000): Promise<number> {
  const started = performance.now()
  for (let last: unknown; ;) {
    try {
      last = await probe()
    } catch (error) {
      last = error
    }
    const waited = performance.now() - started
    if (last === true) return waited
    if (waited > ms * slowness)
      throw new Error(
        `not within ${ms * slowness} ms: ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`,
      )
    await delay(20)
  }
}

export const nodeObject = (name: string, podCIDRs: readonly string[]): Node => ({
  metadata: { name },
  spec: { ...(podCIDRs[0] === undefined ? {} : { podCIDR: podCIDRs[0] }), podCIDRs: [...podCIDRs] },
  status: {
    conditions: [{ type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated', message: 'none yet' }],
  },
})

const confOf = (shape: ClusterShape): object => ({
  Network: '10.244.0.0/16',
  ...(shape.ipv6 === true ? { EnableIPv6: true, IPv6Network: 'fd00:244::/32' } : {}),
  Backend: shape.backend ?? { Type: 'vxlan' },
  ...shape.conf,
})

function wire(tag: string, nodes: readonly TestNode[], shape: ClusterShape, made: string[]): void {
  const sw = `${tag}-sw`
  const make = (ns: string): void => {
    createNetns(netns(ns))
    made.push(ns)
    run(ns, 'ip', 'link', 'set', 'lo', 'up')
  }
  make(sw)
  for (const [bridge, v4] of [
    ['near', '192.0.2.254/24'],
    ['far', '198.51.100.254/24'],
  ] as const) {
    run(sw, 'ip', 'link', 'add', bridge, 'type', 'bridge')
    run(sw, 'ip', 'addr', 'add', v4, 'dev', bridge)
    run(sw, 'ip', 'link', 'set', bridge, 'up')
  }
  run(sw, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
  for (const node of nodes) {
    make(node.ns)
    const isFar = node.address.startsWith('198')
    run(
      sw,
      'ip',
      'link',
      'add',
      `v${node.index}`,
      'mtu',
      String(shape.mtu ?? 1500),
      'master',
      isFar ? 'far' : 'near',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'mtu',
      String(shape.mtu ?? 1500),
      'netns',
      node.ns,
    )
    run(sw, 'ip', 'link', 'set', `v${node.index}`, 'up')
    node.run('ip', 'addr', 'add', `${node.address}/24`, 'dev', 'eth0')
    if (shape.ipv6 === true) node.run('ip', 'addr', 'add', `${node.address6}/64`, 'dev', 'eth0', 'nodad')
    node.run('ip', 'link', 'set', 'eth0', 'up')
    node.run('ip', 'route', 'add', 'default', 'via', isFar ? '198.51.100.254' : '192.0.2.254')
  }
}

async function serve(tag: string, folder: string): Promise<ApiServer> {
  const fd = listenTcp(netns(`${tag}-sw`), { ip: ipText(API), port: 6443 }, 4)
  return startApiServer({
    listen: [{ host: '127.0.0.1', port: 0 }, { fd }],
    snapshotFile: join(folder, 'api.json'),
    snapshotDelay: 20,
  })
}

const clientOf = (api: ApiServer): KubeClient =>
  new KubeClient({
    server: new URL(api.urls[0] ?? ''),
    tls: () => ({ rejectUnauthorized: true }),
    token: undefined,
    basic: undefined,
    namespace: 'default',
  })
