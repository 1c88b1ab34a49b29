import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { ptp } from '#plugins/ptp/plugin.ts'
import { connects, connectsOnce, difference, NetworkHost, serve } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { reference, referenceMissing } from './reference.ts'

const VERSION = '1.0.0'

/** One configuration for both sides: the data directory is the same whether `host.root` stands before it or not. */
function confs(made: NetworkHost, type = 'bridge') {
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] }
  const dataDir = '/var/lib/cni/networks'
  const common = { cniVersion: VERSION, name: 'net1', type, bridge: 'br0', isDefaultGateway: true, ipMasq: true }
  const ports = {
    cniVersion: VERSION,
    name: 'net1',
    type: 'portmap',
    runtimeConfig: { portMappings: [{ hostPort: 8000, containerPort: 8080, protocol: 'tcp' }] },
  }
  return {
    ours: { ...common, ipam: { ...ipam, dataDir } } as JsonObject,
    theirs: { ...common, ipam: { ...ipam, dataDir: join(made.root, dataDir) } } as JsonObject,
    ports: ports as JsonObject,
  }
}

const theirs = async (
  made: NetworkHost,
  verb: string,
  conf: JsonObject,
  containerId: string,
  netns: string,
  prev?: Result,
) => {
  const config = prev === undefined ? conf : { ...conf, prevResult: encodeResult(prev, VERSION) }
  return reference(verb, config, { containerId, netns, inNetns: made.path })
}
const resultOf = (json: JsonObject): Result => decodeResult(json, VERSION, 'the reference result')

/** The reference lets the kernel detect duplicates of the bridge's address, for a second or two. */
async function addressesSettled(made: NetworkHost): Promise<void> {
  const deadline = Date.now() + 5000
  while (made.exec('ip', 'address').includes('tentative') && Date.now() < deadline) await sleep(50)
}

