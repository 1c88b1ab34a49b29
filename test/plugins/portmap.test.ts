import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { connects, connectsOnce, execIn, NetworkHost, ping, serve } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'

const bridgeConf = {
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  // With br_netfilter, as on every Kubernetes node, a pod's connection to itself is turned round inside the bridge.
  hairpinMode: true,
  ipMasq: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
}
type Backend = 'nftables' | 'iptables'
const BACKENDS: readonly [Backend, string | false][] = [
  ['nftables', false],
  ['iptables', needsProgram('iptables', 'iptables')],
]
/** The same with each backend. */
const each = (name: string, work: (backend: Backend) => Promise<void>): void => {
  for (const [backend, skip] of BACKENDS)
    test(`${backend}: ${name}`, { skip, timeout: 120_000 * slowness }, () => work(backend))
}

const conf = (portMappings: readonly JsonObject[], extra: JsonObject = {}): JsonObject => ({
  name: 'net1',
  type: 'portmap',
  capabilities: { portMappings: true },
  runtimeConfig: { portMappings },
  ...extra,
})
const mapping = (hostPort: number, containerPort: number, extra: JsonObject = {}): JsonObject => ({
  hostPort,
  containerPort,
  protocol: 'tcp',
  ...extra,
})

/** A pod on the bridge with a server that answers with its container's ID. */
async function pod(made: NetworkHost, containerId: string, port = 8080, proto: 'tcp' | 'udp' = 'tcp') {
  const netns = made.pod()
  const prevResult = await bridge.add(inputOf(bridgeConf, { containerId, netns }), made.host)
  const server = await serve(netns, port, containerId, proto)
  return { containerId, netns, prevResult, server }
}

/** A namespace outside, on a link of its own to the host: 192.0.2.2 and fd00:2::2. */
async function outside(made: NetworkHost): Promise<string> {
  const netns = made.pod()
  made.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns.split('/').at(-1)!)
  made.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0')
  made.exec('ip', 'address', 'add', 'fd00:2::1/64', 'dev', 'up0', 'nodad')
  made.exec('ip', 'link', 'set', 'up0', 'up')
  execIn(netns, 'ip', 'address', 'add', '192.0.2.2/24', 'dev', 'eth0')
  execIn(netns, 'ip', 'address', 'add', 'fd00:2::2/64', 'dev', 'eth0', 'nodad')
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'up')
  execIn(netns, 'ip', 'link', 'set', 'lo', 'up')
  execIn(netns, 'ip', 'route', 'add', 'default', 'via', '192.0.2.1')
  execIn(netns, 'ip', 'route', 'add', 'default', 'via', 'fd00:2::1')
  // The kernel detects duplicates of the link-local addresses first.
  for (let tries = 0; !(await ping(netns, 'fd00:2::1')); tries++) assert.ok(tries < 5)
  return netns
}

each('a host port leads to the pod from everywhere, and back', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const a = await pod(made, 'a')
  const b = await pod(made, 'b', 9090)
  const input = inputOf(conf([mapping(8000, 8080)], { backend }), a)
  const result = await portmap.add(input, made.host)
  assert.equal(result, a.prevResult)
  await portmap.check(input, made.host)
  const from: [string, string, string][] = [
    ['outside, IPv4', far, '192.0.2.1'],
    ['outside, IPv6', far, 'fd00:2::1'],
    ['the host itself', made.path, '192.0.2.1'],
    ['the host itself over 127.0.0.1', made.path, '127.0.0.1'],
    ['a neighbour', b.netns, '10.77.0.1'],
    ['a neighbour, the outer address', b.netns, '192.0.2.1'],
    ['a neighbour over IPv6', b.netns, 'fd00:77::1'],
    ['the pod itself', a.netns, '10.77.0.1'],
  ]
  for (const [who, netns, to] of from) assert.equal(await connects(netns, to, 8000), 'a', who)
  await portmap.del(inputOf(conf([mapping(8000, 8080)], { backend }), a), made.host)
  assert.equal(await connectsOnce(far, '192.0.2.1', 8000), undefined)
  await assert.rejects(portmap.check(input, made.host), { code: 100, message: /8000/ })
  a.server.kill()
  b.server.kill()
})

each('traffic to addresses that are not the host is never caught (CVE-2025-67499)', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const stranger = await serve(far, 8000, 'far')
  const a = await pod(made, 'a')
  const b = await pod(made, 'b', 9090)
  await portmap.add(inputOf(conf([mapping(8000, 8080)], { backend }), a), made.host)
  assert.equal(await connects(b.netns, '192.0.2.2', 8000), 'far', 'a pod to a server outside')
  assert.equal(await connects(made.path, '192.0.2.2', 8000), 'far', 'the host to a server outside')
  for (const server of [stranger, a.server, b.server]) server.kill()
})

