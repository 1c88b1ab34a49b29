/** Generic netlink: families by name, and messages of theirs. Source: linux/genetlink.h. Like `genl ctrl get name NAME`. */

import { attr, attributes } from '#codec/attributes.ts'
import type { Writer } from '#codec/buffer.ts'
import { cstring, pad, u16, u32, u8 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { ERRNO } from '#sys/errno.ts'
import { NETLINK } from './constants.ts'
import type { Message } from './message.ts'
import { NetlinkSocket, type SocketOptions } from './socket.ts'

/** GENL_ID_CTRL: the family that knows the others. */
const CONTROLLER = 0x10
const CTRL_CMD_GETFAMILY = 3

export const genlmsghdr = struct('genlmsghdr', { command: u8, version: u8, _reserved: pad(2) })

/** CTRL_ATTR_*. */
const controllerAttributes = attributes('controller', {
  id: attr(1, u16),
  name: attr(2, cstring(16)),
  version: attr(3, u32),
})

/** A family's number is given out when its module is loaded: it is true until the next boot, or until the module goes. */
export interface GenlFamily {
  readonly id: number
  readonly version: number
}

export const openGenl = (options: Omit<SocketOptions, 'family'> = {}): NetlinkSocket =>
  NetlinkSocket.open({ ...options, family: NETLINK.GENERIC })

/** Undefined where the kernel has no such family, and no module that it could load for it. Throws NetlinkError. */
export function findFamily(socket: NetlinkSocket, name: string): GenlFamily | undefined {
  const message = genlMessage({ id: CONTROLLER, version: 1 }, CTRL_CMD_GETFAMILY, {
    op: () => `genl ctrl get name ${name}`,
    write: (w) => controllerAttributes.write(w, { name }),
  })
  return socket.find(
    message,
    (payload) => {
      genlmsghdr.read(payload)
      const { id, version } = controllerAttributes.read(payload)
      return id === undefined ? undefined : { id, version: version ?? 1 }
    },
    ERRNO.ENOENT,
  )
}

/** One message of a family; `write` appends its attributes. */
export function genlMessage(
  family: GenlFamily,
  command: number,
  { op, write }: { readonly op: () => string; readonly write: (w: Writer) => void },
): Message {
  return {
    op,
    type: family.id,
    flags: 0,
    write(w) {
      genlmsghdr.write(w, { command, version: family.version })
      write(w)
    },
  }
}
