/** The iptables backends killed, failing, and beside others that write into the same tables at the same time. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { firewall } from '#plugins/firewall/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { ptp } from '#plugins/ptp/plugin.ts'
import { difference, NetworkHost, run } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { reference, referenceMissing } from './reference.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'

const skip = needsProgram('iptables', 'iptables')

const bridgeConf: JsonObject = {
  cniVersion: '1.0.0',
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipMasq: true,
  ipMasqBackend: 'iptables',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
}
const portsConf = (hostPort: number): JsonObject => ({
  cniVersion: '1.0.0',
  name: 'net1',
  type: 'portmap',
  backend: 'iptables',
  runtimeConfig: { portMappings: [{ hostPort, containerPort: 8080, protocol: 'tcp' }] },
})
const firewallConf: JsonObject = { cniVersion: '1.0.0', name: 'net1', type: 'firewall', backend: 'iptables' }

async function podOf(made: NetworkHost, containerId: string) {
  const netns = made.pod()
  return { containerId, netns, prevResult: await bridge.add(inputOf(bridgeConf, { containerId, netns }), made.host) }
}

test('killed or failing at any step: DEL or GC leaves nothing', { skip, timeout: 180_000 * slowness }, async () => {
  using made = new NetworkHost()
  const kept = await podOf(made, 'kept')
  await portmap.add(inputOf(portsConf(7000), kept), made.host)
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const valid = [{ containerId: 'kept', ifname: 'eth0' }]
  const baseline = made.dump()
  const clean = async (gc: boolean): Promise<void> => {
    if (gc) {
      await portmap.gc(gcInputOf(portsConf(8000), valid), made.host)
      await bridge.gc(gcInputOf(bridgeConf, valid), made.host)
    } else {
      await portmap.del(inputOf(portsConf(8000), call), made.host)
      await bridge.del(inputOf(bridgeConf, call), made.host)
    }
  }
  for (const [i, point] of ['bridge.masquerade', 'bridge.masqueraded'].entries()) {
    await killedAt(made, { verb: 'ADD', conf: bridgeConf, call, point })
    await clean(i % 2 === 0)
    assert.deepEqual(difference(baseline, made.dump()), [], point)
  }
  for (const [i, point] of ['portmap.map', 'portmap.guarded', 'portmap.mapped', 'portmap.localnet'].entries()) {
    const prevResult = await bridge.add(inputOf(bridgeConf, call), made.host)
    await killedAt(made, { verb: 'ADD', conf: portsConf(8000), call: { ...call, prevResult }, point })
    await clean(i % 2 === 0)
    assert.deepEqual(difference(baseline, made.dump()), [], `killed at ${point}`)
    const again = await bridge.add(inputOf(bridgeConf, call), made.host)
    const before = made.dump()
    made.atFailpoint = (name) => {
      if (name === point) throw new Error('on purpose')
    }
    await assert.rejects(portmap.add(inputOf(portsConf(8000), { ...call, prevResult: again }), made.host), /on purpose/)
    made.atFailpoint = () => {}
    assert.deepEqual(difference(before, made.dump()), [], `failed at ${point}`)
    await clean(false)
  }
  await portmap.check(inputOf(portsConf(7000), kept), made.host)
})

test(
  'many at once, with the reference and an operator in the same tables: every rule is there, and none stays',
  { skip: skip || referenceMissing, timeout: 180_000 * slowness },
  async () => {
    using made = new NetworkHost()
    const names = Array.from({ length: 10 }, (_, i) => `pod${i}`)
    const pods = await Promise.all(names.map((name) => podOf(made, name)))
    const theirs = (verb: string, i: number) => {
      const { containerId, netns, prevResult } = pods[i] ?? assert.fail()
      const conf = { ...portsConf(9000 + i), prevResult: encodeResult(prevResult, '1.0.0') }
      return reference(verb, conf, { containerId, netns, inNetns: made.path })
    }
    const operator = async (): Promise<void> => {
      for (let i = 0; i < 20; i++)
        await run('nsenter', [
          `--net=${made.path}`,
          'iptables',
          '-t',
          'nat',
          '-A',
          'POSTROUTING',
          '-s',
          `192.0.2.${i}`,
          '-j',
          'ACCEPT',
        ])
    }
    // The reference makes the chains that all share: it does not expect others to do that in the same moment.
    await theirs('ADD', 0)
    await Promise.all([
      operator(),
      theirs('ADD', 1),
      theirs('ADD', 2),
      ...pods.slice(3).map((pod, i) => portmap.add(inputOf(portsConf(9003 + i), pod), made.host)),
      ...pods.slice(3).map((pod) => firewall.add(inputOf(firewallConf, pod), made.host)),
    ])
    for (const [i, pod] of pods.entries()) {
      await portmap.check(inputOf(portsConf(9000 + i), pod), made.host)
      if (i >= 3) await firewall.check(inputOf(firewallConf, pod), made.host)
    }
    const rules = () => made.exec('iptables', '-t', 'nat', '-S')
    assert.equal(rules().match(/192\.0\.2\.\d+/g)?.length, 20)
    await Promise.all(
      pods.map(async (pod, i) => {
        if (i % 2 === 0) await portmap.del(inputOf(portsConf(9000 + i), pod), made.host)
        else await theirs('DEL', i)
        await firewall.del(inputOf(firewallConf, pod), made.host)
        await bridge.del(inputOf(bridgeConf, pod), made.host)
      }),
    )
    assert.doesNotMatch(rules(), /CNI-DN-|10\.77/)
    assert.doesNotMatch(made.exec('iptables', '-S'), /10\.77/)
    assert.equal(rules().match(/192\.0\.2\.\d+/g)?.length, 20)
  },
)

test('STATUS says that iptables is missing, where it is asked for', async () => {
  using made = new NetworkHost()
  const path = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  try {
    const asking: readonly (readonly [{ status: typeof bridge.status }, JsonObject])[] = [
      [bridge, { ...bridgeConf, ipam: {} }],
      [portmap, portsConf(1)],
      [firewall, firewallConf],
      [ptp, { ...bridgeConf, type: 'ptp' }],
    ]
    for (const [plugin, conf] of asking)
      await assert.rejects(plugin.status(inputOf(conf), made.host), { code: 50, message: /iptables is not installed/ })
    await portmap.status(inputOf({ ...portsConf(1), backend: 'nftables' }), made.host)
  } finally {
    process.env['PATH'] = path
  }
})
