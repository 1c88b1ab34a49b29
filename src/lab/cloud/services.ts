/** Services in front of the pods, as kube-proxy programs them on every node: one address for each pod, TCP and UDP. */

import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { ensureTable } from '#nft/ensure.ts'
import { hookPriority, type Rule, type Table } from '#nft/table.ts'
import { openNft } from '#nft/transaction.ts'
import { observeEth0 } from '../observe.ts'
import { netnsPath } from '../paths.ts'
import { POD_PORT, podsOf, type LabPlan } from '../plan.ts'
import { serviceIp } from './plan.ts'

/** On every node: `nft list table ip lab_services`. */
export const SERVICES = { family: 'ip', name: 'lab_services' } as const

export interface Endpoint {
  readonly pod: string
  readonly ip: IpText
}

/** What comes from pods is translated as it arrives, what the node itself sends as it leaves. */
export function servicesTable(endpoints: readonly Endpoint[]): Table {
  const rules = endpoints.map(({ pod, ip }): Rule => ({
    text: `ip daddr ${serviceIp(pod)} meta l4proto { tcp, udp } th dport ${POD_PORT} dnat to ${ip}`,
    owner: 'lab',
    reason: `service of ${pod}`,
  }))
  const chain = (hook: 'prerouting' | 'output'): Table['chains'][number] => ({
    name: `${hook}_services`,
    base: { type: 'nat', hook, priority: hookPriority.dstnat },
    rules,
  })
  return { ...SERVICES, sets: [], chains: [chain('prerouting'), chain('output')] }
}

/** Writes them on every node, for the addresses that pods have now. */
export async function programServices(plan: LabPlan): Promise<void> {
  const endpoints = podsOf(plan).flatMap((pod): Endpoint[] => {
    const ip = observeEth0(pod.namespace)?.ips.find((one) => familyOf(one) === 4)
    return ip === undefined ? [] : [{ pod: pod.name, ip }]
  })
  for (const node of plan.nodes) {
    using nft = openNft({ netns: netnsPath(node.namespace) })
    await ensureTable(nft, servicesTable(endpoints))
  }
}
