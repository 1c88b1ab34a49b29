/** Breaks a node in a namespace in the ways that users do, and runs the commands that `heddle doctor` prints for it. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import type { Finding } from '#doctor/finding.ts'
import { needsRoot, TestNetns } from '../namespace.ts'

const heddle = fileURLToPath(new URL('../../bin/heddle', import.meta.url))

interface Report {
  readonly ok: boolean
  readonly findings: readonly Finding[]
}

class Node implements Disposable {
  readonly netns = new TestNetns('doctor')
  readonly root = mkdtempSync(join(tmpdir(), 'heddle-doctor-'))

  constructor() {
    const { netns } = this
    netns.run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire')
    for (const dev of ['lo', 'wire', 'eth0']) netns.run('ip', 'link', 'set', dev, 'up')
    netns.run('ip', 'address', 'add', '192.168.7.1/24', 'dev', 'eth0')
    netns.run('ip', 'route', 'add', 'default', 'via', '192.168.7.254')
    this.#write('run/flannel/subnet.env', [
      'FLANNEL_NETWORK=10.244.0.0/16',
      'FLANNEL_SUBNET=10.244.1.1/24',
      'FLANNEL_MTU=1450',
      'FLANNEL_IPMASQ=true',
    ])
    this.#write('etc/cni/net.d/10-flannel.conflist', [
      '{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"}]}',
    ])
    this.#write('opt/cni/bin/flannel', [''])
  }

  #write(path: string, lines: readonly string[]): void {
    const file = join(this.root, path)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, `${lines.join('\n')}\n`)
  }

  run(...args: readonly string[]): { readonly code: number | null; readonly stdout: string } {
    const env = { ...process.env, KUBECONFIG: join(this.root, 'none'), NO_COLOR: '1', LC_ALL: 'C.UTF-8' }
    const command = [`--net=${this.netns.path}`, heddle, 'doctor', '--root', this.root, ...args]
    const { status, stdout, stderr } = spawnSync('nsenter', command, { encoding: 'utf8', env, timeout: 60_000 })
    assert.equal(stderr, '')
    return { code: status, stdout }
  }

  report(...args: readonly string[]): Report {
    const { stdout, code } = this.run('--json', ...args)
    const report = JSON.parse(stdout) as Report
    assert.equal(code, report.ok ? 0 : 1)
    return report
  }

  [Symbol.dispose](): void {
    this.netns[Symbol.dispose]()
    rmSync(this.root, { recursive: true, force: true })
  }
}

const troubles = ({ findings }: Report): Record<string, Finding> =>
  Object.fromEntries(
    findings.flatMap((finding) => (finding.cause === undefined ? [] : [[finding.cause.code, finding]])),
  )

/** What the kernel has for all namespaces at once, or not at all on this machine. */
const elsewhere = [
  'bridge-filter-missing',
  'agent-absent',
  'conntrack-full',
  'neighbours-full',
  'port-taken-by-vmware',
  'managed-by-network-manager',
  'networkd-removes-routes',
  'firewalld-without-pods',
  'checksum-offload-broken',
  'mac-policy-persistent',
]

test('what users trip over is found, and the commands that are printed mend it', { skip: needsRoot }, () => {
  using node = new Node()
  const { netns } = node
  netns.run('sysctl', '-qw', 'net.ipv4.ip_forward=0')
  netns.run(
    'ip',
    'link',
    'add',
    'flannel.1',
    'type',
    'vxlan',
    'id',
    '1',
    'dev',
    'eth0',
    'dstport',
    '8472',
    'nolearning',
  )
  netns.run('ip', 'link', 'set', 'flannel.1', 'mtu', '1450', 'up')
  // The underlay shrinks afterwards, as when a tunnel of the provider is put under it.
  netns.run('ip', 'link', 'set', 'eth0', 'mtu', '1400')
  netns.run('sysctl', '-qw', 'net.ipv4.conf.flannel/1.rp_filter=1')
  netns.run('ip', 'link', 'add', 'cni0', 'mtu', '1500', 'type', 'bridge')
  netns.run('ip', 'address', 'add', '10.100.3.1/24', 'dev', 'cni0')
  netns.nft(
    'add table inet docker; add chain inet docker passing { type filter hook forward priority 0; policy drop; }',
  )
  netns.nft('add rule inet docker passing ip saddr 172.17.0.0/16 accept')

  const before = troubles(node.report())
  const expected = [
    'forwarding-off',
    'reverse-path-strict',
    'forward-drop',
    'tunnel-mtu-too-large',
    'link-mtu-differs',
    'bridge-address-stale',
  ]
  assert.deepEqual(
    Object.keys(before)
      .filter((code) => !elsewhere.includes(code))
      .toSorted(),
    expected.toSorted(),
  )
  for (const code of expected) {
    const { commands = [], evidence = [] } = before[code] ?? {}
    assert.ok(evidence.length > 0 && commands.length > 0, code)
    // As a person would: pasted into a shell.
    if (code !== 'link-mtu-differs') for (const command of commands) netns.run('sh', '-c', command)
  }
  const after = troubles(node.report())
  assert.deepEqual(
    Object.keys(after).filter((code) => !elsewhere.includes(code)),
    [],
  )
})

test('text for people, in both languages, and only what was asked for', { skip: needsRoot }, () => {
  using node = new Node()
  node.netns.run('sysctl', '-qw', 'net.ipv4.ip_forward=0')
  const english = node.run('--only', 'forwarding')
  assert.equal(english.code, 1)
  assert.match(english.stdout, /^problem forwarding: This node does not forward IPv4/)
  assert.match(english.stdout, /seen {2}net\.ipv4\.ip_forward = 0\n {2}\$ sysctl -w net\.ipv4\.ip_forward=1\n/)
  assert.match(node.run('--only', 'forwarding', '--lang', 'zh').stdout, /本节点不转发 IPv4 报文/)
  assert.deepEqual(
    node.report('--only', 'mtu,forwarding').findings.map(({ check }) => check),
    ['forwarding', 'mtu'],
  )
})
