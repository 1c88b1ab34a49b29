import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseNetConf } from '#cni/config.ts'
import { CniError } from '#cni/errors.ts'
import { fakeHost } from '#cni/fake-host.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { isSafe, refuseUnsafe } from './allowlist.ts'
import { backupOf, firstOf } from './backup.ts'
import { tuningConf } from './config.ts'

const inputOf = (raw: JsonObject, args: Readonly<Record<string, string>> = {}, ifname = 'eth0'): PluginInput => ({
  containerId: 'c1',
  netns: '',
  ifname,
  args: new Map(Object.entries(args)),
  path: [],
  config: parseNetConf({ cniVersion: '1.1.0', name: 'net1', type: 'tuning', ...raw }),
})
const MAC = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03', '02:00:00:00:00:04'] as const

test('the MAC address: configuration, CNI_ARGS, runtimeConfig, args.cni, the last that is given', () => {
  const mac = (raw: JsonObject, args = {}) => tuningConf(inputOf(raw, args)).link.mac
  const own = { mac: MAC[0] }
  const runtime = { ...own, runtimeConfig: { mac: MAC[2] } }
  assert.equal(mac({}), undefined)
  assert.equal(mac(own), MAC[0])
  assert.equal(mac(own, { MAC: MAC[1] }), MAC[1])
  assert.equal(mac(runtime, { MAC: MAC[1] }), MAC[2])
  assert.equal(mac({ ...runtime, args: { cni: { mac: MAC[3].toUpperCase() } } }, { MAC: MAC[1] }), MAC[3])
  assert.equal(mac({ ...runtime, args: { cni: { mac: '' } } }), MAC[2])
})

test('args.cni go before the configuration, each by itself', () => {
  const raw = { mtu: 1400, promisc: true, allmulti: true, txQLen: 5, sysctl: { 'net.core.somaxconn': '1' } }
  assert.deepEqual(tuningConf(inputOf(raw)).link, {
    mac: undefined,
    mtu: 1400,
    promisc: true,
    allmulti: true,
    txQLen: 5,
  })
  const cni = { mtu: 1300, promisc: false, allmulti: false, txQLen: 0, sysctl: { 'net/core/somaxconn': '2' } }
  const { link, sysctls } = tuningConf(inputOf({ ...raw, args: { cni } }))
  assert.deepEqual(link, { mac: undefined, mtu: 1300, promisc: undefined, allmulti: false, txQLen: 0 })
  assert.deepEqual(
    sysctls.map(({ key, target, value }) => [key, target, value]),
    [['net/core/somaxconn', 'net/core/somaxconn', '2']],
  )
})

test('names of sysctls: both notations, and the interface’s name, which may have a dot', () => {
  const target = (key: string, ifname?: string) =>
    tuningConf(inputOf({ sysctl: { [key]: '1' } }, {}, ifname)).sysctls[0]?.target
  assert.equal(target('net.ipv4.conf.IFNAME.arp_filter'), 'net/ipv4/conf/eth0/arp_filter')
  assert.equal(target('net.ipv4.conf.IFNAME.arp_filter', 'eth0.5'), 'net/ipv4/conf/eth0.5/arp_filter')
  assert.equal(target('net/ipv4/conf/eth0.5/arp_filter'), 'net/ipv4/conf/eth0.5/arp_filter')
  assert.equal(target('net.ipv4.conf.eth0/5.arp_filter'), 'net/ipv4/conf/eth0.5/arp_filter')
})

test('what is refused, with the field', () => {
  const bad: [JsonObject, RegExp, number?][] = [
    [{ sysctl: { 'kernel.panic': '1' } }, /kernel\.panic.*none of the network/],
    [{ sysctl: { 'net/../kernel/panic': '1' } }, /net\/\.\.\/kernel/],
    [{ sysctl: { 'net..core': '1' } }, /net\.\.core/],
    [{ sysctl: { 'net.core.somaxconn': 1 } }, /somaxconn/],
    [{ sysctl: { 'net.core.somaxconn': '1\n2' } }, /somaxconn/],
    [{ sysctl: { 'net.core.somaxconn': '1', 'net/core/somaxconn': '2' } }, /the same/],
    [{ sysctl: { 'net.ipv4.conf.IFNAME.x': '1', 'net.ipv4.conf.eth0.x': '2' } }, /the same/],
    [{ mac: 'x' }, /mac.*x/],
    [{ mac: '01:00:00:00:00:01' }, /group/],
    [{ mtu: -1 }, /mtu.*-1/],
    [{ promisc: 'yes' }, /promisc.*yes/],
    [{ txQLen: 1.5 }, /txQLen.*1\.5/],
    [{ dataDir: 'here' }, /dataDir.*here/],
    [{ dataDir: '/run/../etc' }, /dataDir/],
    [{ args: { cni: { mtu: 'big' } } }, /args.*mtu.*big/],
  ]
  for (const [raw, message, code = 7] of bad)
    assert.throws(() => tuningConf(inputOf(raw)), { code, message }, JSON.stringify(raw))
  assert.throws(() => tuningConf(inputOf({}, { MAC: 'x' })), { code: 4, message: /CNI_ARGS MAC/ })
})

