import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { dummy } from '#plugins/dummy/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { codeOf, execIn, NetworkHost, ping } from './network-host.ts'
import { inputOf } from './input.ts'
import { lanIpam, podLinkSuite } from './pod-link-suite.ts'

const conf: JsonObject = { name: 'net1', type: 'dummy', ipam: lanIpam }
const skip = needsKernel('dummy')

podLinkSuite({ plugin: dummy, conf, kind: 'dummy', skip })

test('the pod reaches its own addresses at once, of both families; ipam is required', { skip }, async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const addresses = [{ address: '10.99.0.5/32' }, { address: 'fd00:99::5/128' }]
  const ipam = { type: 'static', addresses, dns: { nameservers: ['10.99.0.53'] } }
  const result = await dummy.add(inputOf({ ...conf, ipam }, { netns }), made.host)
  assert.deepEqual(
    result.ips.map(({ address }) => address),
    ['10.99.0.5/32', 'fd00:99::5/128'],
  )
  assert.deepEqual(result.dns, { nameservers: ['10.99.0.53'] })
  // What a machine sends to itself goes over lo.
  execIn(netns, 'ip', 'link', 'set', 'lo', 'up')
  for (const address of ['10.99.0.5', 'fd00:99::5']) assert.ok(await ping(netns, address), address)
  const second = { netns, ifname: 'net1' }
  assert.equal(await codeOf(dummy.add(inputOf({ ...conf, ipam: {} }, second), made.host)), 7)
  assert.equal(await codeOf(dummy.status(inputOf({ ...conf, ipam: {} }), made.host)), 7)
})
