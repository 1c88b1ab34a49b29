import assert from 'node:assert/strict'
import { test } from 'node:test'

import { bridge } from '#plugins/bridge/plugin.ts'
import { needsProgram } from '../namespace.ts'
import { codeOf, difference, execIn, ping } from '../plugins/network-host.ts'
import { gcInputOf, inputOf } from '../plugins/input.ts'
import { RpcClient } from '#ipam/dhcp/rpc-client.ts'
import { addPod, conf, daemonOf, delPod, dhcpHost, SERVER, socketOf } from './pods.ts'
import { dnsmasq, until } from './servers.ts'

const skip = needsProgram('dnsmasq', 'dnsmasq-base')
const RANGE = '--dhcp-range=10.99.0.100,10.99.0.120,255.255.255.0,2m'
const RANGE6 = '--dhcp-range=fd99::100,fd99::1ff,64,2m'

const ours = (lines: readonly string[]): readonly string[] => lines.filter((line) => !line.includes('dhcp.leases'))

test(
  'ADD, CHECK, DEL against dnsmasq: address, routes, traffic; the server hears of the release',
  { skip },
  async () => {
    using host = dhcpHost()
    const before = host.dump()
    await using server = await dnsmasq(host.path, RANGE)
    await using daemon = await daemonOf(host)
    const pod = await addPod(host, 'c1')
    const [ip] = pod.result.ips
    assert.match(ip?.address ?? '', /^10\.99\.0\.1\d\d\/24$/)
    assert.equal(ip?.gateway, SERVER)
    assert.deepEqual(pod.result.routes, [{ dst: '0.0.0.0/0', gw: SERVER }])
    assert.match(execIn(pod.netns, 'ip', 'route'), /default via 10\.99\.0\.1/)
    assert.ok(await ping(pod.netns, SERVER))
    await bridge.check(pod.input, host.host)
    assert.match(server.leases(), /10\.99\.0\.1\d\d .* 00:63:31:2f/, 'client id: type 0, then c1/net1/eth0')
    await delPod(host, pod)
    await until('dnsmasq has the release', () => /DHCPRELEASE/.test(server.log()))
    await until('the lease is gone there', () => !/10\.99\.0\.1\d\d/.test(server.leases()))
    assert.deepEqual(daemon.events, ['acquired 4', 'released 4'])
    await delPod(host, pod)
    assert.deepEqual(ours(difference(before, host.dump())), [])
  },
)

test(
  'two pods, the same ADD twice, GC: each has its own address, and keeps it until it is named no more',
  { skip },
  async () => {
    using host = dhcpHost()
    await using server = await dnsmasq(host.path, RANGE)
    await using daemon = await daemonOf(host)
    const [a, b] = await Promise.all([addPod(host, 'a'), addPod(host, 'b')])
    const addressOf = (pod: typeof a): string => pod.result.ips[0]?.address ?? ''
    assert.notEqual(addressOf(a), addressOf(b))
    // The plugin dhcp alone, for an attachment that has its lease: the same address, as the reference answers.
    const again = await host.host.delegate('ADD', 'dhcp', a.input)
    assert.equal(again.ips[0]?.address, addressOf(a))
    assert.equal(daemon.service.daemon.count(4), 2)
    await bridge.gc(gcInputOf(conf(), [{ containerId: 'b', ifname: 'eth0' }]), host.host)
    assert.equal(daemon.service.daemon.count(4), 1)
    // It may come twice: by the kernel and in a frame of our own.
    const released = (): number => new Set(server.log().match(/DHCPRELEASE\(br0\) \S+/g)).size
    await until('the server has the release', () => released() === 1)
    assert.ok(server.leases().includes(addressOf(b).split('/')[0] ?? '-'))
    await bridge.check(b.input, host.host)
    // GC of another network touches nothing.
    await host.host.delegate('GC', 'dhcp', gcInputOf({ ...conf(), name: 'other' }, []))
    assert.equal(daemon.service.daemon.count(4), 1)
    assert.equal(await codeOf(host.host.delegate('CHECK', 'dhcp', a.input)), 100)
  },
)

test(
  'options that are asked for and told: DNS in the result, classless routes, host name, client id, metric',
  { skip },
  async () => {
    using host = dhcpHost()
    await using server = await dnsmasq(
      host.path,
      RANGE,
      '--dhcp-option=option:dns-server,10.99.0.53',
      '--dhcp-option=option:domain-name,pods.example',
      '--dhcp-option=option:domain-search,a.example,b.example',
      '--dhcp-option=option:classless-static-route,192.0.2.0/24,10.99.0.9,0.0.0.0/0,10.99.0.8',
      '--dhcp-vendorclass=set:ours,heddle',
    )
    await using _daemon = await daemonOf(host)
    const pod = await addPod(
      host,
      'c1',
      {
        priority: 500,
        request: [{ option: 'domain-name-servers' }, { option: '15' }, { option: 'domain-search' }],
        provide: [
          { option: 'host-name', fromArg: 'K8S_POD_NAME' },
          { option: 'vendor-class-identifier', value: 'heddle/1' },
          { option: 'dhcp-client-identifier', value: 'mine' },
        ],
      },
      { K8S_POD_NAME: 'web-0' },
    )
    assert.deepEqual(pod.result.dns, {
      nameservers: ['10.99.0.53'],
      domain: 'pods.example',
      search: ['a.example', 'b.example'],
    })
    assert.deepEqual(pod.result.routes, [
      { dst: '192.0.2.0/24', gw: '10.99.0.9', priority: 500 },
      { dst: '0.0.0.0/0', gw: '10.99.0.8', priority: 500 },
    ])
    assert.match(execIn(pod.netns, 'ip', 'route'), /192\.0\.2\.0\/24 via 10\.99\.0\.9 .*metric 500/)
    assert.match(server.log(), /client provides name: web-0/)
    assert.match(server.log(), /vendor class: heddle\/1/)
    assert.match(server.log(), /tags: ours, br0/)
    assert.match(server.leases(), /web-0 6d:69:6e:65/)
    await delPod(host, pod)
    await until('released under its own client id', () => !/web-0/.test(server.leases()))
  },
)

