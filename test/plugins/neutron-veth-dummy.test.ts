import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { neutronVeth } from '#plugins/neutron-veth/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { inputOf } from './input.ts'
import { codeOf, execIn } from './network-host.ts'
import { lanIpam, left, LanHost } from './pod-link-suite.ts'

const conf: JsonObject = { name: 'neutron', type: 'neutron-veth', master: 'up0', ipam: lanIpam }

test(
  'dummy: the pods’ gateway answers, and goes with the last pod',
  { skip: needsKernel('dummy'), timeout: 120_000 * slowness },
  async () => {
    using made = new LanHost()
    made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
    const baseline = made.dump()
    const [a, b] = [made.pod(), made.pod()]
    const raw = { ...conf, dummy: 'dummy0' }
    const first = { containerId: 'a', netns: a }
    const prevResult = await neutronVeth.add(inputOf(raw, first), made.host)
    await neutronVeth.add(inputOf(raw, { containerId: 'b', netns: b }), made.host)
    execIn(a, 'ping', '-c1', '-W5', '169.254.1.1')
    assert.match(made.exec('ip', 'address', 'show', 'dummy0'), /NOARP[^]*inet 169\.254\.1\.1\/32 scope link/)
    await neutronVeth.del(inputOf(raw, { containerId: 'b', netns: b }), made.host)
    await neutronVeth.check(inputOf(raw, { ...first, prevResult }), made.host)
    made.exec('ip', 'link', 'set', 'dummy0', 'down')
    assert.equal(await codeOf(neutronVeth.check(inputOf(raw, { ...first, prevResult }), made.host)), 100)
    await neutronVeth.del(inputOf(raw, first), made.host)
    assert.deepEqual(left(baseline, made), [])
  },
)
