/** The port id of a netlink socket: what its messages bear as their sender. */

import { LITTLE } from '#codec/buffer.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import type { NetlinkSocket } from './socket.ts'

/** A netlink socket's port, its sender's address; bound now when it has sent nothing yet. Source: struct sockaddr_nl. */
export function portOf(socket: NetlinkSocket): number {
  const sys = nativeSys()
  const address = new DataView(new ArrayBuffer(12))
  const bytes = new Uint8Array(address.buffer)
  const read = (): number => {
    check(sys.getsockname(socket.fd, bytes), 'getsockname', 'netlink')
    return address.getUint32(4, LITTLE)
  }
  const port = read()
  if (port !== 0) return port
  address.setUint16(0, AF.NETLINK, LITTLE)
  address.setUint32(8, 0, LITTLE)
  check(sys.bind(socket.fd, bytes), 'bind', 'netlink')
  return read()
}
