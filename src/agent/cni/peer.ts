/** Who is at the other end of a unix socket, by the kernel's word. Source: unix(7), SO_PEERCRED. */

import type { Socket } from 'node:net'
import { endianness } from 'node:os'

import { SO, SOL } from '#sys/constants.ts'
import type { Sys } from '#sys/sys.ts'
import type { Peer } from './server.ts'

/** A function for `startCniServer`; undefined for a socket whose descriptor Node.js does not show. */
export function peerOf(sys: Pick<Sys, 'getsockopt'>): (socket: Socket) => Peer | undefined {
  return (socket) => {
    const handle: unknown = Reflect.get(socket, '_handle')
    const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
    if (typeof fd !== 'number' || fd < 0) return undefined
    // struct ucred: pid, uid, gid.
    const out = new Uint8Array(12)
    if (sys.getsockopt(fd, SOL.SOCKET, SO.PEERCRED, out) < 0) return undefined
    const view = new DataView(out.buffer)
    const little = endianness() === 'LE'
    return { pid: view.getInt32(0, little), uid: view.getUint32(4, little) }
  }
}
