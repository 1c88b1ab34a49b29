/**
 * The one piece of memory that packets are in while the relay has them: the kernel writes them into it, headers are changed in place, and the
 * kernel reads them out of it. Payload is never copied.
 */

import { MAX_MESSAGES, MAX_PARTS } from './batch.ts'

/** struct virtio_net_hdr_mrg_rxbuf (linux/virtio_net.h): flags, GSO type, header length, GSO size, checksum start and offset, buffers. */
export const VNET_HEADER = 12

/** The largest packet with its header, in whole cache lines. */
export const PACKET_ROOM = 65_536 + 64

/** For headers of cut segments: the longest IP and TCP headers are 120 bytes. */
export const HEADER_SLOT = 128
export const HEADER_SLOTS = MAX_PARTS / 2

/** struct sockaddr_in, and a control message that holds one number. */
export const NAME_SLOT = 16
export const CONTROL_SLOT = 32

/** The device's header of a packet that is written. */
export const VNET_SLOT = 16

/** Datagrams that are received at once, each of up to 64 KiB. */
export const RECEIVE_SLOTS = 16

const sizes = {
  /** What is read from the device: a few large packets, or many small ones. */
  read: 4 * PACKET_ROOM,
  headers: HEADER_SLOTS * HEADER_SLOT,
  names: MAX_MESSAGES * NAME_SLOT,
  controls: MAX_MESSAGES * CONTROL_SLOT,
  receive: RECEIVE_SLOTS * PACKET_ROOM,
  receiveNames: RECEIVE_SLOTS * NAME_SLOT,
  receiveControls: RECEIVE_SLOTS * CONTROL_SLOT,
  vnet: MAX_MESSAGES * VNET_SLOT,
  /** ICMP errors. */
  scratch: 1024,
} as const

type Zone = keyof typeof sizes

/** Where each zone begins. */
export const zones: Readonly<Record<Zone, number>> = layOut()
const TOTAL = Object.values(sizes).reduce((total, size) => total + size, 0)
export const READ_ROOM = sizes.read

function layOut(): Record<Zone, number> {
  let at = 0
  const next = (zone: Zone): number => {
    const start = at
    at += sizes[zone]
    return start
  }
  return {
    read: next('read'),
    headers: next('headers'),
    names: next('names'),
    controls: next('controls'),
    receive: next('receive'),
    receiveNames: next('receiveNames'),
    receiveControls: next('receiveControls'),
    vnet: next('vnet'),
    scratch: next('scratch'),
  }
}

export interface Arena {
  readonly bytes: Uint8Array
  readonly view: DataView
}

export function newArena(): Arena {
  const bytes = new Uint8Array(TOTAL)
  return { bytes, view: new DataView(bytes.buffer) }
}