/** Takes away what keeps it closed. */
const OPEN: Readonly<Record<Backend, readonly string[]>> = {
  nftables: ['nft', 'flush', 'chain', 'inet', 'heddle_cni_hostports', 'martians'],
  iptables: ['iptables', '-t', 'raw', '-F', 'PREROUTING'],
}

each('127.0.0.0/8 stays closed to the outside although route_localnet is on (CVE-2020-8558)', async (backend) => {
  using made = new NetworkHost()
  const a = await pod(made, 'a')
  const secret = await serve(made.path, 7000, 'secret', 'tcp', '127.0.0.1')
  await portmap.add(inputOf(conf([mapping(8000, 8080)], { backend }), a), made.host)
  assert.equal(made.exec('cat', '/proc/sys/net/ipv4/conf/br0/route_localnet').trim(), '1')
  execIn(a.netns, 'ip', 'link', 'set', 'lo', 'up')
  execIn(a.netns, 'ip', 'route', 'add', '127.0.0.1/32', 'via', '10.77.0.1', 'table', '10')
  for (const own of ['127.0.0.1', '127.0.0.0/8']) {
    execIn(a.netns, 'ip', 'route', 'del', 'local', own, 'dev', 'lo', 'table', 'local')
  }
  execIn(a.netns, 'ip', 'rule', 'add', 'pref', '1', 'lookup', '10')
  execIn(a.netns, 'sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1')
  assert.equal(await connectsOnce(a.netns, '127.0.0.1', 7000, '10.77.0.2'), undefined)
  // The proof that the way was open but for the rule.
  made.exec(...OPEN[backend])
  assert.equal(await connects(a.netns, '127.0.0.1', 7000, '10.77.0.2'), 'secret')
  secret.kill()
  a.server.kill()
})

const NOT_FROM_FAR: Readonly<Record<Backend, readonly string[]>> = {
  nftables: ['ip', 'saddr', '!=', '192.0.2.0/24'],
  iptables: ['!', '-s', '192.0.2.0/24'],
}

each('hostIP narrows, conditions narrow, and 0.0.0.0 means IPv4', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const a = await pod(made, 'a')
  const mappings = [
    mapping(8001, 8080, { hostIP: '192.0.2.1' }),
    mapping(8002, 8080, { hostIP: '0.0.0.0' }),
    mapping(8003, 8080, { hostIP: 'fd00:2::1' }),
  ]
  await portmap.add(inputOf(conf(mappings, { backend }), a), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8001), 'a')
  assert.equal(await connectsOnce(a.netns, '10.77.0.1', 8001), undefined)
  assert.equal(await connects(far, '192.0.2.1', 8002), 'a')
  assert.equal(await connectsOnce(far, 'fd00:2::1', 8002), undefined)
  assert.equal(await connects(far, 'fd00:2::1', 8003), 'a')
  const b = await pod(made, 'b')
  const limited = conf([mapping(8004, 8080)], { backend, conditionsV4: NOT_FROM_FAR[backend] })
  await portmap.add(inputOf(limited, b), made.host)
  await portmap.check(inputOf(limited, b), made.host)
  assert.equal(await connectsOnce(far, '192.0.2.1', 8004), undefined)
  assert.equal(await connects(made.path, '10.77.0.1', 8004), 'b')
  assert.equal(await connects(far, '192.0.2.1', 8001), 'a', "one network's conditions are not another's")
  await portmap.del(inputOf(conf([], { backend }), b), made.host)
  assert.equal(
    await connectsOnce(made.path, '10.77.0.1', 8004),
    undefined,
    'removed although the configuration changed',
  )
  a.server.kill()
  b.server.kill()
})

each('the newest claim on a port wins, and an older DEL leaves it alone', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const a = await pod(made, 'a')
  const b = await pod(made, 'b')
  await portmap.add(inputOf(conf([mapping(8000, 8080)], { backend }), a), made.host)
  await portmap.add(inputOf(conf([mapping(8000, 8080)], { backend }), b), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), 'b')
  await portmap.del(inputOf(conf([mapping(8000, 8080)], { backend }), a), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), 'b')
  await portmap.gc(gcInputOf(conf([], { backend }), [{ containerId: 'b', ifname: 'eth0' }]), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), 'b')
  await portmap.gc(gcInputOf(conf([], { backend, name: 'net2' }), []), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), 'b')
  await portmap.gc(gcInputOf(conf([], { backend }), []), made.host)
  assert.equal(await connectsOnce(far, '192.0.2.1', 8000), undefined)
  a.server.kill()
  b.server.kill()
})

