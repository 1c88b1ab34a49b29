/**
 * Whole plugins against hostile configurations, environments and previous results, run inside a machine of its own: `plugins-driver.ts JSON`. They are the
 * real ones, with the real kernel. Prints what must not happen as a JSON list.
 */

import { execFileSync } from 'node:child_process'

import fc from 'fast-check'

import { isObject } from '#cni/json.ts'
import { pluginHost } from '#cni/runtime/delegate.ts'
import { openHost } from '#cni/runtime/host.ts'
import { runPlugin, type Answer } from '#cni/shell.ts'
import { specVersions } from '#cni/version.ts'
import { registry } from '#plugins/registry.ts'
import { slowness } from '../slow.ts'
import { jsonText, text } from './hostile.ts'

export interface Order {
  readonly seed: number
  /** Milliseconds for each plugin. */
  readonly each: number
}

const order: Order = JSON.parse(process.argv[2] ?? '{}')

/** One call; the longest waits of plugins themselves (for a lock, for a name of a device) are shorter. */
const CALL_LIMIT_MS = 30_000 * slowness
const MOST_FAILURES = 10

const common = { cniVersion: '1.1.0', name: 'net' }
const ipam = {
  type: 'host-local',
  ranges: [[{ subnet: '10.9.0.0/24' }], [{ subnet: 'fd00:9::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }],
}
const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'cni0' },
    { name: 'veth1' },
    { name: 'eth0', sandbox: '/run/netns/a', mac: '0a:00:00:00:00:01' },
  ],
  ips: [{ interface: 2, address: '10.9.0.2/24', gateway: '10.9.0.1' }],
  routes: [{ dst: '0.0.0.0/0' }],
}

/** A sound configuration of each type; others get one that has a bit of everything. */
const samples: Readonly<Record<string, readonly object[]>> = {
  bridge: [
    { bridge: 'cni0', isDefaultGateway: true, ipMasq: true, hairpinMode: true, mtu: 1400, macspoofchk: true, ipam },
    {
      bridge: 'cni1',
      vlan: 5,
      vlanTrunk: [{ id: 4 }, { minID: 6, maxID: 9 }],
      preserveDefaultVlan: false,
      portIsolation: true,
      ipam,
    },
  ],
  ptp: [{ ipMasq: true, mtu: 1400, ipam, dns: { nameservers: ['10.9.0.1'] } }],
  macvlan: [{ master: 'up0', mode: 'bridge', mtu: 1400, bcqueuelen: 5, ipam }],
  ipvlan: [{ master: 'up0', mode: 'l3', ipam }],
  vlan: [{ master: 'up0', vlanId: 5, mtu: 1400, linkInContainer: false, ipam }],
  dummy: [{ ipam }],
  tap: [{ mac: '0a:00:00:00:00:01', multiQueue: true, owner: 0, group: 0, mtu: 1400, ipam }],
  'host-device': [
    { device: 'up1' },
    { hwaddr: '0a:00:00:00:00:01' },
    { pciBusID: '0000:00:00.0' },
    { kernelpath: '/sys/devices/x' },
  ],
  'host-device-plus': [
    {
      cloudsFile: '/etc/openstack/clouds.yaml',
      cloud: 'k8s',
      cluster: 'blue',
      hostInterface: 'up0',
      mtu: 1400,
      isDefaultGateway: true,
      ipam: { type: 'neutron-ipam' },
      nova: { serverId: 's', networkId: 'n', subnetIds: ['a'], deviceLimit: 3, attachTimeoutMs: 500, onDelete: 'keep' },
    },
  ],
  flannel: [
    {
      delegate: { bridge: 'cni2', isDefaultGateway: true },
      ipam: { routes: [{ dst: '10.8.0.0/16' }] },
      dataDir: '/var/lib/cni/flannel',
    },
  ],
  'host-local': [
    {
      ipam: { ...ipam, dataDir: '/var/lib/cni/networks', resolvConf: '/etc/resolv.conf' },
      args: { cni: { ips: ['10.9.0.7'] } },
    },
  ],
  static: [
    {
      ipam: {
        type: 'static',
        addresses: [{ address: '10.9.0.3/24', gateway: '10.9.0.1' }],
        routes: [{ dst: '0.0.0.0/0' }],
        dns: {},
      },
    },
  ],
  portmap: [
    {
      prevResult,
      snat: true,
      backend: 'nftables',
      conditionsV4: ['ip', 'saddr', '10.0.0.0/8'],
      runtimeConfig: { portMappings: [{ hostPort: 8000, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' }] },
    },
  ],
  bandwidth: [
    {
      prevResult,
      ingressRate: 8e6,
      ingressBurst: 8e6,
      egressRate: 8e6,
      egressBurst: 8e6,
      unshapedSubnets: ['10.0.0.0/8'],
      runtimeConfig: { bandwidth: { ingressRate: 1e6 } },
    },
  ],
  firewall: [{ prevResult, backend: 'nftables', ingressPolicy: 'same-bridge' }],
  tuning: [
    {
      prevResult,
      sysctl: { 'net.core.somaxconn': '512' },
      mac: '0a:00:00:00:00:02',
      mtu: 1400,
      promisc: true,
      allmulti: true,
      txQLen: 5,
    },
  ],
  sbr: [{ prevResult, table: 100 }],
  vrf: [{ prevResult, vrfname: 'blue', table: 10 }],
  'veth-host': [
    {
      prevResult,
      master: 'up0',
      ifName: 'veth0',
      linkLocal: '169.254.1.1',
      serviceCIDRs: ['10.96.0.0/12'],
      hostStackCIDRs: ['192.0.2.0/24'],
      nodeRoute: true,
      masqueradeServices: true,
      mtu: 1400,
    },
  ],
  'neutron-veth': [{ master: 'up0', mtu: 1400, linkLocal: '169.254.1.1', proxyNeighbours: true, ipam }],
}
const other = [{ prevResult, ipam: { type: 'dhcp', daemonSocketPath: '/run/none.sock' } }]

const environment = fc.record({
  CNI_COMMAND: fc.oneof({ weight: 9, arbitrary: fc.constantFrom('ADD', 'ADD', 'DEL', 'CHECK', 'GC', 'STATUS') }, text),
  CNI_CONTAINERID: fc.oneof({ weight: 9, arbitrary: fc.constantFrom('c1', 'c2') }, text),
  CNI_NETNS: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom('/run/netns/a', '/run/netns/b', '/run/netns/none', '') },
    text,
  ),
  CNI_IFNAME: fc.oneof({ weight: 9, arbitrary: fc.constantFrom('eth0', 'net1', 'lo') }, text),
  CNI_ARGS: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom('', 'IgnoreUnknown=1;IP=10.9.0.8', 'MAC=0a:00:00:00:00:03') },
    text,
  ),
  CNI_PATH: fc.oneof({ weight: 9, arbitrary: fc.constant('/nowhere') }, text),
})

