/**
 * The udp backend's contract on the wire: a peer that is only a Node object with flannel's annotations and a UDP socket. Each datagram is one IPv4 packet and
 * nothing else, from and to the published address and port, with one hop less at either end.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import fc from 'fast-check'

import { checksumOf, isIntact, sum } from '#flannel/udp/checksum.ts'
import { payloadOf, packet } from '#flannel/udp/fixture.ts'
import { IP, setHeaderCheck } from '#flannel/udp/ipv4.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'
import { needsRoot, TestCluster, until, type TestNode } from './cluster.ts'

const sys = nativeSys()
const POD = 0x0af4_0002
const DOUBLE = 0x0af4_0102
const PORT = 8285

/** A node that knows nothing but this socket. */
class Double implements Disposable {
  readonly #fd: number
  readonly #to = address(0xc000_0201)

  constructor(node: TestNode, ip: number) {
    this.#fd = inNetns(`/run/netns/${node.ns}`, () =>
      check(sys.socket(AF.INET, SOCK.DGRAM | SOCK.NONBLOCK, 0), 'socket'),
    )
    check(sys.bind(this.#fd, address(ip)), 'bind')
  }

  send(bytes: Uint8Array): void {
    check(sys.send(this.#fd, bytes, 0, this.#to), 'sendto')
  }

  /** The next datagram that is wanted, and where it came from. */
  async receive(
    wanted: (bytes: Uint8Array) => boolean,
  ): Promise<{ readonly bytes: Uint8Array; readonly from: readonly [number, number] }> {
    const buffer = new Uint8Array(65_536)
    const from = new Uint8Array(16)
    const lengths = new Uint8Array(12)
    const deadline = performance.now() + 5000 * slowness
    while (performance.now() < deadline) {
      const length = sys.recvmsg(this.#fd, buffer, from, null, 0, lengths)
      const bytes = buffer.slice(0, Math.max(0, length))
      const name = new DataView(from.buffer)
      if (length > 0 && wanted(bytes)) return { bytes, from: [name.getUint32(4), name.getUint16(2)] }
      if (length <= 0) await delay(2)
    }
    throw new Error('nothing came')
  }

  [Symbol.dispose](): void {
    sys.close(this.#fd)
  }
}

function address(ip: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF.INET, true)
  view.setUint16(2, PORT)
  view.setUint32(4, ip)
  return bytes
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
const isEcho = (type: number) => (bytes: Uint8Array) => bytes[9] === 1 && bytes[20] === type

/** An ICMP echo request or, with another's bytes, the reply to it. */
function echo(type: 0 | 8, body: Uint8Array, source = DOUBLE, destination = POD): Uint8Array {
  const bytes = packet({ source, destination, protocol: 17, payload: new Uint8Array(body.length - 8) })
  const view = viewOf(bytes)
  view.setUint8(IP.PROTOCOL, 1)
  setHeaderCheck(view, 0)
  bytes.set(body, 20)
  view.setUint8(20, type)
  view.setUint16(22, 0)
  view.setUint16(22, checksumOf(sum(view, 20, bytes.length)))
  return bytes
}

/** One agent with a pod, and a Node whose annotations are all there is of it. */
async function open(): Promise<{ readonly cluster: TestCluster; readonly pod: string }> {
  const cluster = await TestCluster.open({ nodes: 3, backend: { Type: 'udp' } })
  try {
    await cluster.annotate('node-1', {
      'kube-subnet-manager': 'true',
      'backend-type': '',
      'backend-data': 'null',
      'public-ip': cluster.node(1).address,
    })
    cluster.start(cluster.node(0))
    await cluster.ready(cluster.node(0))
    return { cluster, pod: cluster.pod(cluster.node(0)) }
  } catch (error) {
    await cluster[Symbol.asyncDispose]()
    throw error
  }
}

function ping(ns: string, to: string): Promise<string> {
  const child = spawn('nsenter', [`--net=/run/netns/${ns}`, 'ping', '-c', '1', '-W', String(5 * slowness), to])
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  return new Promise((resolve) => child.once('close', () => resolve(said)))
}

test('a peer that is only datagrams reaches our pod and is reached', { skip: needsRoot }, async () => {
  const { cluster, pod } = await open()
  await using _ = cluster
  using double = new Double(cluster.node(1), 0xc000_0202)

  const said = ping(pod, '10.244.1.2')
  const { bytes, from } = await double.receive(isEcho(8))
  assert.deepEqual(from, [0xc000_0201, PORT], 'from the published address and port')
  const view = viewOf(bytes)
  assert.equal(view.getUint8(0) >>> 4, 4)
  assert.equal(view.getUint16(IP.LENGTH), bytes.length, 'the packet and nothing else')
  assert.deepEqual([view.getUint32(IP.SOURCE), view.getUint32(IP.DESTINATION)], [POD, DOUBLE])
  assert.equal(view.getUint8(IP.TTL), 62, 'one hop at the node, one at the tunnel')
  assert.ok(isIntact(sum(view, 0, 20)) && isIntact(sum(view, 20, bytes.length)))
  double.send(echo(0, bytes.subarray(20)))
  assert.match(await said, /1 received/)
  assert.match(await said, /ttl=62 /, 'one hop at the tunnel, one at the node')

  double.send(echo(8, Uint8Array.from([8, 0, 0, 0, 1, 2, 3, 4, 5, 6])))
  const answer = await double.receive(isEcho(0))
  assert.deepEqual([...answer.bytes.subarray(24)], [1, 2, 3, 4, 5, 6])
})

test('hostile datagrams: dropped, counted, and nothing else happens', { skip: needsRoot }, async () => {
  const { cluster, pod } = await open()
  await using _ = cluster
  const a = cluster.node(0)
  using double = new Double(cluster.node(1), 0xc000_0202)
  using stranger = new Double(cluster.node(2), 0xc000_0203)
  const relay = readFileSync(join(a.root, 'run/heddle/relay.sock.lock'), 'utf8')
  const dropped = (reason: string): Promise<number> => a.metric(`heddle_relay_drops_total{reason="${reason}"}`)

  const request = Uint8Array.from([8, 0, 0, 0, 9, 9, 9, 9])
  stranger.send(echo(8, request))
  double.send(echo(8, request, 0x0af4_0003))
  double.send(echo(8, request, DOUBLE, 0xc000_0201))
  double.send(echo(8, request, DOUBLE, 0x7f00_0001))
  const bytes = fc.uint8Array({ minLength: 0, maxLength: 2000 })
  const mangled = fc.tuple(fc.nat(1400), fc.array(fc.tuple(fc.nat(60), fc.nat(255)))).map(([length, changes]) => {
    const made = packet({ source: DOUBLE, destination: POD, payload: payloadOf(length) })
    for (const [at, value] of changes) if (at < made.length) made[at] = value
    return made
  })
  for (const datagram of fc.sample(fc.oneof(bytes, mangled), 3000)) double.send(datagram)
  await until('what is foreign is counted', async () => {
    const counts = await Promise.all(['unknown-sender', 'wrong-source', 'wrong-destination', 'malformed'].map(dropped))
    return counts.every((count) => count > 0) || counts
  })
  double.send(echo(8, request))
  const answer = await double.receive(isEcho(0))
  assert.deepEqual([...answer.bytes.subarray(24)], [9, 9, 9, 9])
  assert.equal(readFileSync(join(a.root, 'run/heddle/relay.sock.lock'), 'utf8'), relay, 'the same relay')
  assert.match(a.log, /dropped a datagram from an address that no peer publishes/)
  const said = ping(pod, '10.244.1.2')
  const asked = await double.receive(isEcho(8))
  double.send(echo(0, asked.bytes.subarray(20)))
  assert.match(await said, /1 received/)
})

test('a peer of another backend is refused', { skip: needsRoot }, async () => {
  const { cluster } = await open()
  await using _ = cluster
  const a = cluster.node(0)
  await cluster.annotate('node-1', { 'backend-type': 'vxlan' })
  await until('it is counted', async () => (await a.metric('heddle_peers_refused{reason="other-backend"}')) === 1)
  assert.match(a.log, /node node-1: refused: its backend is \\"vxlan\\", ours .* which is udp/)
})
