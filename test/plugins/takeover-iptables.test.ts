/** A node moves from the reference plugins to ours and back while its pods run, with everything in iptables. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { ptp } from '#plugins/ptp/plugin.ts'
import { ruleKey } from '#iptables/rule.ts'
import { readWords } from '#iptables/words.ts'
import { connects, connectsOnce, difference, execIn, NetworkHost, serve } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { reference, referenceMissing } from './reference.ts'
import { slowness } from '../slow.ts'

const VERSION = '1.0.0'
const ADDRESSES = { a: ['10.77.0.2/24', 'fd00:77::2/64'], warm: ['10.77.0.9/24', 'fd00:77::9/64'] }
type Pod = keyof typeof ADDRESSES

const confOf = (pod: Pod, type = 'bridge'): JsonObject => ({
  cniVersion: VERSION,
  name: 'net1',
  type,
  bridge: 'br0',
  isDefaultGateway: true,
  hairpinMode: true,
  ipMasq: true,
  ipMasqBackend: 'iptables',
  ipam: {
    type: 'static',
    addresses: ADDRESSES[pod].map((address) => ({ address, gateway: address.replace(/[29]\/.*/, '1') })),
  },
})
const portsOf = (pod: Pod): JsonObject => ({
  cniVersion: VERSION,
  name: 'net1',
  type: 'portmap',
  backend: 'iptables',
  conditionsV4: ['!', '-s', '198.51.100.0/24'],
  runtimeConfig: {
    portMappings: [
      { hostPort: pod === 'a' ? 8000 : 7000, containerPort: 8080, protocol: 'tcp' },
      { hostPort: pod === 'a' ? 8001 : 7001, containerPort: 8081, protocol: 'udp' },
      { hostPort: pod === 'a' ? 8002 : 7002, containerPort: 8082, protocol: 'sctp' },
    ],
  },
})

interface Side {
  add(made: NetworkHost, conf: JsonObject, containerId: string, netns: string, prev?: Result): Promise<Result>
  del(made: NetworkHost, conf: JsonObject, containerId: string, netns: string, prev?: Result): Promise<void>
  check(made: NetworkHost, conf: JsonObject, containerId: string, netns: string, prev: Result): Promise<void>
}

const PLUGINS = { bridge, ptp, portmap }
const pluginOf = (conf: JsonObject) =>
  PLUGINS[conf['type'] === 'portmap' ? 'portmap' : conf['type'] === 'ptp' ? 'ptp' : 'bridge']
const withPrev = (prevResult?: Result) => (prevResult === undefined ? {} : { prevResult })

const ours: Side = {
  add: (made, conf, containerId, netns, prev) =>
    pluginOf(conf).add(inputOf(conf, { containerId, netns, ...withPrev(prev) }), made.host),
  del: (made, conf, containerId, netns, prev) =>
    pluginOf(conf).del(inputOf(conf, { containerId, netns, ...withPrev(prev) }), made.host),
  check: (made, conf, containerId, netns, prevResult) =>
    pluginOf(conf).check(inputOf(conf, { containerId, netns, prevResult }), made.host),
}

const call = (verb: string, made: NetworkHost, conf: JsonObject, containerId: string, netns: string, prev?: Result) =>
  reference(verb, prev === undefined ? conf : { ...conf, prevResult: encodeResult(prev, VERSION) }, {
    containerId,
    netns,
    inNetns: made.path,
  })

const theirs: Side = {
  add: async (...args) => decodeResult(await call('ADD', ...args), VERSION, 'the reference result'),
  del: async (...args) => void (await call('DEL', ...args)),
  check: async (...args) => void (await call('CHECK', ...args)),
}

async function addPod(side: Side, made: NetworkHost, pod: Pod, netns: string, type?: string): Promise<Result> {
  const result = await side.add(made, confOf(pod, type), pod, netns)
  await side.add(made, portsOf(pod), pod, netns, result)
  return result
}