test('without asking, no DNS; without the subnet mask, an error that says what to ask for', { skip }, async () => {
  using host = dhcpHost()
  await using daemon = await daemonOf(host, { patience: 1500 })
  {
    await using _server = await dnsmasq(host.path, RANGE, '--dhcp-option=option:dns-server,10.99.0.53')
    assert.deepEqual((await addPod(host, 'c1')).result.dns, {})
  }
  await using _server = await dnsmasq(host.path, RANGE, '--dhcp-option=1')
  const ipam = { request: [{ option: 'routers', skipDefault: true }] }
  await assert.rejects(addPod(host, 'c2', ipam), { code: 11, message: /no subnet mask: ask for it with "request"/ })
  assert.deepEqual(daemon.events, ['acquired 4'])
})

test('silence: code 11 within its time, naming the pod; nothing is left', { skip }, async () => {
  using host = dhcpHost()
  const before = host.dump()
  await using daemon = await daemonOf(host, { patience: 1200 })
  const started = performance.now()
  await assert.rejects(addPod(host, 'c1'), {
    code: 11,
    message: /no DHCP server gave eth0 of container c1 \(network net1\) an address within 1\.2 s/,
  })
  assert.ok(performance.now() - started < 6000)
  assert.equal(daemon.service.daemon.count(4), 0)
  assert.deepEqual(ours(difference(before, host.dump())), [])
})

test('no daemon: ADD 11, STATUS 50, DEL and GC are done nevertheless', { skip }, async () => {
  using host = dhcpHost()
  const input = inputOf(conf(), { containerId: 'c1', netns: host.pod() })
  assert.equal(await codeOf(host.host.delegate('ADD', 'dhcp', input)), 11)
  assert.equal(await codeOf(host.host.delegate('STATUS', 'dhcp', input)), 50)
  await host.host.delegate('DEL', 'dhcp', input)
  await host.host.delegate('GC', 'dhcp', gcInputOf(conf(), []))
  {
    await using _daemon = await daemonOf(host)
    await host.host.delegate('STATUS', 'dhcp', input)
    // No interface to ask over.
    assert.equal(await codeOf(host.host.delegate('ADD', 'dhcp', input)), 8)
  }
})

test('paths of namespaces behind a prefix; a plugin that goes away ends the asking', { skip }, async () => {
  using host = dhcpHost()
  {
    await using silent = await daemonOf(host, { hostPrefix: '/proc/self/root', patience: 60_000 })
    const netns = host.pod()
    execIn(netns, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'x0')
    const call = {
      containerId: 'c1',
      netns,
      ifname: 'eth0',
      args: '',
      path: '',
      stdin: JSON.stringify({ cniVersion: '1.1.0', ...conf() }),
    }
    {
      using client = await RpcClient.open(socketOf(host))
      const waiting = client.call('Heddle.Allocate', call, 60_000)
      await until('it asks', () => /<[A-Z,_-]*UP/.test(execIn(netns, 'ip', '-o', 'link', 'show', 'eth0')))
      client[Symbol.dispose]()
      await assert.rejects(waiting, { code: 11, message: /went away/ })
    }
    // A DEL waits for the ADD of its attachment: it would not come back if the asking went on.
    assert.equal(await silent.service.daemon.release(call), false)
  }
  await using _server = await dnsmasq(host.path, RANGE)
  await using _daemon = await daemonOf(host, { hostPrefix: '/proc/self/root' })
  const pod = await addPod(host, 'c2')
  assert.match(pod.addresses(), /10\.99\.0\./)
  await delPod(host, pod)
})

test('DHCPv6 beside DHCPv4, and alone with rapid commit; release and renewal are told', { skip }, async () => {
  using host = dhcpHost()
  await using server = await dnsmasq(
    host.path,
    RANGE,
    RANGE6,
    '--enable-ra',
    '--dhcp-option=option6:dns-server,[fd99::53]',
    '--dhcp-rapid-commit',
  )
  await using daemon = await daemonOf(host)
  const pod = await addPod(host, 'c1', { families: ['ipv4', 'ipv6'], request: [{ option: 'domain-name-servers' }] })
  assert.deepEqual(
    pod.result.ips.map(({ address }) => address.replace(/\d+\/24|1[0-9a-f]{2}\/128/, 'X')),
    ['10.99.0.X', 'fd99::X'],
  )
  assert.ok(pod.result.dns.nameservers?.includes('fd99::53'))
  await bridge.check(pod.input, host.host)
  const rapid = await addPod(host, 'c2', { families: ['ipv6'], rapidCommit: true })
  assert.match(rapid.result.ips[0]?.address ?? '', /^fd99::1[0-9a-f]{2}\/128$/)
  assert.match(rapid.addresses(), /fd99::1/)
  await delPod(host, pod)
  await delPod(host, rapid)
  await until(
    'both were released',
    () => (server.log().match(/DHCPRELEASE\(br0\) fd99|DHCPRELEASE\(br0\) 00/g) ?? []).length >= 2,
  )
  assert.deepEqual(daemon.events.toSorted(), [
    'acquired 4',
    'acquired 6',
    'acquired 6',
    'released 4',
    'released 6',
    'released 6',
  ])
})
