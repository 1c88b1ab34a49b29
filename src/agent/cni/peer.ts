/** Who is at the other end of a unix socket, by the kernel's word. Source: unix(7), SO_PEERCRED. */

import type { Socket } from 'node:net'
import { endianness } from 'node:os'

import { SO, SOL } from '#sys/constants.ts'
import type { Sys } from '#sys/sys.ts'
import type { Peer } from './server.ts'

/** struct ucred: pid, uid, gid. Filled and read within one call. */
const credentials = new Uint8Array(new ArrayBuffer(12))
const view = new DataView(credentials.buffer)
const little = endianness() === 'LE'

/** A function that takes a descriptor, or a socket of Node.js; undefined for what is no unix socket, or does not show its descriptor. */
export function peerOf(sys: Pick<Sys, 'getsockopt'>): (socket: Socket | number) => Peer | undefined {
  return (socket) => {
    const fd = typeof socket === 'number' ? socket : descriptorOf(socket)
    if (fd === undefined || sys.getsockopt(fd, SOL.SOCKET, SO.PEERCRED, credentials) < 0) return undefined
    return { pid: view.getInt32(0, little), uid: view.getUint32(4, little) }
  }
}

function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  return typeof fd === 'number' && fd >= 0 ? fd : undefined
}
