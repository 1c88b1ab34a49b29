/** A node in a namespace as flanneld leaves one, made with iproute2, iptables and nft: vxlan among two living peers and one that is gone. */

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { shimMarker } from '#cni/runtime/find.ts'
import { ipText } from '#ip/address.ts'
import { startApiServer, type ApiServer } from '#kube/server/server.ts'
import { listenTcp } from '#lab/check/responder.ts'
import { TestNetns } from '../namespace.ts'
import { slowness } from '../slow.ts'

const heddle = join(import.meta.dirname, '../../bin/heddle')

export interface Ran {
  readonly code: number | null
  readonly signal: string | null
  readonly out: string
  readonly err: string
}

/** A peer: its number, whether its Node is there, and the MAC of its VTEP. */
const PEERS = [
  { n: 2, there: true },
  { n: 3, there: true },
  { n: 9, there: false },
] as const
const macOf = (n: number): string => `02:00:00:00:00:0${n}`

export class FlannelNode implements AsyncDisposable {
  readonly netns = new TestNetns('hdlk')
  readonly root = mkdtempSync(join(tmpdir(), 'hdlk-migrate-'))
  readonly build = mkdtempSync(join(tmpdir(), 'hdlk-build-'))
  #api: ApiServer | undefined

  constructor(rules: 'iptables' | 'nftables' = 'iptables') {
    const { netns } = this
    const ip = (...args: string[]): string => netns.run('ip', ...args)
    ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire')
    for (const dev of ['lo', 'wire', 'eth0']) ip('link', 'set', dev, 'up')
    ip('address', 'add', '192.168.7.1/24', 'dev', 'eth0')
    ip(
      'link',
      'add',
      'flannel.1',
      'mtu',
      '1450',
      'address',
      macOf(1),
      'type',
      'vxlan',
      'id',
      '1',
      'dev',
      'eth0',
      'local',
      '192.168.7.1',
      'dstport',
      '8472',
      'nolearning',
    )
    ip('address', 'add', '10.244.1.0/32', 'dev', 'flannel.1')
    ip('link', 'set', 'flannel.1', 'up')
    for (const { n } of PEERS) this.#peer(n)
    // Not flannel's, and not to be touched: a peer in another network, and somebody's route with a mark of its own.
    ip('route', 'add', '203.0.113.0/24', 'via', '192.168.7.254')
    ip('route', 'add', '10.244.77.0/24', 'via', '192.168.7.254', 'proto', '186')
    if (rules === 'iptables') this.#iptables()
    else this.#nftables()
    this.write('/etc/kube-flannel/net-conf.json', {
      Network: '10.244.0.0/16',
      EnableNFTables: rules === 'nftables',
      Backend: { Type: 'vxlan' },
    })
    this.write(
      '/run/flannel/subnet.env',
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    )
    this.write('/etc/cni/net.d/10-flannel.conflist', {
      name: 'cbr0',
      cniVersion: '0.3.1',
      plugins: [{ type: 'flannel', delegate: { isDefaultGateway: true } }],
    })
    for (const type of ['bridge', 'flannel']) this.write(`/opt/cni/bin/${type}`, `reference ${type}`, 0o750)
    this.write(
      '/etc/systemd/system/flanneld.service',
      '[Unit]\nDescription=x\n[Service]\nEnvironmentFile=-/etc/flanneld\nExecStart=/usr/local/bin/flanneld --ip-masq \\\n  --kube-subnet-mgr $OPTIONS\nRestart=always\n',
    )
    for (const [path, text] of [
      ['lib/cni.mjs', 'program'],
      ['lib/addon.node', 'addon'],
      ['bin/node', 'node'],
      ['bin/heddle', 'heddle'],
      ...['bridge', 'flannel', 'portmap'].map((type) => [`cni/${type}`, `${shimMarker} ${type}`] as const),
    ] as const)
      put(join(this.build, path), text, 0o755)
  }

