/**
 * Which traffic leaves with the node's address, and that pods may be forwarded: flannel's iptables rules in a table of our own.
 *
 * Their meaning is that of flannel's iptables mode. Its nftables mode tests the whole mark and returns for traffic from outside to
 * other nodes' pods before the rule that should masquerade it; both are not repeated here.
 */

import type { Family } from '#ip/address.ts'
import { hookPriority, type Rule, type Table } from '#nft/table.ts'
import type { Desired } from '#state/entry.ts'
import { localFamilies, type Local, type LocalFamily } from './local.ts'

export const MASQUERADE_TABLE = 'heddle_flannel'

const OWNER = 'flannel/masquerade'

/** Set by kube-proxy on what it will masquerade itself. */
const KUBE_MARK = '0x00004000'

const WORD = { 4: 'ip', 6: 'ip6' } as const satisfies Record<Family, string>
const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const satisfies Record<Family, string>

/** The table as it should be for this node; one for both families. None where it would be empty. */
export function masqueradePlan(local: Local): Desired[] {
  const families = localFamilies(local).flatMap((family) => {
    const own = local[family]
    return own === undefined ? [] : [{ family, own }]
  })
  if (!local.ipMasq && !local.forwardRules) return []
  const table: Table = {
    family: 'inet',
    name: MASQUERADE_TABLE,
    sets: [],
    chains: [
      ...(local.ipMasq
        ? [
            {
              name: 'postrouting',
              base: { type: 'nat', hook: 'postrouting', priority: hookPriority.srcnat } as const,
              rules: [
                rule(`meta mark & ${KUBE_MARK} == ${KUBE_MARK} return`, 'masqueraded by kube-proxy'),
                ...families.flatMap(({ family, own }) => masqueradeRules(family, own, local.randomFully)),
              ],
            },
          ]
        : []),
      ...(local.forwardRules
        ? [
            {
              name: 'forwarding',
              base: { type: 'filter', hook: 'forward', priority: hookPriority.filter } as const,
              rules: families.flatMap(({ family, own }) => [
                rule(`${WORD[family]} saddr ${own.network} accept`, 'from pods'),
                rule(`${WORD[family]} daddr ${own.network} accept`, 'to pods'),
              ]),
            },
          ]
        : []),
    ],
  }
  return [{ entry: { kind: 'nft', table }, origin: { owner: OWNER, reason: `node/${local.node}` } }]
}

function masqueradeRules(family: Family, { network, subnet }: LocalFamily, randomFully: boolean): Rule[] {
  const ip = WORD[family]
  const masquerade = randomFully ? 'masquerade fully-random' : 'masquerade'
  return [
    rule(`${ip} saddr ${subnet} ${ip} daddr ${network} return`, 'own pods to pods'),
    rule(`${ip} saddr ${network} ${ip} daddr ${subnet} return`, 'pods to own pods'),
    rule(`${ip} saddr != ${network} ${ip} daddr ${subnet} return`, 'outside to own pods'),
    rule(`${ip} saddr ${network} ${ip} daddr != ${MULTICAST[family]} ${masquerade}`, 'pods to outside'),
    rule(`${ip} saddr != ${network} ${ip} daddr ${network} ${masquerade}`, 'outside to pods of other nodes'),
  ]
}

const rule = (text: string, reason: string): Rule => ({ text, owner: OWNER, reason })
