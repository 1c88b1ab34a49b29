/** The plugins that change what an earlier one made. What is there before them is made by hand, so that each is judged alone. */

import { demand, type Trial } from '../trial.ts'
import type { Pod } from '../pod.ts'
import { readResult, type ReadResult } from '../shape.ts'
import type { Subject } from '../subject.ts'
import { inPod, rulesDamage, wrong } from './damage.ts'

/** The bridge that pods made by hand are on. */
async function withBridge(trial: Trial): Promise<void> {
  const ip = (...args: string[]): Promise<string> => trial.machine.do('ip', ...args)
  await ip('link', 'add', 'byhand0', 'type', 'bridge')
  await ip('address', 'add', '10.99.0.1/24', 'dev', 'byhand0')
  await ip('link', 'set', 'byhand0', 'up')
}

export const hostEndOf = (pod: Pod): string => `veth00${pod.n}`
export const addressOf = (pod: Pod): string => `10.99.0.${pod.n + 10}`

/** A pod as the bridge plugin would leave it, and what it would have answered. */
export async function plugged(trial: Trial, pod: Pod): Promise<ReadResult> {
  const host = hostEndOf(pod)
  const ip = (...args: string[]): Promise<string> => trial.machine.do('ip', ...args)
  const name = pod.netns.slice('/run/netns/'.length)
  await ip('link', 'add', host, 'type', 'veth', 'peer', 'name', pod.ifname, 'netns', name)
  await ip('link', 'set', host, 'master', 'byhand0', 'up')
  await inPod(trial, pod, 'address', 'add', `${addressOf(pod)}/24`, 'dev', pod.ifname)
  await inPod(trial, pod, 'link', 'set', pod.ifname, 'up')
  await inPod(trial, pod, 'route', 'add', 'default', 'via', '10.99.0.1')
  const links: unknown = JSON.parse(await trial.machine.in(pod.netns, 'ip', '-j', 'link', 'show', pod.ifname))
  const mac = Array.isArray(links) && typeof links[0]?.['address'] === 'string' ? links[0]['address'] : ''
  return {
    interfaces: [{ name: 'byhand0' }, { name: host }, { name: pod.ifname, mac, sandbox: pod.netns }],
    ips: [{ address: `${addressOf(pod)}/24`, gateway: '10.99.0.1', interface: 2 }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.99.0.1' }],
  }
}

const chained = {
  role: 'chained',
  makesLink: false,
  keepsState: true,
  oldest: '0.3.0',
  prepare: withBridge,
  before: plugged,
  after: (t: Trial, pod: Pod) => t.machine.run(['ip', 'link', 'delete', hostEndOf(pod)]),
} as const

const mapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }

const portmapOf = (type: string, backend: 'iptables' | 'nftables' | undefined): Subject => ({
  ...chained,
  type,
  conf: (n) => ({
    type,
    capabilities: { portMappings: true },
    ...(backend === undefined ? {} : { backend }),
    runtimeConfig: {
      portMappings: [
        { ...mapping, hostPort: 8080 + n },
        { ...mapping, hostPort: 8080 + n, protocol: 'udp' },
      ],
    },
  }),
  damages: [{ ...rulesDamage, basis: 'REF' }],
  refusals: [
    wrong('host-port', 'a hostPort above 65535', {
      runtimeConfig: { portMappings: [{ ...mapping, hostPort: 70_000 }] },
    }),
    wrong('container-port', 'containerPort 0', { runtimeConfig: { portMappings: [{ ...mapping, containerPort: 0 }] } }),
    wrong(
      'protocol',
      'a protocol that there is not',
      { runtimeConfig: { portMappings: [{ ...mapping, protocol: 'ospf' }] } },
      'OPS',
    ),
    wrong(
      'host-ip',
      'a hostIP that is no address',
      { runtimeConfig: { portMappings: [{ ...mapping, hostIP: 'here' }] } },
      'OPS',
    ),
    wrong('mark-bit', 'markMasqBit 32', { markMasqBit: 32 }),
    wrong('mark-both', 'markMasqBit together with externalSetMarkChain', {
      backend: 'iptables',
      markMasqBit: 5,
      externalSetMarkChain: 'KUBE-MARK-MASQ',
    }),
    wrong('backend', 'a backend that there is not', { backend: 'ebpf' }),
  ],
})

export const portmap: Subject = portmapOf('portmap', undefined)

export const firewall: Subject = {
  ...chained,
  type: 'firewall',
  oldest: '0.4.0',
  conf: () => ({ type: 'firewall' }),
  damages: [{ ...rulesDamage, basis: 'REF' }],
  refusals: [
    wrong('policy', 'an ingressPolicy that there is not', { ingressPolicy: 'closed' }),
    wrong('backend', 'a backend that there is not', { backend: 'ebpf' }),
  ],
}