/** Chains of iptables itself stay, as the reference leaves them. */
const withoutIptables = (text: string): string =>
  text.replace(/^# Warning.*$\n?/gm, '').replace(/^table ip6? nat \{[^]*?^\}$\n?/gm, '')

test(
  'what the reference made, ours checks, deletes and collects',
  { skip: referenceMissing, timeout: 120_000 },
  async () => {
    using made = new NetworkHost()
    const { ours, theirs: conf, ports } = confs(made)
    for (const how of ['DEL', 'DEL without a namespace', 'GC'] as const) {
      const netns = made.pod()
      // The first call makes the bridge and the base chains of iptables.
      const warm = made.pod()
      await theirs(made, 'ADD', ports, 'warm', warm, resultOf(await theirs(made, 'ADD', conf, 'warm', warm)))
      await addressesSettled(made)
      const baseline = made.dump()
      const prevResult = resultOf(await theirs(made, 'ADD', conf, 'a', netns))
      const own = { portMappings: [{ hostPort: 8001, containerPort: 8080, protocol: 'tcp' }] }
      await theirs(made, 'ADD', { ...ports, runtimeConfig: own }, 'a', netns, prevResult)
      assert.match(made.exec('iptables', '-t', 'nat', '-S'), /-j CNI-DN-[0-9a-f]{21}/)
      const call = { containerId: 'a', netns, prevResult }
      await bridge.check(inputOf(ours, call), made.host)
      await portmap.check(inputOf({ ...ports, runtimeConfig: own }, call), made.host)
      await assert.rejects(portmap.check(inputOf(ports, call), made.host), { code: 100, message: /8000/ })
      if (how === 'GC') {
        const valid = [{ containerId: 'warm', ifname: 'eth0' }]
        await portmap.gc(gcInputOf(ports, valid), made.host)
        await bridge.gc(gcInputOf(ours, valid), made.host)
        // GC has no namespace to go by, and the reference's links carry no mark.
        made.exec('ip', 'link', 'delete', prevResult.interfaces[1]!.name)
      } else {
        const gone = how === 'DEL' ? call : { containerId: 'a', prevResult }
        await portmap.del(inputOf(ports, gone), made.host)
        await bridge.del(inputOf(ours, gone), made.host)
        await bridge.del(inputOf(ours, gone), made.host)
      }
      assert.deepEqual(difference(baseline, made.dump()), [], how)
      await portmap.del(inputOf(ports, { containerId: 'warm' }), made.host)
      await bridge.del(inputOf(ours, { containerId: 'warm', netns: warm }), made.host)
      assert.doesNotMatch(made.exec('iptables', '-t', 'nat', '-S'), /CNI-[0-9a-f]{24}|CNI-DN-[0-9a-f]/, how)
    }
  },
)

test(
  'what ours made, the reference deletes as far as it knows of it',
  { skip: referenceMissing, timeout: 120_000 },
  async () => {
    using made = new NetworkHost()
    const { ours, theirs: conf, ports } = confs(made)
    const netns = made.pod()
    const prevResult = await bridge.add(inputOf(ours, { containerId: 'a', netns }), made.host)
    await portmap.add(inputOf(ports, { containerId: 'a', netns, prevResult }), made.host)
    // The version of the reference that is installed compares what it knows: the bridge, the pair, addresses and routes.
    await theirs(made, 'CHECK', { ...conf, ipMasq: false }, 'a', netns, prevResult)
    await theirs(made, 'DEL', ports, 'a', netns, prevResult)
    // It stumbles over its missing iptables chain after it has released everything; the runtime's second DEL succeeds.
    await assert.rejects(theirs(made, 'DEL', conf, 'a', netns, prevResult), /Chain '?CNI-/)
    await theirs(made, 'DEL', conf, 'a', netns, prevResult)
    assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
    assert.ok(!existsSync(join(made.root, 'var/lib/cni/networks/net1/10.77.0.2')))
    // Our tables are not theirs to clean; our GC does.
    await bridge.gc(gcInputOf(ours, []), made.host)
    await portmap.gc(gcInputOf(ports, []), made.host)
    assert.doesNotMatch(made.exec('nft', 'list', 'ruleset'), /10\.77\.0\.2/)
  },
)

test(
  'mixed chains work: their bridge with our portmap, our bridge with theirs',
  { skip: referenceMissing, timeout: 120_000 },
  async () => {
    using made = new NetworkHost()
    const { ours, theirs: conf, ports } = confs(made)
    const [a, b] = [made.pod(), made.pod()]
    const first = resultOf(await theirs(made, 'ADD', conf, 'a', a))
    await portmap.add(inputOf(ports, { containerId: 'a', netns: a, prevResult: first }), made.host)
    await serve(a, 8080, 'a')
    assert.equal(await connects(made.path, '10.77.0.1', 8000), 'a')
    await portmap.check(inputOf(ports, { containerId: 'a', netns: a, prevResult: first }), made.host)
    await portmap.del(inputOf(ports, { containerId: 'a', netns: a, prevResult: first }), made.host)
    assert.equal(await connectsOnce(made.path, '10.77.0.1', 8000), undefined)

    const second = await bridge.add(inputOf(ours, { containerId: 'b', netns: b }), made.host)
    assert.notDeepEqual(second.ips[0]?.address, first.ips[0]?.address)
    await theirs(made, 'ADD', ports, 'b', b, second)
    await serve(b, 8080, 'b')
    assert.equal(await connects(made.path, '10.77.0.1', 8000), 'b')
    await theirs(made, 'DEL', ports, 'b', b, second)
    await bridge.del(inputOf(ours, { containerId: 'b', netns: b, prevResult: second }), made.host)
    await bridge.del(inputOf(ours, { containerId: 'a', netns: a, prevResult: first }), made.host)
    assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
  },
)

test('ptp of the reference is checked and deleted by ours', { skip: referenceMissing, timeout: 60_000 }, async () => {
  using made = new NetworkHost()
  const { ours, theirs: conf } = confs(made, 'ptp')
  const netns = made.pod()
  const prevResult = resultOf(await theirs(made, 'ADD', conf, 'a', netns))
  const call = { containerId: 'a', netns, prevResult }
  await ptp.check(inputOf(ours, call), made.host)
  await ptp.del(inputOf(ours, call), made.host)
  assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
  assert.doesNotMatch(made.exec('iptables', '-t', 'nat', '-S'), /CNI-[0-9a-f]{24}/)
  assert.equal(withoutIptables(made.exec('nft', 'list', 'ruleset')).trim(), '')
})
