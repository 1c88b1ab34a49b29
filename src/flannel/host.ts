/** What any backend needs of the node itself. */

import type { Desired, Entry } from '#state/entry.ts'
import { localFamilies, type Local } from './local.ts'

/** Forwarding between interfaces, for each family in use. */
export function hostPlan(local: Local): Desired[] {
  const keys = { 4: 'net/ipv4/ip_forward', 6: 'net/ipv6/conf/all/forwarding' } as const
  return localFamilies(local).map((family) => {
    const entry: Entry = { kind: 'sysctl', key: keys[family], value: '1' }
    return { entry, origin: { owner: 'flannel/host', reason: `node/${local.node}` } }
  })
}