/** What says that nobody thought of this input. */
const UNTHOUGHT =
  /Cannot (read|convert|destructure|set|mix)|is not (a function|iterable|a constructor|defined)|Maximum call stack|Invalid (array length|string length|count)|out of (range|bounds)|\[object |\bundefined\b/
const STACK = /^\s+at .*:\d+:\d+/m

/** What is wrong with an answer, or undefined. */
function faultOf({ exitCode, stdout, stderr }: Answer): string | undefined {
  if (STACK.test(stdout + stderr)) return 'a stack trace'
  if (exitCode === 0 && stdout === '') return undefined
  let document: unknown
  try {
    document = JSON.parse(stdout)
  } catch {
    return 'standard output is no JSON document'
  }
  if (!isObject(document)) return 'standard output is no JSON object'
  if (exitCode === 0)
    return Array.isArray(document['supportedVersions']) || 'cniVersion' in document ? undefined : 'no result'
  const { code, msg, details = '' } = document
  if (exitCode !== 1 || typeof code !== 'number' || typeof msg !== 'string' || typeof details !== 'string')
    return 'no error document'
  return code === 999 || UNTHOUGHT.test(msg) ? 'an error that nobody thought of' : undefined
}

for (const pod of ['a', 'b']) execFileSync('ip', ['netns', 'add', pod])
execFileSync('ip', ['link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1'])
execFileSync('ip', ['link', 'set', 'up0', 'up'])

const failures: string[] = []
const counts = new Map<string, number>()

for (const [type, plugin] of registry) {
  const confs = (samples[type] ?? other).flatMap((conf) =>
    specVersions.slice(-2).map((cniVersion) => ({ ...common, ...conf, cniVersion, type })),
  )
  const calls = fc.sample(fc.tuple(jsonText(...confs), environment), { numRuns: 2_000, seed: order.seed })
  const end = performance.now() + order.each
  let ran = 0
  for (const [stdin, env] of calls) {
    if (performance.now() > end || failures.length >= MOST_FAILURES) break
    ran++
    using base = openHost({ root: '', log: () => {}, env: {} })
    const host = pluginHost(base, { registry, env: {}, deadlineMs: 5_000 })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>((resolve) => void (timer = setTimeout(() => resolve(undefined), CALL_LIMIT_MS)))
    const what = (fault: string, answer = ''): string =>
      `${type}: ${fault}: ${answer.slice(0, 600)} ${JSON.stringify(env).slice(0, 600)} ${stdin.slice(0, 1_200)}`
    try {
      const answer = await Promise.race([runPlugin(plugin, { env, stdin: () => stdin }, host), late])
      const fault = answer === undefined ? `no answer within ${CALL_LIMIT_MS} ms` : faultOf(answer)
      if (fault !== undefined) failures.push(what(fault, answer?.stdout))
    } catch (error) {
      failures.push(what(`it threw: ${error instanceof Error ? error.stack : String(error)}`))
    } finally {
      clearTimeout(timer)
    }
  }
  counts.set(type, ran)
}
for (const prototype of [Object.prototype, Array.prototype])
  if (Object.keys(prototype).length > 0) failures.push(`a prototype has got ${Object.keys(prototype).join()}`)

// What still waits must not keep the process.
process.stdout.write(JSON.stringify({ failures, counts: Object.fromEntries(counts) }), () => process.exit())
