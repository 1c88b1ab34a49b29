/** The header that a TUN device with IFF_VNET_HDR puts before each packet (linux/virtio_net.h), in native byte order: every machine that this runs on is little-endian. */

export const VNET = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HEADER_LENGTH: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
  BUFFERS: 10,
} as const

/** In FLAGS: the checksum at CSUM_START + CSUM_OFFSET holds the pseudo header's sum only. */
export const NEEDS_CHECKSUM = 1

/** GSO_TYPE; the highest bit says that TCP's ECN is in use. */
export const GSO = { NONE: 0, TCP4: 1, UDP_L4: 5, ECN: 0x80 } as const

export interface VnetHeader {
  readonly gso: number
  readonly headerLength: number
  readonly size: number
  readonly checksumStart: number
  readonly checksumOffset: number
}

/** Describes a packet of several segments whose checksum is left to the kernel. */
export function writeVnet(view: DataView, at: number, header: VnetHeader): void {
  view.setUint8(at + VNET.FLAGS, NEEDS_CHECKSUM)
  view.setUint8(at + VNET.GSO_TYPE, header.gso)
  view.setUint16(at + VNET.HEADER_LENGTH, header.headerLength, true)
  view.setUint16(at + VNET.GSO_SIZE, header.size, true)
  view.setUint16(at + VNET.CSUM_START, header.checksumStart, true)
  view.setUint16(at + VNET.CSUM_OFFSET, header.checksumOffset, true)
  view.setUint16(at + VNET.BUFFERS, 0, true)
}
