/** While a check runs: services inside namespaces that say who they are and who asks. */

import { createServer, type Server, type Socket } from 'node:net'
import type { Family, IpText } from '#ip/text.ts'
import { ipText } from '#ip/address.ts'
import { nativeSys } from '#sys/addon.ts'
import { SOCK, SOL } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { netnsPath } from '../paths.ts'
import { domainOf, encodeSockaddr, type Endpoint } from '../probe/sockaddr.ts'
import { DatagramSocket, IPPROTO, onlyIpv6 } from '../probe/socket.ts'
import { caughtUp } from './caught-up.ts'
import type { Place } from './view.ts'

/** What a responder answers: its own name, the source address that it saw, and how many bytes came. */
export interface Heard {
  readonly name: string
  readonly source: IpText
  readonly bytes: number
}

const SO_REUSEADDR = 2
const IDLE_MS = 30_000

const any = (family: Family, port: number): Endpoint => ({ ip: ipText(family === 4 ? '0.0.0.0' : '::'), port })

const encode = (heard: Heard): string => `${heard.name} ${heard.source} ${heard.bytes}`

/** Undefined for anything that no responder says. */
export function parseHeard(text: string): Heard | undefined {
  const match = /^(\S+) ([0-9a-f.:]+) (\d+)$/.exec(text)
  return match === null ? undefined : { name: match[1] ?? '', source: ipText(match[2] ?? ''), bytes: Number(match[3]) }
}

/** Answers every UDP datagram on the port. Port 0 lets the kernel choose; `port` tells. */
export function udpResponder(place: Place, family: Family, port: number): Disposable {
  const socket: DatagramSocket = new DatagramSocket(
    netnsPath(place.namespace),
    family,
    SOCK.DGRAM,
    IPPROTO.UDP,
    (bytes, from) => {
      if (from === undefined) return
      socket.send(Buffer.from(encode({ name: place.name, source: from.ip, bytes: bytes.length })), encodeSockaddr(from))
    },
  )
  try {
    if (family === 6) onlyIpv6(socket)
    socket.bind(any(family, port))
    return socket
  } catch (error) {
    socket[Symbol.dispose]()
    throw error
  }
}

/** Opens a listening TCP socket in a namespace. */
export function listenTcp(netns: string, at: Endpoint, family: Family): number {
  const sys = nativeSys()
  const fd = inNetns(netns, () => check(sys.socket(domainOf(family), SOCK.STREAM | SOCK.NONBLOCK, 0), 'socket', netns))
  try {
    const on = new Uint8Array(Int32Array.of(1).buffer)
    check(sys.setsockopt(fd, SOL.SOCKET, SO_REUSEADDR, on), 'setsockopt')
    if (family === 6) check(sys.setsockopt(fd, 41, 26, on), 'setsockopt')
    check(sys.bind(fd, encodeSockaddr(at)), 'bind', `${at.ip} port ${at.port} in ${netns}`)
    check(sys.listen(fd, 511), 'listen', `${at.ip} port ${at.port} in ${netns}`)
    return fd
  } catch (error) {
    sys.close(fd)
    throw error
  }
}

/** Reads everything until the client has finished sending, then answers and closes. Who sends nothing for `idleMs` is given up. */
export function tcpResponder(place: Place, family: Family, port: number, idleMs = IDLE_MS): Disposable {
  const fd = listenTcp(netnsPath(place.namespace), any(family, port), family)
  const open = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket)
    let bytes = 0
    socket.setTimeout(idleMs)
    socket.on('timeout', () => {
      const before = bytes
      // To close with something unread is to reset the connection.
      void caughtUp().then(() => (bytes === before ? socket.destroy() : undefined))
    })
    socket.on('data', (chunk: Buffer) => void (bytes += chunk.length))
    socket.on('end', () => {
      const source = ipText((socket.remoteAddress ?? '0.0.0.0').replace(/^::ffff:/, ''))
      socket.end(encode({ name: place.name, source, bytes }))
    })
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
  })
  server.on('error', () => {})
  server.listen({ fd })
  return {
    [Symbol.dispose]() {
      for (const socket of open) socket.destroy()
      server.close()
    },
  }
}
