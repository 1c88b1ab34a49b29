/**
 * The contract by which different software shares one cluster, kept by a peer that is none of ours: it is its annotations, and frames and packets
 * that are put together here byte by byte, or devices that are made by hand. It must reach our pods and be reached.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { macToBytes, parseMac } from '#ip/mac.ts'
import { encodeSockaddr } from '#lab/probe/sockaddr.ts'
import { DatagramSocket, IPPROTO } from '#lab/probe/socket.ts'
import { SOCK } from '#sys/constants.ts'
import { needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { needsRoot, run, TestCluster, until, type TestNode } from './cluster.ts'

const MARKED = { 'kube-subnet-manager': 'true', 'backend-data': 'null' }

const pings = (ns: string, to: string, ...options: readonly string[]): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.2', '-W', '5', ...options, to), / 0% packet loss/, to)

function sum16(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** An IPv4 packet with an echo request (8) or reply (0). */
function echo(type: 0 | 8, from: string, to: string, payload: Uint8Array): Uint8Array {
  const icmp = new Uint8Array(8 + payload.length)
  icmp.set([type, 0, 0, 0, 0x77, 0x77, 0, 1])
  icmp.set(payload, 8)
  new DataView(icmp.buffer).setUint16(2, sum16(icmp))
  return ip4(from, to, icmp)
}

function ip4(from: string, to: string, icmp: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + icmp.length)
  const view = new DataView(packet.buffer)
  packet.set([0x45, 0, 0, 0, 0, 1, 0, 0, 64, 1])
  view.setUint16(2, packet.length)
  packet.set(from.split('.').map(Number), 12)
  packet.set(to.split('.').map(Number), 16)
  view.setUint16(10, sum16(packet.subarray(0, 20)))
  packet.set(icmp, 20)
  return packet
}

const dotted = (bytes: Uint8Array): string => [...bytes].join('.')

/** The reply to an echo request for 10.244.1.2; undefined for everything else. */
function answerTo(packet: Uint8Array): Uint8Array | undefined {
  if (packet[0] !== 0x45 || packet[9] !== 1 || packet[20] !== 8 || dotted(packet.subarray(16, 20)) !== '10.244.1.2')
    return undefined
  const icmp = packet.slice(20)
  icmp.set([0, 0, 0, 0])
  new DataView(icmp.buffer).setUint16(2, sum16(icmp))
  return ip4('10.244.1.2', dotted(packet.subarray(12, 16)), icmp)
}

const isReplyFrom = (packet: Uint8Array, from: string): boolean =>
  packet[9] === 1 && packet[20] === 0 && dotted(packet.subarray(12, 16)) === from

async function open(backend: object): Promise<{ cluster: TestCluster; a: TestNode; b: TestNode; pod: string }> {
  const cluster = await TestCluster.open({ nodes: 2, backend })
  try {
    const a = cluster.node(0)
    cluster.start(a)
    await cluster.ready(a)
    return { cluster, a, b: cluster.node(1), pod: cluster.pod(a) }
  } catch (error) {
    await cluster[Symbol.asyncDispose]()
    throw error
  }
}

/** Where all is emulated only what needs the kernel there. */
const testHere = slowness > 1 ? (): void => undefined : test

testHere('vxlan: a peer of annotations and frames', { skip: needsRoot }, async () => {
  const { cluster, a, b, pod } = await open({ Type: 'vxlan' })
  await using _ = cluster
  const ownMac = '02:5e:00:00:00:01'
  await cluster.annotate('node-1', {
    ...MARKED,
    'backend-type': 'vxlan',
    // With spaces and in another order, as no flannel writes it and every flannel reads it.
    'backend-data': `{ "VtepMAC": "${ownMac.toUpperCase()}", "VNI": 1 }`,
    'public-ip': b.address,
  })
  const published = await cluster.annotations('node-0')
  const data = /^\{"VNI":1,"VtepMAC":"([0-9a-f:]{17})"\}$/.exec(published['backend-data'] ?? '')
  assert.ok(data, published['backend-data'])
  const theirMac = macToBytes(parseMac(data[1] ?? ''))
  const wrong: string[] = []
  let answered = false
  const frameOf = (packet: Uint8Array): Uint8Array => {
    const frame = new Uint8Array(8 + 14 + packet.length)
    frame.set([0x08, 0, 0, 0, 0, 0, 1, 0])
    frame.set(theirMac, 8)
    frame.set(macToBytes(parseMac(ownMac)), 14)
    frame.set([0x08, 0x00], 20)
    frame.set(packet, 22)
    return frame
  }
  const to = encodeSockaddr({ ip: ipText(published['public-ip'] ?? ''), port: 8472 })
  using socket: DatagramSocket = new DatagramSocket(`/run/netns/${b.ns}`, 4, SOCK.DGRAM, IPPROTO.UDP, (bytes, from) => {
    const packet = bytes.subarray(22)
    if (Buffer.from(bytes.subarray(0, 8)).toString('hex') !== '0800000000000100') wrong.push('VXLAN header')
    if (Buffer.compare(bytes.subarray(8, 14), macToBytes(parseMac(ownMac))) !== 0) wrong.push('inner destination')
    if (Buffer.compare(bytes.subarray(14, 20), theirMac) !== 0) wrong.push('inner source')
    if (from?.ip !== a.address) wrong.push('outer source')
    answered ||= isReplyFrom(packet, '10.244.0.2')
    const answer = answerTo(packet)
    if (answer !== undefined) socket.send(frameOf(answer), to)
  })
  socket.bind({ ip: ipText('0.0.0.0'), port: 8472 })
  await until('our route is there', () => a.run('ip', 'route').includes('10.244.1.0/24 via 10.244.1.0 dev flannel.1'))
  // Beside this event loop, which has to answer.
  await until('our pod reaches the peer', () => pingBeside(pod, '10.244.1.2'))
  await until('the peer reaches our pod', () => {
    socket.send(frameOf(echo(8, '10.244.1.2', '10.244.0.2', new Uint8Array(8))), to)
    return answered
  })
  assert.deepEqual(wrong, [])
})

