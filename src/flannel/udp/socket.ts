/** The relay's UDP socket: bound to the node's address, so that peers see the one that is published. */

import { AF, SO, SOCK, SOL } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'
import type { IpText } from '#ip/text.ts'
import { v4Number } from './peers.ts'

const SOL_IP = 0
const IP_MTU_DISCOVER = 10
const IP_PMTUDISC_DONT = 0
const SOL_UDP = 17
const UDP_GRO = 104
const UDP_SEGMENT = 103

/** A burst of both directions at 10 Gbit/s for some milliseconds. */
const BUFFER_BYTES = 4 << 20
/** How long a turn may wait for room: long enough for a device to drain, too short to be noticed by who waits for us. */
const SEND_TIMEOUT_US = 10_000

export interface RelaySocket {
  readonly fd: number
  /** Trains may be sent whole, and arrive whole. */
  readonly segment: boolean
  readonly receiveTrains: boolean
}

/** Opens and binds it. Throws `SysError`: EADDRINUSE when another program has the port, EADDRNOTAVAIL when the node has lost the address. */
export function openRelaySocket(address: IpText, port: number, offload: boolean, sys: Sys): RelaySocket {
  const fd = check(sys.socket(AF.INET, SOCK.DGRAM, 0), 'socket')
  try {
    const set = (level: number, name: number, value: number): boolean =>
      sys.setsockopt(fd, level, name, int32(value)) === 0
    // Without the right to more there is what the machine allows everybody.
    if (!set(SOL.SOCKET, SO.SNDBUFFORCE, BUFFER_BYTES)) set(SOL.SOCKET, SO.SNDBUF, BUFFER_BYTES)
    if (!set(SOL.SOCKET, SO.RCVBUFFORCE, BUFFER_BYTES)) set(SOL.SOCKET, SO.RCVBUF, BUFFER_BYTES)
    const timeout = new BigInt64Array([0n, BigInt(SEND_TIMEOUT_US)])
    check(sys.setsockopt(fd, SOL.SOCKET, SO.SNDTIMEO, new Uint8Array(timeout.buffer)), 'setsockopt SO_SNDTIMEO')
    // As VXLAN by default: a way with a smaller MTU than the interface's carries fragments rather than nothing.
    set(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    const name = new Uint8Array(16)
    const view = new DataView(name.buffer)
    view.setUint16(0, AF.INET, true)
    view.setUint16(2, port)
    view.setInt32(4, v4Number(address))
    check(sys.bind(fd, name), 'bind', `${address}:${port}`)
    const receiveTrains = offload && set(SOL_UDP, UDP_GRO, 1)
    const segment = offload && sys.getsockopt(fd, SOL_UDP, UDP_SEGMENT, new Uint8Array(4)) >= 0
    return { fd, segment, receiveTrains }
  } catch (error) {
    sys.close(fd)
    throw error
  }
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setInt32(0, value, true)
  return bytes
}
