/** A device's offload features, by generic netlink. Like `ethtool -k DEV`. Source: linux/ethtool_netlink.h. */

import { attr, attributes, many, nest } from '#codec/attributes.ts'
import { cstring, flag, u32 } from '#codec/codec.ts'
import { ERRNO } from '#sys/errno.ts'
import { findFamily, genlmsghdr, genlMessage } from './genl.ts'
import type { NetlinkSocket } from './socket.ts'

/** ETHTOOL_MSG_FEATURES_GET. */
const FEATURES_GET = 11

const header = attributes('ethtool header', { devName: attr(2, cstring(16)) })
const bit = attributes('ethtool bit', { index: attr(1, u32), name: attr(2, cstring(64)), value: attr(3, flag) })
const bits = attributes('ethtool bits', { bit: many(1, bit) })
const bitset = attributes('ethtool bitset', { noMask: attr(1, flag), size: attr(2, u32), bits: attr(3, bits) })
const features = attributes('ethtool features', { header: nest(1, header), active: attr(4, bitset) })

/** The names of the features that are on; undefined where the kernel speaks no ethtool netlink (before 5.6), or has no such device. Throws NetlinkError. */
export function activeFeatures(socket: NetlinkSocket, dev: string): ReadonlySet<string> | undefined {
  const family = findFamily(socket, 'ethtool')
  if (family === undefined) return undefined
  const message = genlMessage(family, FEATURES_GET, {
    op: () => `ethtool -k ${dev}`,
    write: (w) => features.write(w, { header: { devName: dev } }),
  })
  return socket.find(
    message,
    (payload) => {
      genlmsghdr.read(payload)
      const { active } = features.read(payload)
      const found = (active?.bits?.bit ?? []).filter(({ value }) => active?.noMask === true || value === true)
      return new Set(found.flatMap(({ name }) => name ?? []))
    },
    ERRNO.ENODEV,
  )
}
