/** TUN devices: network interfaces whose packets a program reads and writes. Source: linux/if_tun.h, Documentation/networking/tuntap.rst. */

import { constants } from 'node:fs'

import { nativeSys } from './addon.ts'
import { AF, SOCK } from './constants.ts'
import { check, ERRNO } from './errno.ts'
import type { Sys } from './sys.ts'

const IFF = { TUN: 0x1, NO_PI: 0x1000, VNET_HDR: 0x4000 } as const
const TUNSETIFF = 0x4004_54ca
const TUNSETPERSIST = 0x4004_54cb
const TUNSETOFFLOAD = 0x4004_54d0
const TUNSETVNETHDRSZ = 0x4004_54d8
/** linux/sockios.h */
const SIOCGIFINDEX = 0x8933
const TUN_FILE = '/dev/net/tun'

/** What a program can do for the kernel: complete checksums, cut TCP segments over IPv4, cut trains of UDP datagrams (Linux 6.2). */
const OFFLOAD = { CSUM: 0x1, TSO4: 0x2, USO4: 0x20, USO6: 0x40 } as const

/** struct virtio_net_hdr_mrg_rxbuf. */
const VNET_HEADER = 12

export class TunError extends Error {
  override readonly name = 'TunError'
  readonly code = 'no-tun'
}

/** struct ifreq: 16 bytes of name, then the flags. */
function ifreq(name: string, flags: number): Uint8Array {
  const bytes = Buffer.alloc(40)
  bytes.write(name, 0, 15)
  bytes.writeUInt16LE(flags, 16)
  return bytes
}

function openTun(flags: number, sys: Sys): number {
  const fd = sys.open(TUN_FILE, constants.O_RDWR | flags, 0)
  if (fd === -ERRNO.ENOENT || fd === -ERRNO.ENODEV || fd === -ERRNO.ENXIO || fd === -ERRNO.EPERM)
    throw new TunError(
      `${TUN_FILE} cannot be opened: load the kernel module with "modprobe tun", and in a container pass the device in`,
    )
  return check(fd, 'open', TUN_FILE)
}

/**
 * Makes a device that stays when nobody has it open, down. Like `ip tuntap add mode tun NAME`. `prepare` runs while a kill would
 * still leave nothing. Throws `TunError` on a machine without TUN devices, `SysError` EBUSY when a program has one of this name open.
 */
export function createTun(name: string, prepare: () => void, sys: Sys = nativeSys()): void {
  const fd = openTun(0, sys)
  try {
    check(sys.ioctl(fd, TUNSETIFF, ifreq(name, IFF.TUN | IFF.NO_PI)), 'ioctl TUNSETIFF', name)
    prepare()
    check(sys.ioctl(fd, TUNSETPERSIST, 1), 'ioctl TUNSETPERSIST', name)
  } finally {
    sys.close(fd)
  }
}

/** TUNSETIFF would make a device that is missing. */
function requireDevice(name: string, sys: Sys): void {
  const socket = check(sys.socket(AF.INET, SOCK.DGRAM, 0), 'socket')
  const rc = sys.ioctl(socket, SIOCGIFINDEX, ifreq(name, 0))
  sys.close(socket)
  check(rc, 'ioctl SIOCGIFINDEX', name)
}

export interface TunDevice {
  /** Non-blocking. Close it with `sys.close`. */
  readonly fd: number
  /** Bytes before each packet: 12 of struct virtio_net_hdr_mrg_rxbuf, or none. */
  readonly header: 0 | 12
  /** What the kernel leaves to us, and takes from us. */
  readonly checksum: boolean
  readonly tcp: boolean
  readonly udp: boolean
}

/**
 * Opens a device that is there for its packets, with as many offloads as it has; with none when `offload` is false. Throws `TunError`,
 * `SysError` ENODEV when there is no such device, EBUSY when another program has it open.
 */
export function attachTun(name: string, offload: boolean, sys: Sys = nativeSys()): TunDevice {
  const flags = IFF.TUN | IFF.NO_PI
  requireDevice(name, sys)
  const fd = openTun(constants.O_NONBLOCK, sys)
  try {
    const header = offload && sys.ioctl(fd, TUNSETIFF, ifreq(name, flags | IFF.VNET_HDR)) === 0
    if (!header) check(sys.ioctl(fd, TUNSETIFF, ifreq(name, flags)), 'ioctl TUNSETIFF', name)
    const has = (bits: number): boolean => sys.ioctl(fd, TUNSETOFFLOAD, bits) === 0
    if (!header) {
      // A device that stays remembers what its last program could do.
      check(sys.ioctl(fd, TUNSETOFFLOAD, 0), 'ioctl TUNSETOFFLOAD', name)
      return { fd, header: 0, checksum: false, tcp: false, udp: false }
    }
    const size = new Uint8Array(4)
    new DataView(size.buffer).setInt32(0, VNET_HEADER, true)
    check(sys.ioctl(fd, TUNSETVNETHDRSZ, size), 'ioctl TUNSETVNETHDRSZ', name)
    const { CSUM, TSO4, USO4, USO6 } = OFFLOAD
    const udp = has(CSUM | TSO4 | USO4 | USO6)
    const tcp = udp || has(CSUM | TSO4)
    const checksum = tcp || has(CSUM)
    return { fd, header: VNET_HEADER, checksum, tcp, udp }
  } catch (error) {
    sys.close(fd)
    throw error
  }
}
