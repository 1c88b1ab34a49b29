/**
 * The firewall's tables of nftables.
 *
 * An `accept` here overrules no `drop` in another table: it says what this plugin has no objection to. What counts is the isolation, whose drops are final.
 */

import { hookPriority, type Table } from '#nft/table.ts'
import { OWNED } from '../rules/owned.ts'

const rule = (text: string, reason: string) => ({ text, owner: 'firewall', reason })

const SHARED = 'bridges with pods that have an ingress policy'

export const firewallTable: Table = {
  family: 'inet',
  name: 'heddle_cni_firewall',
  comment: 'forwarding to CNI attachments (firewall)',
  sets: [
    { name: 'pods4', key: ['ipv4_addr'], comment: OWNED },
    { name: 'pods6', key: ['ipv6_addr'], comment: OWNED },
    // The pods on which the two below rest.
    { name: 'guarded4', key: ['ifname', 'ipv4_addr'], comment: OWNED },
    { name: 'guarded6', key: ['ifname', 'ipv6_addr'], comment: OWNED },
    { name: 'bridges', key: ['ifname'], comment: SHARED },
    // From a bridge to itself: nftables cannot compare the two names of a packet with each other.
    { name: 'same', key: ['ifname', 'ifname'], comment: SHARED },
  ],
  chains: [
    {
      name: 'between',
      rules: [rule('iifname . oifname @same return', 'within one bridge'), rule('drop', 'ingressPolicy')],
    },
    {
      name: 'isolation',
      base: { type: 'filter', hook: 'forward', priority: hookPriority.filter - 1 },
      rules: [rule('iifname @bridges oifname @bridges goto between', 'between bridges with an ingress policy')],
    },
    {
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority: hookPriority.filter },
      rules: [
        rule('ip daddr @pods4 ct state established,related accept', 'answers to a pod'),
        rule('ip6 daddr @pods6 ct state established,related accept', 'answers to a pod'),
        rule('ip saddr @pods4 accept', 'from a pod'),
        rule('ip6 saddr @pods6 accept', 'from a pod'),
      ],
    },
  ],
}

/** NF_BR_PRI_FILTER_BRIDGED (linux/netfilter_bridge.h). */
const BRIDGE_PRIORITY = -200

/** What a bridge forwards between its own ports never comes to the chains of `inet` unless br_netfilter is there; here it does. */
export const isolationTable: Table = {
  family: 'bridge',
  name: 'heddle_cni_isolation',
  comment: 'pods that the pods of their own bridge do not reach (ingressPolicy isolated)',
  sets: [{ name: 'alone', key: ['ifname'], comment: OWNED }],
  chains: [
    {
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority: BRIDGE_PRIORITY },
      rules: [rule('oifname @alone drop', 'from another port of the bridge to an isolated pod')],
    },
  ],
}
