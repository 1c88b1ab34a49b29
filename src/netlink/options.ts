/** Options of netlink sockets: deadlines, buffers, and how much the kernel says in its answers. */

import { SO, SOL } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'
import { NETLINK_OPTION } from './constants.ts'

const ON = int32(1)

/** What every socket for requests has. */
export function configure(fd: number, timeoutMs: number, sys: Sys): void {
  setTimeouts(fd, timeoutMs, sys)
  for (const option of [NETLINK_OPTION.EXT_ACK, NETLINK_OPTION.CAP_ACK]) {
    check(sys.setsockopt(fd, SOL.NETLINK, option, ON), 'setsockopt', `netlink ${option}`)
  }
  // Only rtnetlink has strict checking of dump requests; it makes the kernel filter.
  sys.setsockopt(fd, SOL.NETLINK, NETLINK_OPTION.GET_STRICT_CHK, ON)
}

/**
 * SO_SNDBUFFORCE and SO_RCVBUFFORCE; the kernel doubles the value for its own bookkeeping. They need CAP_NET_ADMIN in the
 * first user namespace: inside another one the buffers grow as far as net.core.wmem_max and rmem_max allow.
 */
export function setBuffers(fd: number, size: number, sys: Sys): void {
  for (const [forced, ordinary] of [
    [SO.SNDBUFFORCE, SO.SNDBUF],
    [SO.RCVBUFFORCE, SO.RCVBUF],
  ] as const) {
    const rc = sys.setsockopt(fd, SOL.SOCKET, forced, int32(size))
    const settled = rc === -ERRNO.EPERM ? sys.setsockopt(fd, SOL.SOCKET, ordinary, int32(size)) : rc
    check(settled, 'setsockopt', `buffer size ${size}`)
  }
}

function setTimeouts(fd: number, timeoutMs: number, sys: Sys): void {
  const bytes = timeval(timeoutMs)
  for (const option of [SO.RCVTIMEO, SO.SNDTIMEO]) {
    check(sys.setsockopt(fd, SOL.SOCKET, option, bytes), 'setsockopt', 'SO_RCVTIMEO')
  }
}

const timevals = new Map<number, Uint8Array>()

/** struct timeval of a 64-bit kernel. There are few deadlines, and many sockets that live for a moment. */
function timeval(ms: number): Uint8Array {
  const known = timevals.get(ms)
  if (known !== undefined) return known
  const words = new BigInt64Array([BigInt(Math.trunc(ms / 1000)), BigInt((ms % 1000) * 1000)])
  const made = new Uint8Array(words.buffer)
  if (timevals.size < 64) timevals.set(ms, made)
  return made
}

/** A native int as an option's value. */
export function int32(value: number): Uint8Array {
  return new Uint8Array(new Int32Array([value]).buffer)
}