each('UDP: packets of a running stream go to the new pod', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const [a, b] = [await pod(made, 'a', 5353, 'udp'), await pod(made, 'b', 5353, 'udp')]
  const udp = conf([mapping(5300, 5353, { protocol: 'udp' })], { backend })
  await portmap.add(inputOf(udp, a), made.host)
  assert.equal(await connects(far, '192.0.2.1', 5300, undefined, 'udp', 40_000), 'a')
  await portmap.add(inputOf(udp, b), made.host)
  assert.equal(await connects(far, '192.0.2.1', 5300, undefined, 'udp', 40_000), 'b')
  a.server.kill()
  b.server.kill()
})

each('masqAll gives every connection the address of the host; snat false none', async (backend) => {
  using made = new NetworkHost()
  const far = await outside(made)
  const a = await pod(made, 'a')
  const peer = await serve(a.netns, 8081, 'PEER')
  await portmap.add(inputOf(conf([mapping(8000, 8081)], { backend, masqAll: true }), a), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), '10.77.0.1')
  await portmap.del(inputOf(conf([], { backend }), a), made.host)
  await portmap.add(inputOf(conf([mapping(8000, 8081)], { backend, snat: false }), a), made.host)
  assert.equal(await connects(far, '192.0.2.1', 8000), '192.0.2.2')
  assert.equal(await connectsOnce(made.path, '127.0.0.1', 8000), undefined)
  peer.kill()
  a.server.kill()
})

test('bad configurations are refused with their field; without mappings nothing is made', async () => {
  using made = new NetworkHost()
  const prevResult: Result = { interfaces: [{ name: 'eth0', sandbox: '/x' }], ips: [], routes: [], dns: {} }
  const add = (raw: JsonObject) => portmap.add(inputOf(raw, { prevResult }), made.host)
  const bad: [JsonObject, number, RegExp][] = [
    [conf([mapping(70_000, 80)]), 7, /hostPort.*70000/],
    [conf([mapping(80, 0)]), 7, /containerPort/],
    [conf([mapping(80, 80, { protocol: 'icmp' })]), 7, /protocol.*icmp/],
    [conf([mapping(80, 80, { hostIP: 'here' })]), 7, /hostIP.*here/],
    [conf([], { markMasqBit: 32 }), 7, /markMasqBit/],
    [conf([], { markMasqBit: 1, externalSetMarkChain: 'X' }), 7, /exclude/],
    [conf([], { backend: 'nftables', externalSetMarkChain: 'KUBE-MARK-MASQ' }), 2, /KUBE-MARK-MASQ/],
    [conf([], { externalSetMarkChain: 'X Y' }), 7, /X Y/],
    [conf([], { backend: 'nftables', conditionsV4: ['!', '-d', '10.0.0.0/8'] }), 2, /iptables/],
    [conf([], { backend: 'iptables', conditionsV4: ['ip', 'saddr', '10.0.0.1'] }), 2, /nftables/],
    [conf([], { conditionsV4: ['-s', '10.0.0.0/8', '-j', 'ACCEPT'] }), 7, /-j/],
    [conf([], { conditionsV6: ['-s', '::1\nCOMMIT'] }), 7, /conditionsV6/],
    [conf([], { conditionsV4: ['ip saddr 10.0.0.1 accept'] }), 7, /accept/],
    [conf([], { conditionsV4: ['ip saddr 10.0.0.1\nadd rule'] }), 7, /conditionsV4/],
    [conf([], { conditionsV6: ['ip6 saddr ::1; flush ruleset'] }), 7, /conditionsV6/],
    [conf([], { backend: 'ipvs' }), 7, /backend/],
  ]
  for (const [raw, code, message] of bad) await assert.rejects(add(raw), { code, message }, JSON.stringify(raw))
  await assert.rejects(portmap.add(inputOf(conf([mapping(80, 80)])), made.host), { code: 7, message: /chained/ })
  assert.equal(await add(conf([])), prevResult)
  assert.equal(await add(conf([mapping(0, 80)])), prevResult)
  await portmap.del(inputOf(conf([])), made.host)
  assert.equal(made.exec('nft', 'list', 'ruleset'), '')
})