async function delPod(side: Side, made: NetworkHost, pod: Pod, netns: string, result?: Result, type?: string) {
  await side.del(made, portsOf(pod), pod, netns, result)
  await side.del(made, confOf(pod, type), pod, netns, result)
}

/** Every rule of both families, in a form that can be compared; the guard that only ours has is left out. */
function rulesOf(made: NetworkHost): readonly string[] {
  const lines = ['iptables', 'ip6tables'].flatMap((program) =>
    ['nat', 'filter'].flatMap((table) => made.exec(program, '-t', table, '-S').split('\n')),
  )
  return lines
    .filter((line) => line !== '')
    .map((line) => {
      const [verb, chain, ...rule] = readWords(line)
      return `${verb} ${chain} ${ruleKey(rule).replaceAll('\n', ' ')}`
    })
}

/** The reference lets the kernel detect duplicates of the host's address, for a second or two. */
async function addressesSettled(made: NetworkHost): Promise<void> {
  const deadline = Date.now() + 5000 * slowness
  while (made.exec('ip', 'address').includes('tentative') && Date.now() < deadline) await sleep(50)
}

for (const type of ['bridge', 'ptp'])
  test(`${type}: what ours writes into iptables is what the reference writes`, { skip: referenceMissing }, async () => {
    const seen: (readonly string[])[] = []
    for (const side of [ours, theirs]) {
      using made = new NetworkHost()
      await addPod(side, made, 'a', made.pod(), type)
      seen.push(rulesOf(made).toSorted())
    }
    const [mine = [], other = []] = seen
    assert.ok(mine.length > 20, mine.join('\n'))
    assert.deepEqual(mine, other)
  })

for (const type of ['bridge', 'ptp'])
  for (const [from, first, then] of [
    ['ours', ours, theirs],
    ["the reference's", theirs, ours],
  ] as const)
    test(
      `${type}: ${from}: the other checks it and deletes it, the first time`,
      { skip: referenceMissing, timeout: 60_000 * slowness },
      async () => {
        using made = new NetworkHost()
        const warm = made.pod()
        const kept = await addPod(first, made, 'warm', warm, type)
        await addressesSettled(made)
        const baseline = made.dump()
        const netns = made.pod()
        const result = await addPod(first, made, 'a', netns, type)
        await serve(netns, 8080, 'a')
        assert.equal(await connects(made.path, '10.77.0.1', 8000), 'a')
        await then.check(made, confOf('a', type), 'a', netns, result)
        // The reference's own looks for IPv4 rules in ip6tables (1.1.1), and finds fault with its own work.
        if (then === ours) await then.check(made, portsOf('a'), 'a', netns, result)
        await delPod(then, made, 'a', netns, result, type)
        assert.equal(await connectsOnce(made.path, '10.77.0.1', 8000), undefined)
        assert.deepEqual(difference(baseline, made.dump()), [])
        await delPod(then, made, 'a', netns, result, type)
        await delPod(then, made, 'warm', warm, kept, type)
        assert.deepEqual(
          rulesOf(made).filter((rule) => /CNI-[0-9a-f]{24}|CNI-DN-/.test(rule)),
          [],
        )
      },
    )

test('what ours made is kept by the GC that names it, and collected by the one that does not', async () => {
  using made = new NetworkHost()
  const warm = made.pod()
  await addPod(ours, made, 'warm', warm)
  const before = rulesOf(made)
  await addPod(ours, made, 'a', made.pod())
  const valid = [{ containerId: 'warm', ifname: 'eth0' }]
  await portmap.gc(gcInputOf({ ...portsOf('a'), name: 'net2' }, []), made.host)
  await bridge.gc(gcInputOf({ ...confOf('a'), name: 'net2' }, []), made.host)
  assert.match(made.exec('iptables', '-t', 'nat', '-S'), /10\.77\.0\.2:8080/)
  await portmap.gc(gcInputOf(portsOf('a'), valid), made.host)
  await bridge.gc(gcInputOf(confOf('a'), valid), made.host)
  assert.deepEqual(rulesOf(made), before)
})

