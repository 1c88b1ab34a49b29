/** Asking a responder from inside a namespace. */

import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Family, IpText } from '#ip/text.ts'
import { nativeSys } from '#sys/addon.ts'
import { SOCK } from '#sys/constants.ts'
import { check, ERRNO, errnoName } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { netnsPath } from '../paths.ts'
import { domainOf, encodeSockaddr } from '../probe/sockaddr.ts'
import { DatagramSocket, dontFragment, IPPROTO, pathMtu } from '../probe/socket.ts'
import { caughtUp } from './caught-up.ts'
import { parseHeard, type Heard } from './responder.ts'

export interface Question {
  readonly namespace: string
  readonly family: Family
  readonly ip: IpText
  readonly port: number
  readonly timeoutMs: number
}

/** The answer, or in a few words why there is none. */
export type Answer = Heard | { readonly failed: string }

const RETRY_MS = 200

/** Sends a datagram until it is answered. */
export async function askUdp({ namespace, family, ip, port, timeoutMs }: Question): Promise<Answer> {
  let heard: Heard | undefined
  let answered: (() => void) | undefined
  using socket = new DatagramSocket(netnsPath(namespace), family, SOCK.DGRAM, IPPROTO.UDP, (bytes) => {
    heard ??= parseHeard(Buffer.from(bytes).toString('latin1'))
    answered?.()
  })
  const deadline = Date.now() + timeoutMs
  const to = encodeSockaddr({ ip, port })
  while (Date.now() < deadline) {
    const rc = socket.send(Uint8Array.of(1), to)
    if (rc < 0 && rc !== -ERRNO.EAGAIN) return { failed: errnoName(-rc) }
    await Promise.race([new Promise<void>((resolve) => (answered = resolve)), sleep(RETRY_MS)])
    await caughtUp()
    if (heard !== undefined) return heard
  }
  return { failed: `no answer in ${timeoutMs / 1000} s` }
}

/** Sends `bytes` bytes over a TCP connection and waits for the answer. */
export function askTcp({ namespace, family, ip, port, timeoutMs }: Question, bytes: number): Promise<Answer> {
  const sys = nativeSys()
  const netns = netnsPath(namespace)
  const fd = inNetns(netns, () => check(sys.socket(domainOf(family), SOCK.STREAM | SOCK.NONBLOCK, 0), 'socket', netns))
  const rc = sys.connect(fd, encodeSockaddr({ ip, port }))
  if (rc < 0 && rc !== -ERRNO.EINPROGRESS) {
    sys.close(fd)
    return Promise.resolve({ failed: errnoName(-rc) })
  }
  return new Promise((resolve) => {
    const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
    const finish = (answer: Answer): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answer)
    }
    const timer = setTimeout(() => {
      void caughtUp().then(() => finish({ failed: `no answer in ${timeoutMs / 1000} s` }))
    }, timeoutMs)
    let text = ''
    socket.on('data', (chunk: Buffer) => void (text += chunk.toString('latin1')))
    socket.on('error', (error: NodeJS.ErrnoException) => finish({ failed: error.code ?? error.message }))
    socket.on('end', () => finish(parseHeard(text) ?? { failed: `answered ${JSON.stringify(text.slice(0, 64))}` }))
    // Written at once: the kernel keeps it until the connection stands, or reports why it does not.
    socket.end(Buffer.alloc(bytes, 'x'))
    socket.resume()
  })
}

/** Sends full-size datagrams that must not be fragmented until the kernel has learned a smaller path MTU; undefined when it never does. */
export async function learnPathMtu(
  { namespace, family, ip, port, timeoutMs }: Question,
  packetLength: number,
): Promise<number | undefined> {
  using socket = new DatagramSocket(netnsPath(namespace), family, SOCK.DGRAM, IPPROTO.UDP, () => {})
  dontFragment(socket, family)
  if (socket.connect({ ip, port }) < 0) return undefined
  const payload = new Uint8Array(packetLength - (family === 4 ? 28 : 48))
  for (let waited = 0; waited < timeoutMs; waited += 20) {
    socket.send(payload, null)
    await sleep(20)
    const mtu = pathMtu(socket, family)
    if (mtu < packetLength) return mtu
  }
  return undefined
}
