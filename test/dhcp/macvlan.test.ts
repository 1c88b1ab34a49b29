import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipvlan } from '#plugins/ipvlan/plugin.ts'
import { macvlan } from '#plugins/macvlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { difference, execIn, ping } from '../plugins/network-host.ts'
import { gcInputOf, inputOf } from '../plugins/input.ts'
import { daemonOf, dhcpHost, SERVER } from './pods.ts'
import { dnsmasq, until } from './servers.ts'

const skip = needsProgram('dnsmasq', 'dnsmasq-base')
const RANGE = '--dhcp-range=10.99.0.100,10.99.0.120,255.255.255.0,2m'

/** `up0` is the machine's network card; the server is at the other end of its cable. */
function wired(): ReturnType<typeof dhcpHost> {
  const host = dhcpHost()
  host.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'wire0')
  host.exec('ip', 'link', 'set', 'wire0', 'master', 'br0', 'up')
  host.exec('ip', 'link', 'set', 'up0', 'up')
  return host
}

test(
  'a pod on a macvlan link asks the server of the network that the machine is on',
  { skip: skip || needsKernel('macvlan') },
  async () => {
    using host = wired()
    const before = host.dump()
    await using server = await dnsmasq(host.path, RANGE)
    await using daemon = await daemonOf(host)
    const conf = { name: 'net1', type: 'macvlan', master: 'up0', ipam: { type: 'dhcp' } }
    const [a, b] = ['a', 'b'].map((containerId) => inputOf(conf, { containerId, netns: host.pod() }))
    assert.ok(a !== undefined && b !== undefined)
    const [first, second] = [await macvlan.add(a, host.host), await macvlan.add(b, host.host)]
    assert.notEqual(first.ips[0]?.address, second.ips[0]?.address)
    assert.match(execIn(a.netns, 'ip', 'route'), /default via 10\.99\.0\.1/)
    assert.ok(await ping(a.netns, SERVER))
    await macvlan.check({ ...a, prevResult: first }, host.host)
    await macvlan.del({ ...a, prevResult: first }, host.host)
    await macvlan.gc(gcInputOf(conf, []), host.host)
    // One may come twice: by the kernel and in a frame of our own.
    const released = (): number => new Set(server.log().match(/DHCPRELEASE\(br0\) \S+/g)).size
    await until('the server has both releases', () => released() === 2)
    assert.equal(daemon.service.daemon.count(4), 0)
    assert.deepEqual(
      difference(before, host.dump()).filter((line) => !line.includes('dhcp.leases')),
      [],
    )
  },
)

test(
  'ipvlan: pods share a MAC address, and are told apart by their client identifiers',
  { skip: skip || needsKernel('ipvlan') },
  async () => {
    using host = wired()
    await using _server = await dnsmasq(host.path, RANGE)
    await using _daemon = await daemonOf(host, { broadcast: true })
    const conf = { name: 'net1', type: 'ipvlan', master: 'up0', ipam: { type: 'dhcp' } }
    // Answers to the one MAC address go to the machine unless they are sent to everybody.
    const pods = ['a', 'b'].map((containerId) => inputOf(conf, { containerId, netns: host.pod() }))
    const results = []
    for (const pod of pods) results.push(await ipvlan.add(pod, host.host))
    assert.equal(new Set(results.map(({ ips }) => ips[0]?.address)).size, 2)
    for (const pod of pods) {
      assert.ok(await ping(pod.netns, SERVER))
      await ipvlan.del(pod, host.host)
    }
  },
)
