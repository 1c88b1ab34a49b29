/**
 * A cloud's network as Linux bridges make it: two networks with a router between them and a machine outside, and "VMs" whose ports refuse every source that is not theirs.
 */

import { execFileSync, spawnSync } from 'node:child_process'

import { createNetns, deleteNetns } from '#sys/netns.ts'
import { execIn, NetworkHost, ping } from './network-host.ts'

/** Two networks of one router; the second is "another CIDR". */
export const NETWORKS = [
  { name: 'a', v4: '10.30.0', v6: 'fd30:0:0:a' },
  { name: 'b', v4: '10.40.0', v6: 'fd30:0:0:b' },
] as const
export type NetworkName = (typeof NETWORKS)[number]['name']

export const OUTSIDE = '203.0.113.2'

/** Drops what a port may not send: the filter of Neutron's port security. */
const GUARD = `table bridge guard {
  set macs { type ifname . ether_addr; }
  set ips4 { type ifname . ipv4_addr; }
  set ips6 { type ifname . ipv6_addr; }
  chain ports {
    type filter hook prerouting priority -300; policy accept;
    iifname "tap*" goto port
  }
  chain port {
    iifname . ether saddr != @macs drop
    ether type arp iifname . arp saddr ip != @ips4 drop
    ether type ip iifname . ip saddr != @ips4 drop
    ether type ip6 ip6 saddr { fe80::/10, :: } accept
    ether type ip6 iifname . ip6 saddr != @ips6 drop
  }
}`

/** A virtual machine: its namespace is a host for plugins. */
export class Vm extends NetworkHost {
  readonly tap: string
  readonly mac: string
  readonly v4: string
  readonly v6: string

  constructor(tap: string, mac: string, v4: string, v6: string) {
    super()
    this.tap = tap
    this.mac = mac
    this.v4 = v4
    this.v6 = v6
  }
}

let count = 0

export class CloudLan implements Disposable {
  readonly fabric: string
  readonly router: string
  readonly outside: string
  readonly vms: Vm[] = []

  constructor() {
    const name = `/run/netns/plugins-lan-${process.pid}-${count++}`
    this.fabric = `${name}-fabric`
    this.router = `${name}-router`
    this.outside = `${name}-outside`
    for (const path of [this.fabric, this.router, this.outside]) createNetns(path)
    for (const { name: network, v4, v6 } of NETWORKS) {
      batch(this.fabric, [
        `link add br-${network} type bridge forward_delay 0 mcast_snooping 0`,
        `link set br-${network} up`,
        `link add gw-${network} type veth peer name qr-${network} netns ${this.router.split('/').at(-1)}`,
        `link set gw-${network} master br-${network} up`,
      ])
      batch(this.router, [
        `address add ${v4}.1/24 dev qr-${network}`,
        `address add ${v6}::1/64 dev qr-${network} nodad`,
        `link set qr-${network} up`,
      ])
    }
    batch(this.router, [
      `link add qg type veth peer name eth0 netns ${this.outside.split('/').at(-1)}`,
      'address add 203.0.113.1/24 dev qg',
      'link set qg up',
    ])
    execIn(this.router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
    batch(this.outside, [`address add ${OUTSIDE}/24 dev eth0`, 'link set eth0 up', 'route add default via 203.0.113.1'])
    execIn(this.fabric, 'nft', GUARD)
  }

  /** A machine with one card, `ens3`, whose port allows its own addresses. */
  vm(network: NetworkName): Vm {
    const number = this.vms.length + 10
    const { v4, v6 } = NETWORKS.find(({ name }) => name === network) ?? NETWORKS[0]
    const vm = new Vm(`tap${number}`, `fa:16:3e:00:00:${number}`, `${v4}.${number}`, `${v6}::${number}`)
    this.vms.push(vm)
    const ns = vm.path.split('/').at(-1)
    batch(this.fabric, [
      `link add ${vm.tap} type veth peer name ens3 address ${vm.mac} netns ${ns}`,
      `link set ${vm.tap} master br-${network} up`,
    ])
    batch(vm.path, [
      'link set ens3 up',
      `address add ${vm.v4}/24 dev ens3`,
      `address add ${vm.v6}/64 dev ens3 nodad`,
      `route add default via ${v4}.1`,
      `route add default via ${v6}::1`,
    ])
    execIn(this.fabric, 'nft', `add element bridge guard macs { "${vm.tap}" . ${vm.mac} }`)
    this.allow(vm, vm.v4)
    this.allow(vm, vm.v6)
    return vm
  }

  /** Neutron has given the port another address (fixed_ips, or a pair with another MAC address). */
  allow(vm: Vm, ip: string, mac = ''): void {
    const set = ip.includes(':') ? 'ips6' : 'ips4'
    execIn(this.fabric, 'nft', `add element bridge guard ${set} { "${vm.tap}" . ${ip} }`)
    if (mac !== '') execIn(this.fabric, 'nft', `add element bridge guard macs { "${vm.tap}" . ${mac} }`)
  }

  forbid(vm: Vm, ip: string): void {
    execIn(this.fabric, 'nft', `delete element bridge guard ips4 { "${vm.tap}" . ${ip} }`)
  }

  [Symbol.dispose](): void {
    for (const vm of this.vms) vm[Symbol.dispose]()
    for (const path of [this.fabric, this.router, this.outside]) deleteNetns(path)
  }
}

/** Like `ip -batch`. */
function batch(netns: string, lines: readonly string[]): void {
  execFileSync('nsenter', [`--net=${netns}`, 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** In one of three tries: the first packet may be lost to a neighbour that is asked for. */
export const reaches = async (netns: string, ip: string, ...args: string[]): Promise<boolean> =>
  (await ping(netns, ...args, ip)) || (await ping(netns, ...args, ip)) || ping(netns, ...args, ip)

/** How many packets with a source that is not theirs a machine has let in from its pods; the first call begins to count. */
export function strangers(vm: Vm, from: string): number {
  const listed = spawnSync(
    'nsenter',
    [`--net=${vm.path}`, 'nft', '-j', 'list', 'counter', 'inet', 'strangers', 'seen'],
    {
      encoding: 'utf8',
    },
  )
  if (listed.status === 0) return Number(/"packets": (\d+)/.exec(listed.stdout)?.[1])
  vm.exec(
    'nft',
    `table inet strangers {
      counter seen { }
      chain forward { type filter hook forward priority filter; ip saddr ${from} counter name seen; }
      chain input { type filter hook input priority filter; ip saddr ${from} counter name seen; }
    }`,
  )
  return 0
}

/** Whether the machine drops what a pod sends with an address that is not its own. Proves that it would be seen. */
export async function dropsStrangers(vm: Vm, pod: string, leg: string, to: string): Promise<boolean> {
  const stranger = '10.30.0.99'
  strangers(vm, stranger)
  execIn(pod, 'ip', 'address', 'add', `${stranger}/32`, 'dev', 'lo')
  await ping(pod, '-I', stranger, to)
  const before = strangers(vm, stranger)
  vm.exec('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0', `net.ipv4.conf.${leg}.rp_filter=0`)
  await ping(pod, '-I', stranger, to)
  if (strangers(vm, stranger) === before) throw new Error(`${stranger} never came to ${vm.name}`)
  return before === 0
}
