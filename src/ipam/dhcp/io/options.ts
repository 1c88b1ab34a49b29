/** Socket options of datagram sockets that belong to one link. */

import { SO, SOL } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'
import { int32 } from '#netlink/options.ts'

const SO_REUSEADDR = 2
const SO_BROADCAST = 6
const SO_BINDTODEVICE = 25
/** What waits to be read. A flood of frames then costs no memory of ours. */
const RECEIVE_BYTES = 65_536

/** The socket hears and speaks over this link only. Another program of the pod may use the same port. Throws `SysError`. */
export function bindToLink(fd: number, ifname: string, sys: Sys): void {
  const set = (name: number, value: Uint8Array): void =>
    void check(sys.setsockopt(fd, SOL.SOCKET, name, value), 'setsockopt', `SOL_SOCKET ${name}`)
  set(SO_BINDTODEVICE, Buffer.from(`${ifname}\0`))
  set(SO_REUSEADDR, int32(1))
  set(SO_BROADCAST, int32(1))
  set(SO.RCVBUF, int32(RECEIVE_BYTES))
}

export const boundBuffer = (fd: number, sys: Sys): number =>
  check(sys.setsockopt(fd, SOL.SOCKET, SO.RCVBUF, int32(RECEIVE_BYTES)), 'setsockopt', 'SO_RCVBUF')
