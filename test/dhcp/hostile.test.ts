import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { test } from 'node:test'

import { ip4, formatIp, ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { ETH_P_IP, sockaddrLl } from '#ipam/dhcp/io/sockaddr.ts'
import { ANY4, encodeMessage4, MESSAGE4, type MessageType4 } from '#ipam/dhcp/wire/message4.ts'
import { encodePacket4 } from '#ipam/dhcp/wire/packet4.ts'
import { getLink } from '#netlink/link.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { needsProgram } from '../namespace.ts'
import { codeOf, ping, type NetworkHost } from '../plugins/network-host.ts'
import { addPod, daemonOf, delPod, dhcpHost, SERVER, socketOf } from './pods.ts'
import { dnsmasq } from './servers.ts'

const skip = needsProgram('dnsmasq', 'dnsmasq-base')
const RANGE = '--dhcp-range=10.99.0.100,10.99.0.120,255.255.255.0,2m'
const EVERYBODY = parseMac('ff:ff:ff:ff:ff:ff')

/** Somebody else on the link, who sends what a DHCP client would read. */
class Attacker implements Disposable {
  readonly #fd: number
  readonly #index: number
  sent = 0

  constructor(host: NetworkHost) {
    const sys = nativeSys()
    this.#fd = check(
      inNetns(host.path, () => sys.socket(AF.PACKET, SOCK.DGRAM, 0)),
      'socket',
    )
    this.#index = getLink(host.netlink, 'br0').index
  }

  #frame(bytes: Uint8Array): void {
    assert.equal(ETH_P_IP, 0x0800)
    if (nativeSys().send(this.#fd, bytes, 0, sockaddrLl(this.#index, EVERYBODY)) >= 0) this.sent++
  }

  #udp(payload: Uint8Array): Uint8Array {
    return encodePacket4({
      source: ipText(SERVER),
      destination: ipText('255.255.255.255'),
      sourcePort: 67,
      destinationPort: 68,
      payload,
    })
  }

  /** Noise in each layer, and messages of every type for transactions that are not ours. */
  spray(): void {
    this.#frame(randomBytes(200))
    this.#frame(this.#udp(randomBytes(500)))
    this.#frame(this.#udp(new Uint8Array(0)))
    const cut = this.#udp(randomBytes(300))
    this.#frame(cut.subarray(0, 40))
    const fragment = this.#udp(randomBytes(300))
    fragment[6] = 0x20
    this.#frame(fragment)
    for (const type of Object.keys(MESSAGE4) as MessageType4[]) {
      const options = new Map([
        [54, Uint8Array.of(10, 99, 0, 66)],
        [51, Uint8Array.of(0, 0, 0, 1)],
        [1, Uint8Array.of(255, 255, 255, 0)],
        [121, randomBytes(40)],
      ])
      const message = encodeMessage4({
        op: 2,
        type,
        xid: randomBytes(4).readUInt32BE(),
        secs: 0,
        broadcast: true,
        ciaddr: ANY4,
        yiaddr: formatIp(ip4(0x0a63_0042)),
        giaddr: ANY4,
        mac: EVERYBODY,
        options,
      })
      this.#frame(this.#udp(message))
      message[240] = 200
      this.#frame(this.#udp(message))
    }
  }

  [Symbol.dispose](): void {
    nativeSys().close(this.#fd)
  }
}

test(
  'a link full of noise and forged answers: the pod gets the right lease, and nothing listens afterwards',
  { skip },
  async () => {
    using host = dhcpHost()
    await using _server = await dnsmasq(host.path, RANGE)
    await using daemon = await daemonOf(host)
    using attacker = new Attacker(host)
    const timer = setInterval(() => attacker.spray(), 2)
    try {
      const pod = await addPod(host, 'c1')
      assert.match(pod.result.ips[0]?.address ?? '', /^10\.99\.0\.1\d\d\/24$/)
      assert.equal(pod.result.ips[0]?.gateway, SERVER)
      const garbage = daemon.events.length
      const before = pod.addresses()
      for (let i = 0; i < 200; i++) attacker.spray()
      await new Promise((resolve) => setTimeout(resolve, 200))
      assert.equal(daemon.events.length, garbage, 'a bound client has no socket open')
      assert.equal(pod.addresses(), before)
      assert.ok(await ping(pod.netns, SERVER))
      clearInterval(timer)
      await delPod(host, pod)
      assert.ok(daemon.events.includes('garbage 4'), `${attacker.sent} frames were sent, and none was seen`)
      assert.deepEqual(
        daemon.events.filter((event) => event !== 'garbage 4'),
        ['acquired 4', 'released 4'],
      )
    } finally {
      clearInterval(timer)
    }
  },
)

test('noise on the daemon’s socket ends that connection and nothing else', { skip }, async () => {
  using host = dhcpHost()
  await using _server = await dnsmasq(host.path, RANGE)
  await using daemon = await daemonOf(host)
  const greeting = Buffer.from('CONNECT /_goRPC_ HTTP/1.0\n\n')
  const noises = [
    Buffer.from('GET / HTTP/1.0\r\n\r\n'),
    randomBytes(8192),
    Buffer.concat([greeting, randomBytes(4096)]),
    Buffer.concat([greeting, Buffer.from([0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
    Buffer.concat([greeting, Buffer.from([3, 4, 5, 6])]),
  ]
  for (const noise of noises) {
    await new Promise<void>((resolve, reject) => {
      const socket = connect(socketOf(host))
      socket.on('error', () => {})
      socket.once('close', () => resolve())
      socket.resume()
      socket.write(noise)
      setTimeout(() => reject(new Error('the daemon keeps the connection')), 5000).unref()
    })
  }
  const pod = await addPod(host, 'c1')
  await host.host.delegate('CHECK', 'dhcp', pod.input)
  // A call for what is no container of ours.
  const wrong = { ...pod.input, containerId: '../../etc' }
  assert.equal(await codeOf(host.host.delegate('ADD', 'dhcp', wrong)), 4)
  assert.equal(daemon.service.daemon.count(4), 1)
})
