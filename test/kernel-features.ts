/**
 * What a test needs of the kernel that not every kernel has.
 *
 *     test('…', { skip: needsKernel('ipvlan') }, …)
 *
 * A test file that imports this one is run by `npm run test:vm` too, under a kernel that has them all; a skip is a failure there.
 */

import { spawnSync } from 'node:child_process'
import { needsRoot, TestNetns } from './namespace.ts'

/** For each feature the commands that need it and nothing rarer. Of iproute2 rather than our own, whose bugs must not look like an old kernel. */
const probes = {
  'bridge VLAN filtering': [['ip', 'link', 'add', 'x0', 'type', 'bridge', 'vlan_filtering', '1']],
  dummy: [['ip', 'link', 'add', 'x0', 'type', 'dummy']],
  esp: [
    [
      'ip',
      'xfrm',
      'state',
      'add',
      'src',
      '192.0.2.1',
      'dst',
      '192.0.2.2',
      'proto',
      'esp',
      'spi',
      '0x1',
      'mode',
      'tunnel',
      'aead',
      'rfc4106(gcm(aes))',
      '0x0000000000000000000000000000000000000000',
      '128',
    ],
  ],
  geneve: [['ip', 'link', 'add', 'x0', 'type', 'geneve', 'id', '1', 'remote', '192.0.2.1']],
  ipip: [['ip', 'link', 'add', 'x0', 'type', 'ipip', 'local', '192.0.2.1', 'remote', '192.0.2.2']],
  'iptables-legacy': [
    ['iptables-legacy', '-t', 'nat', '-S'],
    ['iptables-legacy', '-t', 'mangle', '-S'],
  ],
  ipvlan: [
    ['ip', 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1'],
    ['ip', 'link', 'add', 'x0', 'link', 'under0', 'type', 'ipvlan', 'mode', 'l3s'],
  ],
  ipvs: [['genl', 'ctrl', 'get', 'name', 'IPVS']],
  macvlan: [
    ['ip', 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1'],
    ['ip', 'link', 'add', 'x0', 'link', 'under0', 'type', 'macvlan', 'mode', 'bridge'],
  ],
  netem: [['tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms']],
  sctp: [['modprobe', 'sctp']],
  sit: [['ip', 'link', 'add', 'x0', 'type', 'sit', 'local', '192.0.2.1']],
  vlan: [
    ['ip', 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1'],
    ['ip', 'link', 'add', 'x0', 'link', 'under0', 'type', 'vlan', 'id', '1'],
  ],
  vrf: [['ip', 'link', 'add', 'x0', 'type', 'vrf', 'table', '1000']],
  wireguard: [['ip', 'link', 'add', 'x0', 'type', 'wireguard']],
} as const satisfies Readonly<Record<string, readonly (readonly [string, ...string[]])[]>>

export type KernelFeature = keyof typeof probes

/** What iproute2, modprobe and iptables say where the kernel has no such thing. */
const LACKS =
  /unknown device type|requested AEAD algorithm not found|not supported|qdisc kind is unknown|no such file or directory|not found in directory|Table does not exist/i

const known = new Map<KernelFeature, boolean>()

/**
 * Has the kernel this? Tried in a namespace of its own, once a process.
 *
 * @throws where the probe fails for another reason (no iproute2, no permission)
 */
export function hasFeature(feature: KernelFeature): boolean {
  const before = known.get(feature)
  if (before !== undefined) return before
  const has = probe(feature)
  known.set(feature, has)
  return has
}

function probe(feature: KernelFeature): boolean {
  using netns = new TestNetns('feature')
  for (const command of probes[feature]) {
    const { status, stderr, error } = spawnSync('nsenter', [`--net=${netns.path}`, ...command], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    if (status === 0) continue
    if (LACKS.test(stderr)) return false
    throw new Error(`cannot tell whether the kernel has ${feature}: ${command.join(' ')}: ${error?.message ?? stderr}`)
  }
  return true
}

/** Why a test that needs these is skipped, or false. Needs root too. */
export function needsKernel(...features: readonly KernelFeature[]): string | false {
  if (needsRoot !== false) return needsRoot
  const lacking = features.filter((feature) => !hasFeature(feature))
  return lacking.length === 0 ? false : `kernel lacks ${lacking.join(', ')}: runs in test/vm`
}
