/** What any backend needs of the node itself. */

import { MAIN_TABLE, type Desired, type Entry } from '#state/entry.ts'
import { localFamilies, type Local } from './local.ts'

const FORWARDING = { 4: 'net/ipv4/ip_forward', 6: 'net/ipv6/conf/all/forwarding' } as const

/** The last choice of the kernel: any other route to the same destination is taken before it. */
const LAST = 0xffff_ffff

/** Forwarding between interfaces, for each family in use; and the end of packets to pods that are not there, where it is wished for. */
export function hostPlan(local: Local): Desired[] {
  const origin = { owner: 'flannel/host', reason: `node/${local.node}` }
  return localFamilies(local).flatMap((family) => {
    const own = local[family]
    const entries: Entry[] = [{ kind: 'sysctl', key: FORWARDING[family], value: '1' }]
    if (local.blackhole && own !== undefined)
      entries.push({ kind: 'route', dst: own.subnet, table: MAIN_TABLE, priority: LAST, type: 'blackhole' })
    return entries.map((entry) => ({ entry, origin }))
  })
}
