/** The old kind of iptables, with tables of its own in the kernel: used where the node uses it, and cleaned up wherever it is found. */

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { hostNetns } from '#plugins/link/host-netns.ts'
import { detectVariant, hasNftChain } from '#iptables/variant.ts'
import { connects, NetworkHost, serve } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'

const skip = needsKernel('iptables-legacy')
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }]] }
const bridgeConf = {
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipMasq: true,
  ipMasqBackend: 'iptables',
  ipam,
}
const portMappings = [{ hostPort: 8000, containerPort: 8080, protocol: 'tcp' }]
const portsConf = { name: 'net1', type: 'portmap', backend: 'iptables', runtimeConfig: { portMappings } }
const detect = (made: NetworkHost) => detectVariant(hostNetns(made.host).nft, made.path, 'auto')

test(
  'the kind with the hint of kubelet, or else with more rules, is used',
  { skip, timeout: 60_000 * slowness },
  async () => {
    using made = new NetworkHost()
    assert.equal(await detect(made), 'nft')
    made.exec('iptables-legacy', '-t', 'filter', '-A', 'FORWARD', '-j', 'ACCEPT')
    assert.equal(await detect(made), 'legacy')
    for (const source of ['10.0.0.1', '10.0.0.2'])
      made.exec('iptables-nft', '-A', 'FORWARD', '-s', source, '-j', 'ACCEPT')
    assert.equal(await detect(made), 'nft')
    made.exec('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
    assert.equal(await detect(made), 'legacy')
    made.exec('ip6tables-nft', '-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY')
    assert.equal(await detect(made), 'nft')
    assert.equal(await detectVariant(hostNetns(made.host).nft, made.path, 'legacy'), 'legacy')
  },
)

test('without any rules what is installed is used', { skip }, async () => {
  using made = new NetworkHost()
  const path = process.env['PATH'] ?? ''
  const folder = join(made.root, 'bin')
  mkdirSync(folder)
  const link = (name: string) => symlinkSync(join('/usr/sbin', name), join(folder, name))
  for (const name of ['iptables-legacy', 'iptables-legacy-save', 'iptables-legacy-restore']) link(name)
  process.env['PATH'] = folder
  try {
    assert.equal(await detect(made), 'legacy')
    for (const name of ['iptables-nft', 'iptables-nft-restore']) link(name)
    assert.equal(await detect(made), 'nft')
  } finally {
    process.env['PATH'] = path
  }
})

for (const how of ['DEL', 'GC'])
  test(`rules of the old kind work, and ${how} removes them`, { skip, timeout: 120_000 * slowness }, async () => {
    using made = new NetworkHost()
    const rules = () => made.exec('iptables-legacy', '-t', 'nat', '-S')
    made.exec('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
    const warm = await bridge.add(inputOf(bridgeConf, { containerId: 'warm', netns: made.pod() }), made.host)
    const other = { portMappings: [{ hostPort: 7000, containerPort: 80, protocol: 'tcp' }] }
    await portmap.add(
      inputOf({ ...portsConf, runtimeConfig: other }, { containerId: 'warm', prevResult: warm }),
      made.host,
    )
    const before = rules()
    const netns = made.pod()
    const prevResult = await bridge.add(inputOf(bridgeConf, { containerId: 'a', netns }), made.host)
    const call = { containerId: 'a', netns, prevResult }
    await portmap.add(inputOf(portsConf, call), made.host)
    assert.match(rules(), /10\.77\.0\.3:8080/)
    assert.equal(hasNftChain(hostNetns(made.host).nft, 4, 'nat', 'CNI-HOSTPORT-DNAT'), false)
    await serve(netns, 8080, 'a')
    assert.equal(await connects(made.path, '10.77.0.1', 8000), 'a')
    assert.equal(await connects(made.path, '127.0.0.1', 8000), 'a')
    await portmap.check(inputOf(portsConf, call), made.host)
    await bridge.check(inputOf(bridgeConf, call), made.host)
    // The node has changed to today's kind since.
    made.exec('ip6tables-nft', '-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY')
    const valid = [{ containerId: 'warm', ifname: 'eth0' }]
    if (how === 'DEL') {
      await portmap.del(inputOf(portsConf, call), made.host)
      await bridge.del(inputOf(bridgeConf, call), made.host)
    } else {
      await portmap.gc(gcInputOf(portsConf, valid), made.host)
      await bridge.gc(gcInputOf(bridgeConf, valid), made.host)
    }
    assert.equal(rules(), before)
  })