/** True once an answer has come. */
async function pingBeside(ns: string, to: string): Promise<boolean> {
  const { execFile } = await import('node:child_process')
  return new Promise((resolve) => {
    execFile('nsenter', [`--net=/run/netns/${ns}`, 'ping', '-c', '1', '-W', '2', to], (error) =>
      resolve(error === null),
    )
  })
}

test('ipip: a peer of annotations and packets', { skip: needsKernel('ipip') }, async () => {
  const { cluster, a, b, pod } = await open({ Type: 'ipip' })
  await using _ = cluster
  await cluster.annotate('node-1', { ...MARKED, 'backend-type': 'ipip', 'public-ip': b.address })
  const published = await cluster.annotations('node-0')
  assert.deepEqual([published['backend-type'], published['backend-data']], ['ipip', 'null'])
  let answered = false
  const wrong: string[] = []
  const IPIP = 4
  const to = encodeSockaddr({ ip: ipText(a.address), port: 0 })
  using socket: DatagramSocket = new DatagramSocket(`/run/netns/${b.ns}`, 4, SOCK.RAW, IPIP, (bytes) => {
    if (dotted(bytes.subarray(12, 16)) !== a.address || bytes[9] !== IPIP) wrong.push('outer header')
    const packet = bytes.subarray(20)
    answered ||= isReplyFrom(packet, '10.244.0.2')
    const answer = answerTo(packet)
    if (answer !== undefined) socket.send(answer, to)
  })
  await until('our route is there', () => a.run('ip', 'route').includes('10.244.1.0/24 via 192.0.2.2 dev flannel.ipip'))
  await until('our pod reaches the peer', () => pingBeside(pod, '10.244.1.2'))
  await until('the peer reaches our pod', () => {
    socket.send(echo(8, '10.244.1.2', '10.244.0.2', new Uint8Array(8)), to)
    return answered
  })
  assert.deepEqual(wrong, [])
})

testHere('host-gw: a peer of annotations and a route', { skip: needsRoot }, async () => {
  const { cluster, a, b, pod } = await open({ Type: 'host-gw' })
  await using _ = cluster
  await cluster.annotate('node-1', { ...MARKED, 'backend-type': 'host-gw', 'public-ip': b.address })
  const published = await cluster.annotations('node-0')
  assert.deepEqual([published['backend-type'], published['backend-data']], ['host-gw', 'null'])
  b.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  b.run('ip', 'route', 'add', '10.244.0.0/24', 'via', published['public-ip'] ?? '')
  const theirs = cluster.pod(b)
  await until('our route is there', () => a.run('ip', 'route').includes('10.244.1.0/24 via 192.0.2.2 dev eth0'))
  pings(pod, '10.244.1.2')
  pings(theirs, '10.244.0.2')
})

test(
  'wireguard: a peer of annotations and a device made by hand',
  { skip: needsProgram('wg', 'wireguard-tools') || needsKernel('wireguard') },
  async () => {
    const { cluster, a, b, pod } = await open({ Type: 'wireguard' })
    await using _ = cluster
    const published = await cluster.annotations('node-0')
    const data = /^\{"PublicKey":"([A-Za-z0-9+/]{43}=)","Port":51820\}$/.exec(published['backend-data'] ?? '')
    assert.ok(data, published['backend-data'])
    b.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
    b.run('ip', 'link', 'add', 'flannel-wg', 'mtu', '1420', 'type', 'wireguard')
    const { writeFileSync } = await import('node:fs')
    writeFileSync(`${b.root}/key`, b.run('wg', 'genkey'), { mode: 0o600 })
    b.run('wg', 'set', 'flannel-wg', 'listen-port', '51840', 'private-key', `${b.root}/key`)
    const allowed = ['allowed-ips', '10.244.0.0/24', 'endpoint', `${published['public-ip']}:51820`]
    b.run('wg', 'set', 'flannel-wg', 'peer', data[1] ?? '', ...allowed)
    b.run('ip', 'addr', 'add', '10.244.1.0/32', 'dev', 'flannel-wg')
    b.run('ip', 'link', 'set', 'flannel-wg', 'up')
    b.run('ip', 'route', 'add', '10.244.0.0/16', 'dev', 'flannel-wg', 'scope', 'link')
    const key = b.run('wg', 'show', 'flannel-wg', 'public-key').trim()
    await cluster.annotate('node-1', {
      ...MARKED,
      'backend-type': 'wireguard',
      'backend-data': `{"PublicKey":"${key}","Port":51840}`,
      'public-ip': b.address,
    })
    const theirs = cluster.pod(b)
    await until('our peer is there', () => a.run('wg', 'show', 'flannel-wg', 'endpoints').includes('192.0.2.2:51840'))
    pings(pod, '10.244.1.2')
    pings(theirs, '10.244.0.2')
  },
)
