/** Options of the vxlan backend. Source: flannel's Documentation/backends.md. */

import * as v from 'valibot'

import { Flag, Mtu, readOptions, whole } from '../backend-options.ts'
import type { Folded } from '../fold.ts'

export interface VxlanConf {
  readonly type: 'vxlan'
  readonly vni: number
  /** UDP destination port; a written 0 means the kernel's 8472. */
  readonly port: number
  /** MTU of the underlay, where it must not be that of the underlay interface. */
  readonly mtu?: number
  readonly gbp: boolean
  readonly learning: boolean
  /** A plain route to peers that are on-link. */
  readonly directRouting: boolean
}

/** The kernel's own default, older than the 4789 that IANA assigned. */
export const LINUX_VXLAN_PORT = 8472

const Vxlan = v.object({
  vni: v.optional(whole(0xff_ffff), 1),
  port: v.optional(whole(65_535), 0),
  mtu: Mtu,
  gbp: Flag,
  learning: Flag,
  directrouting: Flag,
  // The next two concern flannel on Windows only. They are checked, so that a slip of the pen is seen on the nodes that run Linux too.
  macprefix: v.optional(
    v.pipe(
      v.string('expected text'),
      v.regex(
        /^[0-9a-f][26ae]-[0-9a-f]{2}$/i,
        'expected two bytes of a locally administered MAC address, such as "0E-2A"',
      ),
    ),
  ),
  name: v.optional(v.string('expected text')),
})

export function vxlanConf(folded: Folded): VxlanConf {
  const { vni, port, mtu, gbp, learning, directrouting } = readOptions(Vxlan, folded)
  return {
    type: 'vxlan',
    vni,
    port: port === 0 ? LINUX_VXLAN_PORT : port,
    ...(mtu === 0 ? {} : { mtu }),
    gbp,
    learning,
    directRouting: directrouting,
  }
}
