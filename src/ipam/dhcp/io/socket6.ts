/** DHCPv6 on a link of a pod: UDP from its link-local address to all servers and relays. Source: RFC 8415 §7.1, §7.2. Open only while an answer is waited for. */

import { CodecError } from '#codec/buffer.ts'
import { formatIp, parseIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { int32 } from '#netlink/options.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { PollWatcher } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'
import { DhcpWireError } from '../wire/error.ts'
import { decodeMessage6, encodeMessage6, type Message6 } from '../wire/message6.ts'
import { bindToLink } from './options.ts'
import { receive } from './receive.ts'
import { sockaddrIn6 } from './sockaddr.ts'
import type { Link4 } from './socket4.ts'

const CLIENT_PORT = 546
const SERVER_PORT = 547
const ALL_SERVERS = formatIp(parseIp('ff02::1:2'))
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

export interface Heard6 {
  readonly onMessage: (message: Message6) => void
  readonly onGarbage: (reason: string) => void
}

export class Socket6 implements Disposable {
  readonly #sys: Sys
  readonly #link: Link4
  readonly #heard: Heard6
  readonly #buffer = new Uint8Array(65_536)
  readonly #fd: number
  readonly #watcher: PollWatcher
  #isOpen = true

  /** `linkLocal` must be on the link and be no longer tentative. Throws `SysError`: EADDRINUSE where the pod runs a client of its own. */
  constructor(link: Link4, linkLocal: IpText, heard: Heard6, sys: Sys = nativeSys()) {
    this.#sys = sys
    this.#link = link
    this.#heard = heard
    const open = (): number => sys.socket(AF.INET6, SOCK.DGRAM | SOCK.NONBLOCK, 0)
    this.#fd = check(inNetns(link.netns, open, sys), 'socket', 'AF_INET6')
    try {
      bindToLink(this.#fd, link.ifname, sys)
      check(sys.setsockopt(this.#fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1)), 'setsockopt', 'IPV6_V6ONLY')
      check(sys.bind(this.#fd, sockaddrIn6(linkLocal, CLIENT_PORT, link.index)), 'bind', `[${linkLocal}]:546`)
      this.#watcher = new PollWatcher(this.#fd, (status) => this.#ready(status), sys).unref()
      this.#watcher.start()
    } catch (error) {
      sys.close(this.#fd)
      throw error
    }
  }

  /** Throws `SysError`. */
  send(message: Message6): void {
    const { index, ifname } = this.#link
    const to = sockaddrIn6(ALL_SERVERS, SERVER_PORT, index)
    check(this.#sys.send(this.#fd, encodeMessage6(message), 0, to), 'send', ifname)
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#watcher[Symbol.dispose]()
    this.#sys.close(this.#fd)
  }

  #ready(status: number): void {
    receive(
      {
        sys: this.#sys,
        fd: this.#fd,
        buffer: this.#buffer,
        watcher: this.#watcher,
        isOpen: () => this.#isOpen,
        take: (bytes) => this.#deliver(bytes),
        broken: this.#heard.onGarbage,
      },
      status,
    )
  }

  #deliver(bytes: Uint8Array): void {
    let message: Message6
    try {
      message = decodeMessage6(bytes)
    } catch (error) {
      if (!(error instanceof DhcpWireError) && !(error instanceof CodecError)) throw error
      this.#heard.onGarbage(error.message)
      return
    }
    this.#heard.onMessage(message)
  }
}
