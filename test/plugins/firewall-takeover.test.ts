/** firewall's backend iptables beside the reference's: the same rules, deleted by whoever comes, and nothing left by a kill. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { firewall } from '#plugins/firewall/plugin.ts'
import { difference, NetworkHost } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { reference, referenceMissing } from './reference.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'

const bridgeConf: JsonObject = {
  cniVersion: '1.0.0',
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
}
const conf = (ingressPolicy: string): JsonObject => ({
  cniVersion: '1.0.0',
  name: 'net1',
  type: 'firewall',
  backend: 'iptables',
  ingressPolicy,
})

const theirs = (made: NetworkHost, verb: string, raw: JsonObject, containerId: string, netns: string, prev: Result) =>
  reference(verb, { ...raw, prevResult: encodeResult(prev, '1.0.0') }, { containerId, netns, inNetns: made.path })

const rulesOf = (made: NetworkHost): string =>
  ['iptables', 'ip6tables'].map((program) => made.exec(program, '-t', 'filter', '-S')).join('')

for (const policy of ['open', 'same-bridge'])
  test(
    `${policy}: what ours writes is what the reference writes, and each deletes the other's`,
    { skip: referenceMissing },
    async () => {
      using made = new NetworkHost()
      const pods = []
      for (const containerId of ['warm', 'a']) {
        const netns = made.pod()
        pods.push({
          containerId,
          netns,
          prevResult: await bridge.add(inputOf(bridgeConf, { containerId, netns }), made.host),
        })
      }
      const [warm, a] = pods
      if (warm === undefined || a === undefined) throw new Error('no pods')
      const raw = conf(policy)
      // The reference's warm pod is one that ours has no record of.
      await theirs(made, 'ADD', raw, 'warm', warm.netns, warm.prevResult)
      const before = rulesOf(made)
      await theirs(made, 'ADD', raw, 'a', a.netns, a.prevResult)
      const written = rulesOf(made)
      await firewall.check(inputOf(raw, a), made.host)
      await firewall.del(inputOf(raw, a), made.host)
      assert.equal(rulesOf(made), before)
      await firewall.add(inputOf(raw, a), made.host)
      assert.equal(rulesOf(made), written)
      await theirs(made, 'CHECK', raw, 'a', a.netns, a.prevResult)
      await theirs(made, 'DEL', raw, 'a', a.netns, a.prevResult)
      assert.equal(rulesOf(made), before)
      // What the reference deleted, ours still has on record: its own DEL or GC only puts that away.
      await firewall.gc(gcInputOf(raw, []), made.host)
      assert.equal(rulesOf(made), before)
      await firewall.del(inputOf(raw, warm), made.host)
      assert.doesNotMatch(rulesOf(made), /10\.77|fd00/)
    },
  )

test(
  'killed at any step of ADD: DEL or GC leaves nothing',
  { skip: needsProgram('iptables', 'iptables'), timeout: 120_000 * slowness },
  async () => {
    using made = new NetworkHost()
    const add = async (containerId: string) => {
      const netns = made.pod()
      return {
        containerId,
        netns,
        prevResult: await bridge.add(inputOf(bridgeConf, { containerId, netns }), made.host),
      }
    }
    const [a, kept] = [await add('a'), await add('kept')]
    for (const backend of ['iptables', 'nftables']) {
      const raw = { ...conf('isolated'), backend }
      await firewall.add(inputOf(raw, kept), made.host)
      const baseline = made.dump()
      for (const [i, point] of ['firewall.recorded', 'firewall.isolated', 'firewall.allowed'].entries()) {
        await killedAt(made, { verb: 'ADD', conf: raw, call: a, point })
        if (i % 2 === 0) await firewall.del(inputOf(conf('open'), { containerId: 'a' }), made.host)
        else await firewall.gc(gcInputOf(raw, [{ containerId: 'kept', ifname: 'eth0' }]), made.host)
        assert.deepEqual(difference(baseline, made.dump()), [], `${backend} ${point}`)
        await firewall.check(inputOf(raw, kept), made.host)
      }
      await firewall.del(inputOf(raw, kept), made.host)
    }
  },
)
