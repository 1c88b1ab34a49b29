/** The udp backend with real agents and relays: device, annotations, traffic, and what happens when parts of it are killed or broken. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { needsRoot, run, TestCluster, until, type TestNode } from './cluster.ts'

const pings = (ns: string, to: string, ...more: readonly string[]): string => {
  const said = run(ns, 'ping', '-c', '3', '-i', '0.05', '-W', '5', ...more, to)
  assert.match(said, / 0% packet loss/, to)
  return said
}

const relayOf = (node: TestNode): number =>
  Number(readFileSync(join(node.root, 'run/heddle/relay.sock.lock'), 'utf8').trim())

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Two nodes with a pod each, and the second's address. */
async function pair(backend: object = { Type: 'udp' }): Promise<{
  readonly cluster: TestCluster
  readonly from: string
  readonly to: string
  readonly address: string
}> {
  const cluster = await TestCluster.open({ nodes: 2, backend })
  try {
    cluster.startAll()
    await cluster.ready()
    const [from, to] = [cluster.pod(cluster.node(0)), cluster.pod(cluster.node(1))]
    await until('pods reach each other', () =>
      run(from, 'ping', '-c', '1', '-W', '1', '10.244.1.2').includes('1 received'),
    )
    return { cluster, from, to, address: '10.244.1.2' }
  } catch (error) {
    await cluster[Symbol.asyncDispose]()
    throw error
  }
}

test(
  'device, route, subnet.env and annotations are flannel’s, and pods reach each other',
  { skip: needsRoot },
  async () => {
    const { cluster, from, address } = await pair()
    await using _ = cluster
    const a = cluster.node(0)
    pings(from, address)
    const [link] = a.json('ip', 'link', 'show', 'flannel0')
    assert.equal(link?.['mtu'], 1472)
    assert.match(a.run('ip', '-4', 'address', 'show', 'dev', 'flannel0'), /inet 10\.244\.0\.0\/32/)
    assert.match(a.run('ip', 'route', 'show', 'dev', 'flannel0'), /^10\.244\.0\.0\/16 /)
    assert.match(a.run('cat', a.subnetFile), /^FLANNEL_MTU=1472$/m)
    const { 'backend-type': type, 'backend-data': data, 'public-ip': ip } = await cluster.annotations('node-0')
    assert.deepEqual([type, data, ip], ['', 'null', a.address])
    // One hop less at each end of the tunnel, and one at each node's forwarding.
    assert.match(pings(from, address), /ttl=60 /)
    // From the node itself.
    a.run('ping', '-c', '1', '-W', '5', address)
  },
)

test('DF at the MTU passes, one byte more gets ICMP', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair()
  await using _ = cluster
  pings(from, address, '-M', 'do', '-s', String(1472 - 28))
  assert.throws(
    () => run(from, 'ping', '-c', '1', '-W', '2', '-M', 'do', '-s', String(1472 - 27), address),
    (error: unknown) =>
      /mtu ?= ?1472/.test(String(Reflect.get(Object(error), 'stdout')) + String(Reflect.get(Object(error), 'stderr'))),
  )
})

test('no peer and no hops left: ICMP says so', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair()
  await using _ = cluster
  const said = (...args: readonly string[]): string => {
    try {
      return run(from, 'ping', '-c', '1', '-W', '2', ...args)
    } catch (error) {
      return String(Reflect.get(Object(error), 'stdout'))
    }
  }
  assert.match(said('10.244.77.2'), /From 10\.244\.0\.0 .*Destination Net Unreachable/)
  assert.match(said('-t', '2', address), /From 10\.244\.0\.0 .*Time to live exceeded/)
  assert.match(said('-t', '3', address), /From 10\.244\.1\.0 .*Time to live exceeded/)
})

test('the agent is killed: the relay goes on and is taken over, nothing is lost', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair()
  await using _ = cluster
  const a = cluster.node(0)
  const before = relayOf(a)
  const probe = import('node:child_process').then(({ spawn }) =>
    spawn('nsenter', [`--net=/run/netns/${from}`, 'ping', '-c', '400', '-i', '0.01', '-W', '2', '-q', address]),
  )
  const child = await probe
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await cluster.stop(a, 'SIGKILL')
  assert.ok(isAlive(before), 'the relay outlives its agent')
  cluster.start(a)
  await cluster.ready(a)
  await ended
  assert.match(said, /400 packets transmitted, 400 received/)
  assert.equal(relayOf(a), before, 'taken over')
  assert.equal(await a.metric('heddle_relay_starts_total'), 0)
  assert.equal(await a.metric('heddle_repairs_total'), 0)
})

