/** Settings of the kernel that a pod network cannot do without. */

import { familyOf } from '#ip/prefix.ts'
import { podNetworks, type Facts } from '../facts.ts'
import { fine, unknown, wrong, type Finding } from '../finding.ts'
import { tunnels } from '../tunnels.ts'

const settings = { 4: 'net/ipv4/ip_forward', 6: 'net/ipv6/conf/all/forwarding' } as const

const dotted = (key: string): string => key.replaceAll('/', '.')

/** Like `sysctl net.ipv4.ip_forward`. IPv6 counts where pods have it. */
export function forwarding(facts: Facts): readonly Finding[] {
  const families = new Set([4 as const, ...podNetworks(facts).map(familyOf)])
  return [...families].map((family) => {
    const key = settings[family]
    const value = facts.sysctls.get(key)
    if (value === undefined) return unknown('forwarding', `${dotted(key)} cannot be read`)
    const evidence = `${dotted(key)} = ${value}`
    if (value !== '0') return fine('forwarding', evidence)
    const cause = { code: 'forwarding-off', family: `IPv${family}` } as const
    return wrong('forwarding', 'problem', cause, [evidence], [`sysctl -w ${dotted(key)}=1`])
  })
}

/** Without it packets between pods of one bridge pass by the rules of services: answers come from an address that nobody asked. */
export function bridgeFilter(facts: Facts): readonly Finding[] {
  const key = 'net/bridge/bridge-nf-call-iptables'
  const value = facts.sysctls.get(key)
  if (value === undefined) {
    const commands = ['modprobe br_netfilter', `sysctl -w ${dotted(key)}=1`]
    const evidence = [`there is no ${dotted(key)}: br_netfilter is not loaded`]
    return [wrong('bridge-filter', 'warning', { code: 'bridge-filter-missing' }, evidence, commands)]
  }
  const evidence = `${dotted(key)} = ${value}`
  if (value !== '0') return [fine('bridge-filter', evidence)]
  const cause = { code: 'bridge-filter-off', key: dotted(key) } as const
  return [wrong('bridge-filter', 'warning', cause, [evidence], [`sysctl -w ${dotted(key)}=1`])]
}

/** The kernel takes the larger of `all` and the device's own (ip-sysctl.rst); 1 is strict. */
export function reversePath(facts: Facts): readonly Finding[] {
  const all = Number(facts.sysctls.get('net/ipv4/conf/all/rp_filter') ?? 0)
  const devices = tunnels(facts).map(({ name }) => name)
  const values = devices.map((dev) => {
    const own = Number(facts.sysctls.get(`net/ipv4/conf/${dev}/rp_filter`) ?? 0)
    return { dev, own, effective: Math.max(all, own) }
  })
  const strict = values.filter(({ effective }) => effective === 1)
  if (strict.length === 0) {
    return [fine('reverse-path', `net.ipv4.conf.all.rp_filter = ${all}`)]
  }
  return strict.map(({ dev, own }) => {
    const evidence = `net.ipv4.conf.all.rp_filter = ${all}, of ${dev} ${own}`
    const cause = { code: 'reverse-path-strict', dev } as const
    return wrong(
      'reverse-path',
      'warning',
      cause,
      [evidence],
      [`sysctl -w net.ipv4.conf.${dev.replaceAll('.', '/')}.rp_filter=2`],
    )
  })
}

/** New connections are dropped when the table is full; nine tenths are a warning. */
export function conntrack({ sysctls }: Facts): readonly Finding[] {
  const used = sysctls.get('net/netfilter/nf_conntrack_count')
  const most = sysctls.get('net/netfilter/nf_conntrack_max')
  if (used === undefined || most === undefined) return [unknown('conntrack', 'connection tracking is not loaded')]
  const evidence = `nf_conntrack_count = ${used}, nf_conntrack_max = ${most}`
  if (Number(used) < Number(most) * 0.9) return [fine('conntrack', evidence)]
  const commands = [`sysctl -w net.netfilter.nf_conntrack_max=${Number(most) * 2}`]
  return [
    wrong(
      'conntrack',
      Number(used) < Number(most) ? 'warning' : 'problem',
      { code: 'conntrack-full', used, most },
      [evidence],
      commands,
    ),
  ]
}

/** A neighbour table that is full drops packets ("neighbour: arp_cache: neighbor table overflow!"). */
export function neighbours({ sysctls, neighbours: count }: Facts): readonly Finding[] {
  return ([4, 6] as const).flatMap((family) => {
    const key = `net/ipv${family}/neigh/default/gc_thresh3`
    const most = sysctls.get(key)
    if (most === undefined) return []
    const evidence = `${count[family]} IPv${family} neighbours, ${dotted(key)} = ${most}`
    if (count[family] < Number(most) * 0.9) return [fine('neighbours', evidence)]
    const cause = { code: 'neighbours-full', key: dotted(key), used: String(count[family]), most } as const
    return [wrong('neighbours', 'warning', cause, [evidence], [`sysctl -w ${dotted(key)}=${Number(most) * 4}`])]
  })
}
