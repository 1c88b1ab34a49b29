/**
 * Which sysctls a configuration may set. A network's configuration may come from whoever may write in a namespace of the cluster (NetworkAttachmentDefinition), so
 * without the operator's own list only those pass that change nothing outside of the pod.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { invalidConfig, messageOf, unsupportedField } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { hasCode } from '#sys/errno.ts'
import { goRegExp } from './go-regexp.ts'

/** The reference plugin's: one regular expression a line. Where the file is, it decides alone. */
const FILE = '/etc/cni/tuning/allowlist.conf'

/**
 * Of each network namespace its own, by the kernel's Documentation/networking/ip-sysctl.rst. Left out, though they are: limits of memory that the host pays for
 * (fragments, routes, neighbours, connection tables), and what makes a pod answer for others on a shared link (proxy_arp, proxy_ndp, bootp_relay).
 */
const SAFE: readonly RegExp[] = [
  /^net\/core\/(somaxconn|txrehash|tstamp_allow_data)$/,
  // The names of tcp_mem and of the lists of algorithms stand for one value of the whole machine.
  /^net\/ipv4\/tcp_(?!mem$|max_orphans$|max_tw_buckets$|(allowed|available)_congestion_control$|\w*hash_entries$)\w+$/,
  /^net\/ipv4\/udp_(early_demux|l3mdev_accept|rmem_min|wmem_min)$/,
  /^net\/ipv4\/(icmp|igmp)_\w+$/,
  /^net\/ipv4\/ip_(autobind_reuse|default_ttl|dynaddr|early_demux|forward|forward_update_priority|forward_use_pmtu)$/,
  /^net\/ipv4\/ip_(local_port_range|local_reserved_ports|no_pmtu_disc|nonlocal_bind|unprivileged_port_start)$/,
  /^net\/ipv4\/(ping_group_range|fwmark_reflect|raw_l3mdev_accept|fib_multipath_\w+)$/,
  /^net\/ipv4\/conf\/[^/]+\/(?!proxy_arp|bootp_relay$|mc_forwarding$|medium_id$)\w+$/,
  /^net\/ipv4\/neigh\/[^/]+\/(?!gc_)\w+$/,
  /^net\/ipv6\/(anycast_src_echo_reply|auto_flowlabels|bindv6only|flowlabel_\w+|fwmark_reflect|idgen_\w+|ip_nonlocal_bind)$/,
  /^net\/ipv6\/(fib_multipath_\w+|max_(dst|hbh)_\w+|mld_\w+|seg6_flowlabel|icmp\/\w+)$/,
  /^net\/ipv6\/conf\/[^/]+\/(?!proxy_ndp$|mc_forwarding$)\w+$/,
  /^net\/ipv6\/neigh\/[^/]+\/(?!gc_)\w+$/,
  /^net\/netfilter\/nf_conntrack_(acct|checksum|events|helper|timestamp|generic_timeout)$/,
  /^net\/netfilter\/nf_conntrack_(gre|icmp|icmpv6|udp)_timeout\w*$/,
  /^net\/netfilter\/nf_conntrack_(tcp|sctp|dccp)_\w+$/,
  /^net\/unix\/max_dgram_qlen$/,
  /^net\/(mptcp|sctp)\/\w+$/,
]

export const isSafe = (path: string): boolean => SAFE.some((pattern) => pattern.test(path))

/** A sysctl that a configuration asks for. */
export interface Asked {
  /** As it is written, IFNAME included. */
  readonly key: string
  /** Below /proc/sys, with slashes. */
  readonly path: string
}

/** Throws CniError 2 naming the first that is not allowed, 7 for a list that is none. */
export function refuseUnsafe(host: PluginHost, what: string, asked: readonly Asked[]): void {
  if (asked.length === 0) return
  const file = join(host.root, FILE)
  const list = operatorsList(file)
  const isAllowed = ({ key, path }: Asked): boolean =>
    list === undefined ? isSafe(path) : list.some((expression) => expression.test(key) || expression.test(dotted(path)))
  const refused = asked.find((one) => !isAllowed(one))
  if (refused === undefined) return
  throw unsupportedField(
    `${what}: sysctl ${JSON.stringify(refused.key.slice(0, 128))} is not allowed`,
    list === undefined
      ? `it may reach beyond the pod: an administrator who wants it lists all that are allowed in ${FILE}, as regular expressions`
      : `no line of ${FILE} matches it`,
  )
}

/** In sysctl(8)'s usual notation, whatever the configuration's is. */
const dotted = (path: string): string => path.replace(/[./]/g, (c) => (c === '/' ? '.' : '/'))

/** Undefined where there is no file. */
function operatorsList(file: string): readonly RegExp[] | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
  const lines = text.split('\n').map((line) => line.trim())
  return lines.flatMap((line, index) => (line === '' ? [] : compile(line, `${file}, line ${index + 1}`)))
}

function compile(line: string, where: string): RegExp {
  try {
    return goRegExp(line)
  } catch (error) {
    throw invalidConfig(`${where} is no regular expression: ${JSON.stringify(line.slice(0, 128))}`, messageOf(error))
  }
}
