/** The VRF itself: a device in the pod that stands for a routing table, and who belongs to it. */

import { invalidConfig, unsupportedField } from '#cni/errors.ts'
import { createLinkMessage, findLink, kindOf, listLinks, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listRoutes } from '#netlink/route.ts'
import { listRules } from '#netlink/rule.ts'
import { hasCode } from '#sys/errno.ts'
import type { Pod } from '../link/pod.ts'
import type { Undo } from '../link/undo.ts'
import { removeLink, sendAll } from '../link/veth.ts'
import { SHARED_TABLES, type VrfConf } from './config.ts'

export interface Vrf {
  readonly index: number
  readonly name: string
  readonly table: number
  readonly alias: string | undefined
}

/** That a VRF is made by CNI: it goes with its last member. The reference plugin's has no mark. */
const ALIAS = 'heddle:vrf'

export const isOurs = ({ alias }: Vrf): boolean => alias === ALIAS
/** By somebody whose marks we do not know: not one of the pod's own that says so. */
export const isUnmarked = ({ alias }: Vrf): boolean => alias === undefined

export function asVrf(link: Link | undefined): Vrf | undefined {
  if (link?.info?.kind !== 'vrf') return undefined
  const { index, name, alias, info } = link
  return { index, name, alias, table: info.data?.table ?? 0 }
}

/** The one that the configuration names, made if there is none. Throws CniError 7 for another table or another kind of link, 2 where the kernel has no VRF. */
export function ensureVrf(pod: Pod, { what, name, table }: VrfConf, undo: Undo): Vrf {
  const there = findLink(pod.netlink, name)
  if (there === undefined) return makeVrf(pod, { what, name, table: table ?? freeTable(pod) }, undo)
  const vrf = asVrf(there)
  if (vrf === undefined)
    throw invalidConfig(`${what}: "vrfname" ${name} is a ${kindOf(there) ?? 'device'} in ${pod.path}`, 'choose another')
  if (table === undefined || vrf.table === table) return vrf
  throw invalidConfig(`${what}: "table" is ${table}`, `the VRF ${name} in ${pod.path} has table ${vrf.table} already`)
}

function makeVrf(pod: Pod, { what, name, table }: Required<VrfConf> & { table: number }, undo: Undo): Vrf {
  try {
    sendAll(
      pod.netlink,
      [
        createLinkMessage({ name, up: true, info: { kind: 'vrf', data: { table } } }),
        setLinkMessage(name, { alias: ALIAS }),
      ],
      () => undo.add(`VRF ${name}`, () => removeLink(pod.netlink, name)),
    )
  } catch (error) {
    if (!hasCode(error, 'EOPNOTSUPP')) throw error
    const why = 'modprobe vrf, or CONFIG_NET_VRF'
    throw unsupportedField(`${what}: a VRF cannot be made: this kernel has none`, why, { cause: error })
  }
  const vrf = asVrf(findLink(pod.netlink, name))
  if (vrf === undefined) throw invalidConfig(`${what}: ${name} vanished from ${pod.path} while it was set up`)
  return vrf
}

/** The lowest that no VRF has, as the reference; and that nothing else in the pod uses. */
function freeTable({ netlink }: Pod): number {
  const taken = new Set([
    ...SHARED_TABLES,
    ...listLinks(netlink, { kind: 'vrf' }).map((link) => asVrf(link)?.table),
    ...listRules(netlink).map(({ table }) => table),
    ...listRoutes(netlink).map(({ table }) => table),
  ])
  let table = 1
  while (taken.has(table)) table++
  return table
}

export const membersOf = ({ netlink }: Pod, { index }: Vrf): readonly Link[] => listLinks(netlink, { master: index })
