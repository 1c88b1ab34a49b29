/**
 * DHCPv4 on a link of a pod: a packet socket, because without an address the kernel's UDP is of no use, and for what goes to one server a UDP socket, because
 * the kernel knows the way. The open sockets keep the pod's namespace alive, so they are open only while an answer is waited for.
 */

import { LITTLE } from '#codec/buffer.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { PollWatcher } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'
import { DhcpWireError } from '../wire/error.ts'
import { ANY4, BROADCAST4, decodeMessage4, encodeMessage4, type Message4 } from '../wire/message4.ts'
import { decodePacket4, encodePacket4 } from '../wire/packet4.ts'
import { CodecError } from '#codec/buffer.ts'
import { bindToLink, boundBuffer } from './options.ts'
import { receive } from './receive.ts'
import { sockaddrIn, sockaddrLl } from './sockaddr.ts'

const SERVER_PORT = 67
const CLIENT_PORT = 68
export const ETHERNET_BROADCAST = 'ff:ff:ff:ff:ff:ff' as MacText

export interface Link4 {
  /** An open descriptor of the pod's namespace. */
  readonly netns: number
  readonly index: number
  readonly ifname: string
}

export interface Heard4 {
  readonly onMessage: (message: Message4) => void
  /** A frame for our port that is no DHCP message. */
  readonly onGarbage: (reason: string) => void
}

export class Socket4 implements Disposable {
  readonly #sys: Sys
  readonly #link: Link4
  readonly #heard: Heard4
  readonly #frame = new Uint8Array(16_384)
  readonly #packet: number
  readonly #watcher: PollWatcher
  /** Also keeps the kernel from telling servers that nobody listens on the port. Absent where the pod's own client has it. */
  readonly #udp: number | undefined
  #isOpen = true

  /** Opens in the pod's namespace; `address` is what the pod may use at the moment. Throws `SysError`. */
  constructor(link: Link4, address: IpText | undefined, heard: Heard4, sys: Sys = nativeSys()) {
    this.#sys = sys
    this.#link = link
    this.#heard = heard
    const { packet, udp } = inNetns(link.netns, () => ({ packet: openPacket(sys), udp: openUdp(sys) }), sys)
    this.#packet = packet
    try {
      check(sys.attachFilter(packet, onlyDhcp()), 'setsockopt', 'SO_ATTACH_FILTER')
      boundBuffer(packet, sys)
      check(sys.bind(packet, sockaddrLl(link.index)), 'bind', link.ifname)
      this.#udp = this.#bindUdp(udp, address ?? ANY4)
      this.#watcher = new PollWatcher(packet, (status) => this.#ready(status), sys).unref()
      this.#watcher.start()
    } catch (error) {
      sys.close(packet)
      if (udp >= 0) sys.close(udp)
      throw error
    }
  }

  #bindUdp(fd: number, address: IpText): number | undefined {
    if (fd < 0) return undefined
    try {
      bindToLink(fd, this.#link.ifname, this.#sys)
      check(this.#sys.bind(fd, sockaddrIn(address, CLIENT_PORT)), 'bind', `${address}:68`)
      return fd
    } catch {
      this.#sys.close(fd)
      return undefined
    }
  }

  /** To everybody on the link, or to one server. Throws `SysError` ENETDOWN, ENXIO … where the link is down or gone. */
  send(message: Message4, to: 'broadcast' | IpText, from: IpText): void {
    const payload = encodeMessage4(message)
    if (to !== 'broadcast' && this.#udp !== undefined) {
      const rc = this.#sys.send(this.#udp, payload, 0, sockaddrIn(to, SERVER_PORT))
      // The kernel finds no way, but the server may be on this very link.
      if (rc >= 0) return
    }
    this.sendFrame(message, from, to === 'broadcast' ? BROADCAST4 : to, ETHERNET_BROADCAST)
  }

  /** As `send`, by our own frame to a known neighbour: the address need not be on the link any more. */
  sendFrame(message: Message4, source: IpText, destination: IpText, mac: MacText): void {
    const bytes = encodePacket4({
      source,
      destination,
      sourcePort: CLIENT_PORT,
      destinationPort: SERVER_PORT,
      payload: encodeMessage4(message),
    })
    const { index, ifname } = this.#link
    check(this.#sys.send(this.#packet, bytes, 0, sockaddrLl(index, mac)), 'send', ifname)
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#watcher[Symbol.dispose]()
    this.#sys.close(this.#packet)
    if (this.#udp !== undefined) this.#sys.close(this.#udp)
  }

  #ready(status: number): void {
    receive(
      {
        sys: this.#sys,
        fd: this.#packet,
        buffer: this.#frame,
        watcher: this.#watcher,
        isOpen: () => this.#isOpen,
        take: (bytes) => this.#deliver(bytes),
        broken: this.#heard.onGarbage,
      },
      status,
    )
  }

  #deliver(frame: Uint8Array): void {
    let message: Message4
    try {
      const { payload, sourcePort } = decodePacket4(frame)
      if (sourcePort !== SERVER_PORT) return
      message = decodeMessage4(payload)
    } catch (error) {
      if (!(error instanceof DhcpWireError) && !(error instanceof CodecError)) throw error
      this.#heard.onGarbage(error.message)
      return
    }
    this.#heard.onMessage(message)
  }
}

/** Hears nothing before it is bound: its protocol is given then. */
const openPacket = (sys: Sys): number =>
  check(sys.socket(AF.PACKET, SOCK.DGRAM | SOCK.NONBLOCK, 0), 'socket', 'AF_PACKET')

const openUdp = (sys: Sys): number => sys.socket(AF.INET, SOCK.DGRAM | SOCK.NONBLOCK, 0)

/** Whole UDP packets for port 68; classic BPF over the IP header. Source: linux/filter.h. */
function onlyDhcp(): Uint8Array {
  const program: readonly (readonly [code: number, yes: number, no: number, value: number])[] = [
    [0x30, 0, 0, 9], // ldb [9]: protocol
    [0x15, 0, 6, 17], // jeq UDP
    [0x28, 0, 0, 6], // ldh [6]: fragment
    [0x45, 4, 0, 0x3fff], // jset more fragments, or not the first
    [0xb1, 0, 0, 0], // ldxb 4*([0]&0xf): length of the IP header
    [0x48, 0, 0, 2], // ldh [x+2]: destination port
    [0x15, 0, 1, CLIENT_PORT],
    [0x06, 0, 0, 0xffff_ffff], // ret all
    [0x06, 0, 0, 0], // ret nothing
  ]
  const view = new DataView(new ArrayBuffer(8 * program.length))
  for (const [i, [code, yes, no, value]] of program.entries()) {
    view.setUint16(8 * i, code, LITTLE)
    view.setUint8(8 * i + 2, yes)
    view.setUint8(8 * i + 3, no)
    view.setUint32(8 * i + 4, value, LITTLE)
  }
  return new Uint8Array(view.buffer)
}