test('whatever is asked for, the path is one of the network’s, without a way out', () => {
  const part = fc.oneof(fc.constantFrom('net', '..', '.', 'IFNAME', 'ipv4', 'conf', ''), fc.string({ maxLength: 6 }))
  const key = fc.array(fc.tuple(part, fc.constantFrom('.', '/')), { maxLength: 6 }).map((list) => list.flat().join(''))
  fc.assert(
    fc.property(key, (text) => {
      try {
        for (const { target } of tuningConf(inputOf({ sysctl: { [text]: '1' } })).sysctls) {
          assert.match(target, /^net\//)
          assert.ok(!target.split('/').some((one) => one === '..' || one === '.' || one === ''))
        }
      } catch (error) {
        assert.ok(error instanceof CniError, String(error))
      }
    }),
  )
})

test('by itself, only what stays within the pod is allowed', () => {
  for (const path of [
    'net/core/somaxconn',
    'net/ipv4/tcp_syncookies',
    'net/ipv4/tcp_congestion_control',
    'net/ipv4/ip_local_port_range',
    'net/ipv4/ip_unprivileged_port_start',
    'net/ipv4/ping_group_range',
    'net/ipv4/conf/IFNAME/rp_filter',
    'net/ipv4/conf/all/arp_ignore',
    'net/ipv4/conf/eth0.5/accept_redirects',
    'net/ipv4/neigh/eth0/base_reachable_time_ms',
    'net/ipv6/conf/all/disable_ipv6',
    'net/ipv6/icmp/ratelimit',
    'net/netfilter/nf_conntrack_tcp_timeout_established',
    'net/unix/max_dgram_qlen',
  ])
    assert.ok(isSafe(path), path)
  for (const path of [
    'net/core/bpf_jit_enable',
    'net/core/rmem_max',
    'net/ipv4/tcp_mem',
    'net/ipv4/tcp_allowed_congestion_control',
    'net/ipv4/tcp_child_ehash_entries',
    'net/ipv4/ipfrag_high_thresh',
    'net/ipv4/conf/eth0/proxy_arp',
    'net/ipv4/conf/eth0/proxy_arp_pvlan',
    'net/ipv4/neigh/default/gc_thresh3',
    'net/ipv4/route/max_size',
    'net/ipv6/conf/eth0/proxy_ndp',
    'net/ipv6/route/flush',
    'net/netfilter/nf_conntrack_max',
    'net/netfilter/nf_log_all_netns',
    'net/bridge/bridge-nf-call-iptables',
    'net/ipv4/conf/a/b/rp_filter',
  ])
    assert.ok(!isSafe(path), path)
})

test('the operator’s list decides alone, in the notation of the configuration or in the usual one', () => {
  const root = mkdtempSync(join(tmpdir(), 'heddle-tuning-'))
  const host = { ...fakeHost(), root }
  const asked = (key: string) => tuningConf(inputOf({ sysctl: { [key]: '1' } })).sysctls
  const refuse = (key: string) => refuseUnsafe(host, 'tuning', asked(key))
  try {
    refuse('net.core.somaxconn')
    assert.throws(() => refuse('net.ipv4.conf.IFNAME.proxy_arp'), { code: 2, message: /allowlist\.conf/ })
    mkdirSync(join(root, 'etc/cni/tuning'), { recursive: true })
    const file = join(root, 'etc/cni/tuning/allowlist.conf')
    writeFileSync(file, '\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$  \nbpf_jit\n')
    refuse('net.ipv4.conf.IFNAME.proxy_arp')
    refuse('net/ipv4/conf/IFNAME/proxy_arp')
    refuse('net.core.bpf_jit_enable')
    assert.throws(() => refuse('net.core.somaxconn'), { code: 2, message: /somaxconn.*no line/ })
    assert.throws(() => refuse('net.ipv4.conf.eth0.proxy_arp'), { code: 2 })
    refuseUnsafe(host, 'tuning', [])
    writeFileSync(file, '')
    assert.throws(() => refuse('net.core.somaxconn'), { code: 2 })
    writeFileSync(file, 'fine\n(\n')
    assert.throws(() => refuse('net.core.somaxconn'), { code: 7, message: /line 2/ })
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('the first backup is what it was like, unless another namespace’s', () => {
  const link = { mac: MAC[0], mtu: 1500, flags: 0x100, txQueueLength: 1000 }
  const seen = { ...link, index: 1, name: 'x', up: true, hardwareType: 1, operState: 'up' as const, carrier: true }
  const of = (parsed: unknown) => JSON.parse(JSON.stringify(parsed)) as JsonObject
  const { link: tuned } = tuningConf(inputOf({ mac: MAC[1], mtu: 9000, promisc: true, allmulti: true, txQLen: 1 }))
  assert.deepEqual(of(backupOf(seen as never, tuned)), {
    mac: MAC[0],
    promisc: true,
    mtu: 1500,
    allmulti: false,
    txQLen: 1000,
  })
  assert.deepEqual(of(backupOf(seen as never, tuningConf(inputOf({ mtu: 9000 })).link)), { mtu: 1500 })
  const heddle = { network: 'net1', containerId: 'c1', ifname: 'eth0', netns: '/x', netnsId: '1:1' }
  assert.deepEqual(firstOf({ mtu: 1500, heddle }, { mtu: 9000, txQLen: 5, heddle }), { mtu: 1500, txQLen: 5, heddle })
  assert.deepEqual(firstOf({ mtu: 1500 }, { mtu: 9000, heddle }), { mtu: 1500, heddle })
  const other = { ...heddle, netnsId: '1:2' }
  assert.deepEqual(firstOf({ mtu: 1500, heddle }, { mtu: 9000, heddle: other }), { mtu: 9000, heddle: other })
})