export const bandwidth: Subject = {
  ...chained,
  type: 'bandwidth',
  conf: () => ({
    type: 'bandwidth',
    capabilities: { bandwidth: true },
    ingressRate: 8_000_000,
    ingressBurst: 800_000,
    egressRate: 8_000_000,
    egressBurst: 800_000,
  }),
  damages: [
    {
      id: 'ingress-gone',
      what: 'the limit towards the pod was removed',
      basis: 'REF',
      apply: (t, pod) => t.machine.do('tc', 'qdisc', 'delete', 'dev', hostEndOf(pod), 'root'),
    },
    {
      id: 'ifb-gone',
      what: 'the device of the limit from the pod was removed',
      basis: 'REF',
      apply: async (t, pod) => {
        const { interfaces } = readResult(pod.result ?? {})
        const ifb = interfaces.find(({ name }) => name.startsWith('bwp'))
        demand(ifb !== undefined, 'the result names no device bwp…')
        await t.machine.do('ip', 'link', 'delete', ifb.name)
      },
    },
  ],
  refusals: [
    wrong('no-burst', 'a rate without a burst', { ingressBurst: 0 }),
    wrong('no-rate', 'a burst without a rate', { egressRate: 0 }),
    wrong('burst-range', 'a burst above 4 GiB', { ingressBurst: 2 ** 36 }),
    wrong('negative', 'a negative rate', { ingressRate: -1 }),
  ],
}

const forwarding = 'net.ipv4.conf.IFNAME.arp_filter'

export const tuning: Subject = {
  ...chained,
  type: 'tuning',
  conf: (n) => ({
    type: 'tuning',
    sysctl: { [forwarding]: '1' },
    mac: `02:00:00:00:01:${String(n).padStart(2, '0')}`,
    mtu: 1400,
    promisc: true,
    allmulti: true,
    txQLen: 500,
  }),
  damages: [
    {
      id: 'sysctl-changed',
      what: 'its sysctl was changed back',
      basis: 'REF',
      apply: (t, pod) => t.machine.in(pod.netns, 'sysctl', '-qw', `net.ipv4.conf.${pod.ifname}.arp_filter=0`),
    },
    {
      id: 'mac-changed',
      what: 'the MAC was changed',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'address', '02:00:00:00:00:99'),
    },
    {
      id: 'mtu-changed',
      what: 'the MTU was changed',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'mtu', '1300'),
    },
    {
      id: 'promisc-off',
      what: 'promiscuous mode was switched off',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'promisc', 'off'),
    },
    {
      id: 'allmulti-off',
      what: 'reception of all multicast was switched off',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'allmulticast', 'off'),
    },
    {
      id: 'queue-changed',
      what: 'the length of the queue was changed',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'txqueuelen', '700'),
    },
  ],
  refusals: [
    wrong('outside-net', 'a sysctl outside of net', { sysctl: { 'kernel.hostname': 'x' } }),
    wrong('traversal', 'a sysctl that climbs out of /proc/sys/net', { sysctl: { 'net/../kernel/hostname': 'x' } }),
    wrong('twice', 'one sysctl under two names', {
      sysctl: { 'net.ipv4.ip_forward': '1', 'net/ipv4/ip_forward': '0' },
    }),
    wrong('absent', 'a sysctl that the kernel does not have', { sysctl: { 'net.ipv4.no_such_thing': '1' } }),
    wrong('mac', 'a MAC that is none', { mac: 'zz:00:00:00:00:01' }),
    wrong('mtu', 'an MTU that the kernel refuses', { mtu: 10 }),
  ],
}

export const sbr: Subject = {
  ...chained,
  type: 'sbr',
  conf: () => ({ type: 'sbr' }),
  damages: [
    {
      id: 'rule-gone',
      what: 'its rule was removed',
      basis: 'OPS',
      apply: (t, pod) => inPod(t, pod, 'rule', 'delete', 'from', addressOf(pod)),
    },
    {
      id: 'table-flushed',
      what: "its table's routes were removed",
      basis: 'OPS',
      apply: async (t, pod) => {
        const rules = await t.machine.in(pod.netns, 'ip', 'rule', 'show')
        const table = /lookup (\d+)/.exec(rules)?.[1]
        demand(table !== undefined, 'no rule leads to a table of its own')
        await inPod(t, pod, 'route', 'flush', 'table', table)
      },
    },
  ],
  refusals: [wrong('table', 'a table that is text', { table: 'main' })],
}

export const vrf: Subject = {
  ...chained,
  type: 'vrf',
  oldest: '0.3.1',
  needs: ['vrf'],
  conf: () => ({ type: 'vrf', vrfname: 'blue' }),
  damages: [
    {
      id: 'freed',
      what: 'the interface was taken out of its VRF',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'nomaster'),
    },
    {
      id: 'vrf-gone',
      what: 'the VRF was deleted',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'delete', 'blue'),
    },
  ],
  refusals: [wrong('no-name', 'no vrfname', { vrfname: undefined })],
}