  #peer(n: number): void {
    const dev = 'flannel.1'
    this.netns.run('ip', 'neigh', 'add', `10.244.${n}.0`, 'lladdr', macOf(n), 'dev', dev, 'nud', 'permanent')
    this.netns.run('bridge', 'fdb', 'add', macOf(n), 'dev', dev, 'dst', `192.168.7.${n}`, 'self', 'permanent')
    this.netns.run('ip', 'route', 'add', `10.244.${n}.0/24`, 'via', `10.244.${n}.0`, 'dev', dev, 'onlink')
  }

  #iptables(): void {
    const comment = ['-m', 'comment', '--comment']
    for (const [table, chain, from, word] of [
      ['nat', 'FLANNEL-POSTRTG', 'POSTROUTING', 'flanneld masq'],
      ['filter', 'FLANNEL-FWD', 'FORWARD', 'flanneld forward'],
    ] as const) {
      const rule = (...args: string[]): string => this.netns.run('iptables', '-w', '-t', table, ...args)
      rule('-N', chain)
      rule('-A', from, ...comment, word, '-j', chain)
      if (table === 'filter') rule('-A', chain, '-s', '10.244.0.0/16', ...comment, word, '-j', 'ACCEPT')
      else rule('-A', chain, '-m', 'mark', '--mark', '0x4000/0x4000', ...comment, word, '-j', 'RETURN')
    }
  }

  #nftables(): void {
    for (const [family, name] of [
      ['ip', 'flannel-ipv4'],
      ['ip6', 'flannel-ipv6'],
    ] as const) {
      this.netns.run('nft', 'add', 'table', family, name)
      this.netns.run('nft', 'add', 'chain', family, name, 'postrtg', '{ type nat hook postrouting priority srcnat ; }')
    }
  }

  write(path: string, content: object | string, mode = 0o644): void {
    put(join(this.root, path), typeof content === 'string' ? content : JSON.stringify(content), mode)
  }

  /** Starts the API server; the own Node is in it unless told otherwise. */
  async serve({ own = true }: { readonly own?: boolean } = {}): Promise<void> {
    const fd = listenTcp(this.netns.path, { ip: ipText('127.0.0.1'), port: 6443 }, 4)
    this.#api = await startApiServer({ listen: [{ fd }] })
    const { registry } = this.#api.api
    const type = registry.find('', 'v1', 'nodes')
    if (type === undefined) throw new Error('the API server knows no Nodes')
    const numbers = [...(own ? [1] : []), ...PEERS.filter(({ there }) => there).map(({ n }) => n)]
    for (const n of numbers)
      this.#api.api.create(
        { type, namespace: undefined, name: `node-${n}` },
        {
          apiVersion: 'v1',
          kind: 'Node',
          metadata: {
            name: `node-${n}`,
            annotations: {
              'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
              'flannel.alpha.coreos.com/backend-type': 'vxlan',
              'flannel.alpha.coreos.com/backend-data': `{"VNI":1,"VtepMAC":"${macOf(n)}"}`,
              'flannel.alpha.coreos.com/public-ip': `192.168.7.${n}`,
            },
          },
          spec: { podCIDR: `10.244.${n}.0/24` },
        },
      )
  }

  /** `heddle migrate flannel ARGS…` on this node. */
  async run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const words = ['migrate', 'flannel', '--root', this.root, '--from', this.build, '--node', 'node-1', ...args]
    const more = ['--kube-api-url', 'http://127.0.0.1:6443']
    // Asynchronous: the API server lives in this process.
    return execute('nsenter', [`--net=${this.netns.path}`, heddle, ...words, ...more], env)
  }

  /** Starts Heddle's agent in the place of flanneld. It ends with `kill`, and with this process. */
  startAgent(): ChildProcess {
    const flags = [
      '--node-name',
      'node-1',
      '--kube-api-url',
      'http://127.0.0.1:6443',
      '--root',
      this.root,
      '--iface',
      'eth0',
    ]
    const words = [`--net=${this.netns.path}`, heddle, 'agent', '--until-stdin-closes', '--no-dhcp', ...flags]
    return spawn('nsenter', words, { stdio: ['pipe', 'ignore', 'ignore'], env: { ...process.env, KUBECONFIG: '' } })
  }

  /** Everything that a migration could change: files with mode and content, and the kernel's tables. */
  state(): Readonly<Record<string, string>> {
    const kernel = {
      route: lines(this.netns.run('ip', 'route', 'show')),
      neigh: lines(this.netns.run('ip', 'neigh', 'show', 'nud', 'permanent')),
      fdb: lines(this.netns.run('bridge', 'fdb', 'show', 'dev', 'flannel.1')),
      nft: this.netns.run('nft', 'list', 'ruleset'),
    }
    const files = readdirSync(this.root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== 'cni-install.json.lock')
      .map(({ parentPath, name }) => join(parentPath, name))
    return {
      ...kernel,
      ...Object.fromEntries(
        files.map((path) => [
          path.slice(this.root.length),
          `${(statSync(path).mode & 0o777).toString(8)} ${readFileSync(path, 'utf8')}`,
        ]),
      ),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api?.close().catch(() => undefined)
    this.netns[Symbol.dispose]()
    for (const folder of [this.root, this.build]) rmSync(folder, { recursive: true, force: true })
  }
}

/** In an order of their own: that of hash tables is not promised. */
const lines = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.trim())
    .toSorted()
    .join('\n')

function put(path: string, text: string, mode: number): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  chmodSync(path, mode)
}

const execute = (file: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ran> =>
  new Promise((resolve) => {
    const all = { ...process.env, LC_ALL: 'C', NO_COLOR: '1', KUBECONFIG: '', ...env }
    const child = execFile(file, [...args], { env: all, timeout: 60_000 * slowness }, (_error, out, err) =>
      resolve({ code: child.exitCode, signal: child.signalCode, out, err }),
    )
  })
