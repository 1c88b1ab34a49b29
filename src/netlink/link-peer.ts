/** The other end of a veth pair, made in the same request: in its own namespace and under its final name. */

import { mac } from '#codec/address.ts'
import { attr, attributes } from '#codec/attributes.ts'
import { cstring, i32, mapped, pad, u16, u32, u8, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import type { MacText } from '#ip/text.ts'

/** struct ifinfomsg. */
export const ifinfomsg = struct('ifinfomsg', {
  family: u8,
  _pad: pad(1),
  type: u16,
  index: i32,
  flags: u32,
  change: u32,
})

/**
 * A veth's peer. With `netnsFd` it is born there, which takes 0.4 ms; moving it there afterwards would take 16 ms, because
 * a move waits for the kernel's RCU grace periods. It is born down: the kernel links the two ends only after it has
 * configured this one, and refuses (ENOTCONN) to set an end up before.
 */
export interface VethPeer {
  readonly name: string
  /** An open descriptor of the namespace. */
  readonly netnsFd?: number | undefined
  readonly mac?: MacText | undefined
  readonly mtu?: number | undefined
  readonly index?: number | undefined
  readonly txQueueLength?: number | undefined
  readonly numTxQueues?: number | undefined
  readonly numRxQueues?: number | undefined
}

const peerAttributes = attributes('veth peer', {
  mac: attr(1, mac),
  name: attr(3, cstring(16)),
  mtu: attr(4, u32),
  txQueueLength: attr(13, u32),
  netnsFd: attr(28, u32),
  numTxQueues: attr(31, u32),
  numRxQueues: attr(32, u32),
})

const peerMessage: Codec<{ header: ReturnType<typeof headerOf>; attributes: Omit<VethPeer, 'index'> }> = {
  name: 'veth peer',
  write(w, value) {
    ifinfomsg.write(w, value.header)
    peerAttributes.write(w, value.attributes)
  },
  read(r) {
    const header = ifinfomsg.read(r)
    const { name = '', ...others } = peerAttributes.read(r)
    return { header, attributes: { name, ...others } }
  },
}

const headerOf = (index: number) => ({ family: 0, type: 0, index, flags: 0, change: 0 })

export const vethPeer: Codec<VethPeer> = mapped(
  'veth peer',
  peerMessage,
  ({ header, attributes: { name, ...others } }): VethPeer => ({
    name,
    ...others,
    ...(header.index === 0 ? {} : { index: header.index }),
  }),
  ({ index, ...others }) => ({ header: headerOf(index ?? 0), attributes: others }),
)