test('DEL needs neither the namespace, nor the result, nor the backend of ADD', async () => {
  using made = new NetworkHost()
  await addPod(ours, made, 'warm', made.pod())
  const before = rulesOf(made)
  const prevResult = await addPod(ours, made, 'a', made.pod())
  await portmap.del(
    inputOf({ ...portsOf('a'), backend: 'nftables', conditionsV4: [], runtimeConfig: {} }, { containerId: 'a' }),
    made.host,
  )
  await bridge.del(inputOf({ ...confOf('a'), ipMasqBackend: 'nftables' }, { containerId: 'a' }), made.host)
  assert.deepEqual(rulesOf(made), before)
  await assert.rejects(portmap.check(inputOf(portsOf('a'), { containerId: 'a', prevResult }), made.host), {
    code: 100,
    message: /8000/,
  })
})

test('CHECK names what an outsider removed', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const prevResult = await addPod(ours, made, 'a', netns)
  const check = (conf: JsonObject) => ours.check(made, conf, 'a', netns, prevResult)
  await check(confOf('a'))
  await check(portsOf('a'))
  made.exec('ip6tables', '-t', 'nat', '-F', 'POSTROUTING')
  await assert.rejects(check(confOf('a')), { code: 100, message: /fd00:77::2\/128 is not masqueraded/ })
  made.exec('iptables', '-t', 'nat', '-F', 'CNI-HOSTPORT-DNAT')
  await assert.rejects(check(portsOf('a')), { code: 100, message: /host port 8000\/tcp/ })
  // Again, and everything is there again, once.
  await portmap.add(inputOf(portsOf('a'), { containerId: 'a', netns, prevResult }), made.host)
  await check(portsOf('a'))
})

test('pods are masqueraded to the outside, and not to each other', async () => {
  using made = new NetworkHost()
  const [a, far] = [made.pod(), made.pod()]
  made.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far.split('/').at(-1) ?? '')
  made.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0')
  made.exec('ip', 'link', 'set', 'up0', 'up')
  execIn(far, 'ip', 'address', 'add', '192.0.2.2/24', 'dev', 'eth0')
  execIn(far, 'ip', 'link', 'set', 'eth0', 'up')
  await bridge.add(inputOf(confOf('a'), { containerId: 'a', netns: a }), made.host)
  const warm = made.pod()
  await bridge.add(inputOf(confOf('warm'), { containerId: 'warm', netns: warm }), made.host)
  await serve(far, 8080, 'PEER')
  await serve(warm, 8080, 'PEER')
  // There is no way back to the pod's own address.
  assert.equal(await connects(a, '192.0.2.2', 8080), '192.0.2.1')
  assert.equal(await connects(a, '10.77.0.9', 8080), '10.77.0.2')
})

test('a foreign chain for the mark must be there', async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const prevResult = await bridge.add(inputOf(confOf('a'), { containerId: 'a', netns }), made.host)
  const input = inputOf(
    { ...portsOf('a'), backend: '', externalSetMarkChain: 'KUBE-MARK-MASQ' },
    { containerId: 'a', netns, prevResult },
  )
  await assert.rejects(portmap.add(input, made.host), { code: 5, message: /KUBE-MARK-MASQ/ })
  assert.doesNotMatch(made.exec('iptables', '-t', 'nat', '-S'), /CNI-DN/)
  for (const program of ['iptables', 'ip6tables']) made.exec(program, '-t', 'nat', '-N', 'KUBE-MARK-MASQ')
  await portmap.add(input, made.host)
  assert.match(made.exec('iptables', '-t', 'nat', '-S'), /--dport 8000 -j KUBE-MARK-MASQ/)
})
