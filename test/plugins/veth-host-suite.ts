/** What must hold for a pod whose own link bypasses the host (macvlan, ipvlan), with veth-host behind it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import type { Plugin } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { vethHost } from '#plugins/veth-host/plugin.ts'
import { slowness } from '../slow.ts'
import { CloudLan, dropsStrangers, OUTSIDE, reaches, type Vm } from './cloud-lan.ts'
import { inputOf } from './input.ts'
import { connects, connectsOnce, execIn, ping, serve } from './network-host.ts'

interface Made {
  readonly netns: string
  readonly result: Result
  readonly del: () => Promise<void>
}

export function vethHostSuite(main: Plugin, extra: JsonObject, skip: string | false): void {
  const options = { skip, timeout: 120_000 * slowness }

  /** A pod whose addresses Neutron lets through the machine's port; `leg` is veth-host's configuration, undefined for none. */
  async function podOn(lan: CloudLan, vm: Vm, ips: readonly string[], leg: JsonObject | undefined = {}): Promise<Made> {
    const netns = vm.pod()
    const call = { containerId: `pod-${ips[0]}`.replaceAll(':', '-'), netns }
    const conf: JsonObject = {
      name: 'neutron',
      type: main.type,
      master: 'ens3',
      ...extra,
      ipam: {
        type: 'static',
        addresses: ips.map((ip) =>
          ip.includes(':')
            ? { address: `${ip}/64`, gateway: ip.replace(/::.*/, '::1') }
            : { address: `${ip}/24`, gateway: ip.replace(/\d+$/, '1') },
        ),
        routes: [{ dst: '0.0.0.0/0' }, ...(ips.some((ip) => ip.includes(':')) ? [{ dst: '::/0' }] : [])],
      },
    }
    const first = await main.add(inputOf(conf, call), vm.host)
    for (const ip of ips) lan.allow(vm, ip, first.interfaces[0]?.mac === vm.mac ? '' : first.interfaces[0]?.mac)
    const chained: JsonObject = { name: 'neutron', type: 'veth-host', ...leg }
    const result = leg === NONE ? first : await vethHost.add(inputOf(chained, { ...call, prevResult: first }), vm.host)
    if (leg !== NONE) {
      await vethHost.check(inputOf(chained, { ...call, prevResult: result }), vm.host)
      await main.check(inputOf(conf, { ...call, prevResult: result }), vm.host)
    }
    const del = async (): Promise<void> => {
      await vethHost.del(inputOf(chained, { ...call, prevResult: result }), vm.host)
      await main.del(inputOf(conf, { ...call, prevResult: result }), vm.host)
    }
    return { netns, result, del }
  }

  test(`${main.type}: every way to and from a pod`, options, async () => {
    using lan = new CloudLan()
    const [node1, node2, neighbour, elsewhere] = [lan.vm('a'), lan.vm('a'), lan.vm('a'), lan.vm('b')]
    const [ip1, ip2, ip3, ip4, ip5] = ['10.30.0.101', '10.30.0.102', '10.30.0.103', '10.30.0.104', '10.30.0.105']
    // As Debian's default for pods would be at its strictest.
    const a = await podOn(lan, node1, [ip1])
    execIn(a.netns, 'sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1')
    await podOn(lan, node1, [ip2])
    const c = await podOn(lan, node2, [ip3])
    const unrouted = await podOn(lan, node1, [ip4], { nodeRoute: false })
    const bare = await podOn(lan, node1, [ip5], NONE)
    for (const [what, from, to] of [
      ['pod to a pod of the same node', a.netns, ip2],
      ['pod to a pod of another node', a.netns, ip3],
      ['and back', c.netns, ip1],
      ['pod to a machine of its network', a.netns, neighbour.v4],
      ['pod to a machine of another network', a.netns, elsewhere.v4],
      ['pod to the outside', a.netns, OUTSIDE],
      ['pod to its node', a.netns, node1.v4],
      ['node to its pod', node1.path, ip1],
      ['node to a pod of another node', node1.path, ip3],
      ['pod to another node', a.netns, node2.v4],
      ['machine to pod', neighbour.path, ip1],
      ['outside to pod', lan.outside, ip1],
      ['pod without the leg to another node', bare.netns, node2.v4],
    ] as const)
      assert.ok(await reaches(from, to), what)
    assert.equal(await ping(unrouted.netns, node1.v4), false, 'a link never reaches its own master')
    assert.equal(await ping(bare.netns, node1.v4), false, 'without the leg')
    assert.equal(await ping(node1.path, ip5), false, 'without the leg')
    assert.ok(await dropsStrangers(node1, a.netns, a.result.interfaces[1]?.name ?? '', node1.v4))
    await unrouted.del()
    assert.equal(execIn(unrouted.netns, 'ip', '-o', 'link').trim().split('\n').length, 1)
  })

  test(`${main.type}: services need the node's address as source, and with it they work`, options, async () => {
    using lan = new CloudLan()
    const [node1, node2] = [lan.vm('a'), lan.vm('a')]
    const [ip, near, far, plainIp] = ['10.30.0.101', '10.30.0.102', '10.30.0.103', '10.30.0.104']
    const a = await podOn(lan, node1, [ip], { hostStackCIDRs: ['203.0.113.0/24'] })
    const plain = await podOn(lan, node1, [plainIp], { masqueradeServices: false })
    const b = await podOn(lan, node1, [near])
    const c = await podOn(lan, node2, [far])
    for (const netns of [a.netns, b.netns, c.netns, plain.netns, node1.path, lan.outside])
      await serve(netns, 8080, 'PEER')
    node1.exec(
      'nft',
      `table ip proxy {
        chain prerouting {
          type nat hook prerouting priority dstnat;
          ip daddr 10.96.0.1 dnat to ${ip}
          ip daddr 10.96.0.2 dnat to ${near}
          ip daddr 10.96.0.3 dnat to ${far}
          ip daddr 10.96.0.4 dnat to ${node1.v4}
          ip daddr 10.96.0.5 dnat to ${plainIp}
          ip daddr ${node1.v4} tcp dport { 30080, 30081 } dnat to ${near}:8080
        }
        chain postrouting {
          type nat hook postrouting priority srcnat;
          meta l4proto tcp ct original proto-dst 30081 masquerade
        }
      }`,
    )
    // Once where every instruction is emulated.
    for (const strict of slowness > 1 ? ['1'] : ['0', '1']) {
      execIn(a.netns, 'sysctl', '-qw', `net.ipv4.conf.all.rp_filter=${strict}`)
      assert.equal(await connects(a.netns, '10.96.0.3', 8080), node1.v4, 'a backend of another node')
      assert.equal(await connects(a.netns, '10.96.0.2', 8080), node1.v4, 'a backend of the same node')
      assert.equal(await connects(a.netns, '10.96.0.1', 8080), node1.v4, 'the pod itself behind its service')
      assert.equal(await connects(a.netns, '10.96.0.4', 8080), ip, 'the node itself')
      assert.equal(await connects(a.netns, OUTSIDE, 8080), node1.v4, 'through the host’s stack')
    }
    assert.equal(await connects(plain.netns, '10.96.0.4', 8080), plainIp, 'the node itself')
    assert.equal(await connectsOnce(plain.netns, '10.96.0.3', 8080), undefined, 'without it: another node')
    assert.equal(await connectsOnce(plain.netns, '10.96.0.2', 8080), undefined, 'without it: the same node')
    assert.equal(await connectsOnce(plain.netns, '10.96.0.5', 8080), undefined, 'without it: itself')
    assert.equal(await connects(plain.netns, OUTSIDE, 8080), plainIp, 'its own way')
    // A port of the node: the answer must come back to the node, for which a service proxy puts the node's address on the request.
    assert.equal(await connects(lan.outside, node1.v4, 30_081), node1.v4, 'from outside through the node')
    assert.equal(await connectsOnce(lan.outside, node1.v4, 30_080), undefined, 'with the client’s own address')
  })

  test(`${main.type}: IPv6, and packets as large as the pod's own link takes`, options, async () => {
    using lan = new CloudLan()
    const [node1, node2, neighbour] = [lan.vm('a'), lan.vm('a'), lan.vm('a')]
    const [ip1, ip3] = ['fd30:0:0:a::101', 'fd30:0:0:a::103']
    const leg = { serviceCIDRs: ['10.96.0.0/12', 'fd96::/112'] }
    node1.exec('ip', 'link', 'set', 'ens3', 'mtu', '1442')
    const a = await podOn(lan, node1, ['10.30.0.101', ip1], leg)
    const c = await podOn(lan, node2, [ip3], leg)
    for (const [what, from, to] of [
      ['pod to its node', a.netns, node1.v6],
      ['node to its pod', node1.path, ip1],
      ['pod to a pod of another node', a.netns, ip3],
      ['machine to pod', neighbour.path, ip1],
      ['pod to its node, the other family', a.netns, node1.v4],
    ] as const)
      assert.ok(await reaches(from, to), what)
    await serve(c.netns, 8080, 'PEER')
    node1.exec(
      'nft',
      `table ip6 proxy {
        chain prerouting {
          type nat hook prerouting priority dstnat;
          ip6 daddr fd96::3 dnat to ${ip3}
        }
      }`,
    )
    assert.equal(await connects(a.netns, 'fd96::3', 8080), node1.v6)
    assert.deepEqual(
      a.result.interfaces.map(({ mtu }) => mtu),
      [1442, 1442, 1442],
    )
    assert.ok(await reaches(a.netns, node1.v4, '-M', 'do', '-s', String(1442 - 28)))
  })
}

/** A configuration that stands for no leg at all. */
const NONE: JsonObject = {}