test('the relay is killed, stopped, or loses its device: all is back in seconds', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair()
  await using _ = cluster
  const a = cluster.node(0)
  const works = (): boolean => run(from, 'ping', '-c', '1', '-W', '1', address).includes('1 received')
  const first = relayOf(a)
  process.kill(first, 'SIGKILL')
  await until('another relay carries', () => relayOf(a) !== first && works())
  assert.ok((await a.metric('heddle_repairs_total{kind="relay"}')) >= 1)

  a.run('ip', 'link', 'delete', 'flannel0')
  await until('the device is back', works)
  a.run('ip', 'route', 'delete', '10.244.0.0/16', 'dev', 'flannel0')
  await until('the route is back', works)
  a.run('ip', 'link', 'set', 'flannel0', 'down')
  await until('the device is up', works)
  a.run('ip', 'link', 'set', 'flannel0', 'mtu', '1400')
  await until('the MTU is back', () => a.json('ip', 'link', 'show', 'flannel0')[0]?.['mtu'] === 1472)

  const second = relayOf(a)
  process.kill(second, 'SIGSTOP')
  await until('a relay that hangs is replaced', () => relayOf(a) !== second && works(), 25_000)
  assert.equal(isAlive(second), false)
  await cluster.ready(a)
})

test('while the relay is away nothing leaves unwrapped', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair()
  await using _ = cluster
  const a = cluster.node(0)
  await cluster.stop(a)
  process.kill(relayOf(a), 'SIGKILL')
  assert.match(a.run('ip', 'route', 'get', address), /dev flannel0/)
  assert.throws(() => run(from, 'ping', '-c', '1', '-W', '1', address))
  cluster.start(a)
  await until('it is back', () => run(from, 'ping', '-c', '1', '-W', '1', address).includes('1 received'), 10_000)
})

test('a peer moves, goes, and comes back with another subnet', { skip: needsRoot }, async () => {
  const { cluster, from, address } = await pair({ Type: 'udp', Port: 9285 })
  await using _ = cluster
  const [a, b] = [cluster.node(0), cluster.node(1)]
  assert.match(a.run('ss', '-Hlun'), /192\.0\.2\.1:9285/)
  const reaches = (to: string): boolean => {
    try {
      return run(from, 'ping', '-c', '1', '-W', '1', to).includes('1 received')
    } catch {
      return false
    }
  }
  // Nobody listens there.
  await cluster.annotate('node-1', { 'public-ip-overwrite': '192.0.2.77' })
  await until('the peer is sought at its new address', () => !reaches(address))
  await cluster.annotate('node-1', { 'public-ip-overwrite': null })
  await until('the peer is found at its old address', () => reaches(address))

  const { nodes } = await import('#kube/resources.ts')
  await cluster.client.delete(nodes, { name: 'node-1' })
  const drops = await a.metric('heddle_relay_drops_total{reason="no-peer"}')
  await until('the peer is forgotten', async () => {
    reaches(address)
    return (await a.metric('heddle_relay_drops_total{reason="no-peer"}')) > drops
  })
  await cluster.client.create(nodes, {
    metadata: { name: 'node-1' },
    spec: { podCIDR: '10.244.9.0/24', podCIDRs: ['10.244.9.0/24'] },
  })
  await until('the other node follows', () => b.run('cat', b.subnetFile).includes('FLANNEL_SUBNET=10.244.9.1/24'))
  await until('its new subnet is reached', () => reaches('10.244.9.0'))
})

test('without offloads it carries as well', { skip: needsRoot }, async () => {
  process.env['HEDDLE_UDP_OFFLOAD'] = 'none'
  try {
    const { cluster, from, to, address } = await pair()
    await using _ = cluster
    pings(from, address, '-s', '4000')
    const bytes = sendOver(from, to, address)
    assert.equal(bytes, 3_000_000)
    assert.equal(await cluster.node(0).metric('heddle_relay_offload{offload="tcp"}'), 0)
  } finally {
    delete process.env['HEDDLE_UDP_OFFLOAD']
  }
})

test('a TCP stream arrives whole, in large pieces', { skip: needsRoot }, async () => {
  const { cluster, from, to, address } = await pair()
  await using _ = cluster
  assert.equal(sendOver(from, to, address), 3_000_000)
  const b = cluster.node(1)
  await until('it is counted', async () => (await b.metric('heddle_relay_bytes_total{direction="in"}')) > 3_000_000)
  const packets = await b.metric('heddle_relay_packets_total{direction="in"}')
  const calls = await b.metric('heddle_relay_calls_total{direction="in"}')
  assert.ok(calls < packets / 2, `${packets} packets in ${calls} calls`)
})

/** Sends three million bytes over TCP; returns how many arrived as they were sent. */
function sendOver(from: string, to: string, address: string): number {
  const server = `
import socket,hashlib,sys,subprocess
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(("0.0.0.0",9000)); s.listen(1); s.settimeout(20)
client='import socket; c=socket.create_connection(("${address}",9000),20); c.sendall(bytes(i*7%251 for i in range(3000000))); c.close()'
p=subprocess.Popen(["nsenter","--net=/run/netns/${from}","python3","-c",client])
c,_=s.accept(); c.settimeout(20); got=b""
while True:
  some=c.recv(65536)
  if not some: break
  got+=some
p.wait()
print(len(got) if got==bytes(i*7%251 for i in range(len(got))) else -1)
`
  return Number(
    execFileSync('nsenter', [`--net=/run/netns/${to}`, 'python3', '-c', server], { encoding: 'utf8', timeout: 60_000 }),
  )
}
