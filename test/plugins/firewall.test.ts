import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { firewall } from '#plugins/firewall/plugin.ts'
import { connects, connectsOnce, difference, execIn, NetworkHost, serve } from './network-host.ts'
import { FirewalldHost, firewalldMissing } from './firewalld-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'

const noIptables = needsProgram('iptables', 'iptables')
const SKIP = { nftables: noIptables, iptables: noIptables, firewalld: firewalldMissing } as const
const BACKENDS = ['nftables', 'iptables', 'firewalld'] as const

const bridgeConf = (br: string, net: number): JsonObject => ({
  name: `net${net}`,
  type: 'bridge',
  bridge: br,
  isDefaultGateway: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: `10.7${net}.0.0/24` }], [{ subnet: `fd00:7${net}::/64` }]] },
})
const conf = (net: number, extra: JsonObject = {}): JsonObject => ({ name: `net${net}`, type: 'firewall', ...extra })

async function pod(made: NetworkHost, containerId: string, net = 1) {
  const netns = made.pod()
  const prevResult = await bridge.add(inputOf(bridgeConf(`br${net}`, net), { containerId, netns }), made.host)
  const server = await serve(netns, 8080, containerId)
  const address = prevResult.ips[0]?.address.split('/')[0] ?? ''
  const six = prevResult.ips[1]?.address.split('/')[0] ?? ''
  return { containerId, netns, prevResult, server, address, six }
}

/** 192.0.2.2, with a server, on a link of its own; the host forwards nothing but what somebody lets through. */
async function outside(made: NetworkHost): Promise<string> {
  const netns = made.pod()
  made.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns.split('/').at(-1) ?? '')
  made.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0')
  made.exec('ip', 'link', 'set', 'up0', 'up')
  execIn(netns, 'ip', 'address', 'add', '192.0.2.2/24', 'dev', 'eth0')
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'up')
  execIn(netns, 'ip', 'route', 'add', 'default', 'via', '192.0.2.1')
  await serve(netns, 8080, 'far')
  return netns
}

test('iptables: a FORWARD policy of DROP is opened for the pod, from the pod', { skip: SKIP.iptables }, async () => {
  using made = new NetworkHost()
  const far = await outside(made)
  made.exec('iptables', '-P', 'FORWARD', 'DROP')
  const a = await pod(made, 'a')
  assert.equal(await connectsOnce(a.netns, '192.0.2.2', 8080), undefined)
  const input = inputOf(conf(1), a)
  assert.equal(await firewall.add(input, made.host), a.prevResult)
  await firewall.check(input, made.host)
  assert.equal(await connects(a.netns, '192.0.2.2', 8080), 'far')
  assert.equal(await connectsOnce(far, a.address, 8080), undefined, 'only answers come in')
  // The operator's own chain comes first.
  made.exec('iptables', '-A', 'CNI-ADMIN', '-p', 'tcp', '--dport', '8080', '-j', 'ACCEPT')
  assert.equal(await connects(far, a.address, 8080), 'a')
  made.exec('iptables', '-F', 'CNI-ADMIN')
  await firewall.del(inputOf(conf(1), { containerId: 'a' }), made.host)
  assert.equal(await connectsOnce(a.netns, '192.0.2.2', 8080), undefined)
  await assert.rejects(firewall.check(input, made.host), { code: 100, message: new RegExp(a.address) })
})

test('firewalld: a zone lets the pod through', { skip: SKIP.firewalld, timeout: 120_000 * slowness }, async () => {
  using made = new NetworkHost()
  using firewalld = await FirewalldHost.start(made)
  await outside(made)
  firewalld.cmd('--set-default-zone=drop')
  const a = await pod(made, 'a')
  assert.equal(await connectsOnce(a.netns, '192.0.2.2', 8080), undefined)
  // It runs, so it is the one to ask.
  const input = inputOf(conf(1), a)
  await firewall.add(input, made.host)
  assert.equal(await connects(a.netns, '192.0.2.2', 8080), 'far')
  const sources = (zone: string) => firewalld.cmd(`--zone=${zone}`, '--list-sources').split(' ')
  assert.ok(sources('trusted').includes(`${a.address}/32`) && sources('trusted').includes(`${a.six}/128`))
  await firewall.check(input, made.host)
  // An address that a pod of another zone left behind moves over.
  await firewall.add(inputOf(conf(1, { firewalldZone: 'internal' }), a), made.host)
  assert.ok(sources('internal').includes(`${a.address}/32`) && !sources('trusted').includes(`${a.address}/32`))
  firewalld.cmd('--zone=internal', `--remove-source=${a.six}/128`)
  await assert.rejects(firewall.check(inputOf(conf(1, { firewalldZone: 'internal' }), a), made.host), {
    code: 100,
    message: new RegExp(a.six),
  })
  // Without the previous result and the zone: the record knows.
  await firewall.del(inputOf(conf(1), { containerId: 'a' }), made.host)
  assert.deepEqual(sources('internal'), [''])
  await firewall.del(input, made.host)
  await assert.rejects(firewall.add(inputOf(conf(1, { firewalldZone: 'nowhere' }), a), made.host), {
    code: 5,
    message: /nowhere.*--get-zones/s,
  })
})

test(
  'firewalld: a reload forgets the sources, and opens no bridge',
  { skip: SKIP.firewalld, timeout: 120_000 * slowness },
  async () => {
    using made = new NetworkHost()
    using firewalld = await FirewalldHost.start(made)
    firewalld.cmd('--set-default-zone=trusted')
    const raw = (net: number) => conf(net, { ingressPolicy: 'isolated' })
    const [a, b, c] = [await pod(made, 'a', 1), await pod(made, 'b', 2), await pod(made, 'c', 1)]
    await firewall.add(inputOf(raw(1), a), made.host)
    await firewall.add(inputOf(raw(2), b), made.host)
    firewalld.cmd('--reload')
    assert.equal(await connectsOnce(b.netns, a.address, 8080), undefined)
    assert.equal(await connectsOnce(c.netns, a.address, 8080), undefined)
    await assert.rejects(firewall.check(inputOf(raw(1), a), made.host), { code: 100, message: /zone trusted/ })
    await firewall.add(inputOf(raw(1), a), made.host)
    await firewall.check(inputOf(raw(1), a), made.host)
    for (const [net, who] of [
      [1, a],
      [2, b],
    ] as const)
      await firewall.del(inputOf(raw(net), who), made.host)
    assert.equal(await connects(b.netns, a.address, 8080), 'a')
  },
)

test('without a message bus the backend firewalld says so', async () => {
  using made = new NetworkHost()
  const raw = conf(1, { backend: 'firewalld' })
  await assert.rejects(firewall.status(inputOf(raw), made.host), { code: 50, message: /firewalld/ })
  const a = await pod(made, 'a')
  await assert.rejects(firewall.add(inputOf(raw, a), made.host), { code: 5, message: /message bus/ })
  await firewall.del(inputOf(raw, a), made.host)
})

for (const backend of BACKENDS) {
  const options = { skip: SKIP[backend], timeout: 180_000 * slowness }

  test(`${backend}: pods of bridges with a policy do not reach each other`, options, async () => {
    using made = new NetworkHost()
    using firewalld = backend === 'firewalld' ? await FirewalldHost.start(made) : undefined
    // Else it lets no bridge forward to another.
    firewalld?.cmd('--set-default-zone=trusted')
    const raw = (net: number, ingressPolicy: string) => conf(net, { backend, ingressPolicy })
    const [a, b] = [await pod(made, 'a', 1), await pod(made, 'b', 2)]
    const c = await pod(made, 'c', 1)
    assert.equal(await connects(a.netns, b.address, 8080), 'b')
    await firewall.add(inputOf(raw(1, 'same-bridge'), a), made.host)
    // Docker's way, and the reference's: between two of them, not from everywhere.
    assert.equal(await connects(b.netns, a.address, 8080), 'a')
    await firewall.add(inputOf(raw(2, 'same-bridge'), b), made.host)
    await firewall.add(inputOf(raw(1, 'same-bridge'), c), made.host)
    for (const [net, who] of [
      [1, a],
      [2, b],
      [1, c],
    ] as const)
      await firewall.check(inputOf(raw(net, 'same-bridge'), who), made.host)
    for (const to of [b.address, b.six]) assert.equal(await connectsOnce(a.netns, to, 8080), undefined)
    for (const to of [a.address, a.six]) assert.equal(await connectsOnce(b.netns, to, 8080), undefined)
    assert.equal(await connects(a.netns, c.address, 8080), 'c', 'within the bridge')
    assert.equal(await connects(made.path, a.address, 8080), 'a', 'the host itself')
    await firewall.del(inputOf(raw(1, 'same-bridge'), c), made.host)
    assert.equal(await connectsOnce(a.netns, b.address, 8080), undefined, 'another pod of the bridge still wants it')
    await firewall.gc(gcInputOf(raw(1, 'same-bridge'), []), made.host)
    assert.equal(await connects(a.netns, b.address, 8080), 'b')
    assert.doesNotMatch(made.exec('nft', 'list', 'ruleset'), /"br1"/)
  })

  test(`${backend}: an isolated pod is reached by no neighbour, and nobody else loses anything`, options, async () => {
    using made = new NetworkHost()
    using firewalld = backend === 'firewalld' ? await FirewalldHost.start(made) : undefined
    firewalld?.cmd('--set-default-zone=trusted')
    const [a, b, c] = [await pod(made, 'a'), await pod(made, 'b'), await pod(made, 'c')]
    const raw = conf(1, { backend, ingressPolicy: 'isolated' })
    await firewall.add(inputOf(conf(1, { backend }), b), made.host)
    await firewall.add(inputOf(raw, a), made.host)
    await firewall.check(inputOf(raw, a), made.host)
    for (const to of [a.address, a.six]) assert.equal(await connectsOnce(b.netns, to, 8080), undefined, to)
    assert.equal(await connects(c.netns, b.address, 8080), 'b')
    assert.equal(await connects(made.path, a.address, 8080), 'a')
    assert.equal(await connects(made.path, a.six, 8080), 'a')
    made.exec('nft', 'flush', 'set', 'bridge', 'heddle_cni_isolation', 'alone')
    await assert.rejects(firewall.check(inputOf(raw, a), made.host), { code: 100, message: /isolated/ })
    assert.equal(await connects(b.netns, a.address, 8080), 'a')
    await firewall.add(inputOf(raw, a), made.host)
    await firewall.del(inputOf(conf(1), { containerId: 'a' }), made.host)
    assert.equal(await connects(b.netns, a.address, 8080), 'a')
    await firewall.check(inputOf(conf(1, { backend }), b), made.host)
  })

  test(`${backend}: nothing stays behind: DEL, DEL again, GC, and an ADD that fails`, options, async () => {
    using made = new NetworkHost()
    using firewalld = backend === 'firewalld' ? await FirewalldHost.start(made) : undefined
    const raw = (extra: JsonObject = {}) => conf(1, { backend, ingressPolicy: 'isolated', ...extra })
    const [a, kept] = [await pod(made, 'a'), await pod(made, 'kept')]
    await firewall.add(inputOf(raw(), kept), made.host)
    const baseline = [made.dump(), firewalld?.cmd('--zone=trusted', '--list-sources')]
    const assertAsBefore = (what: string) => {
      assert.deepEqual(difference(baseline[0] ?? '', made.dump()), [], what)
      assert.equal(firewalld?.cmd('--zone=trusted', '--list-sources'), baseline[1], what)
    }
    for (const [what, clean] of [
      ['DEL', () => firewall.del(inputOf(raw(), a), made.host)],
      ['DEL with nothing known', () => firewall.del(inputOf(conf(1), { containerId: 'a' }), made.host)],
      [
        'DEL with a configuration that is wrong by now',
        () => firewall.del(inputOf(raw({ ingressPolicy: 'x' }), a), made.host),
      ],
      ['GC', () => firewall.gc(gcInputOf(raw(), [{ containerId: 'kept', ifname: 'eth0' }]), made.host)],
    ] as const) {
      await firewall.add(inputOf(raw(), a), made.host)
      assert.notDeepEqual(difference(baseline[0] ?? '', made.dump()), [])
      await firewall.gc(gcInputOf({ ...raw(), name: 'other' }, []), made.host)
      await firewall.check(inputOf(raw(), a), made.host)
      await clean()
      await clean()
      assertAsBefore(what)
    }
    for (const point of ['firewall.recorded', 'firewall.isolated', 'firewall.allowed']) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error('on purpose')
      }
      await assert.rejects(firewall.add(inputOf(raw(), a), made.host), /on purpose/)
      made.atFailpoint = () => {}
      assertAsBefore(point)
    }
    await firewall.check(inputOf(raw(), kept), made.host)
  })

  test(`${backend}: a late DEL leaves the address to its new pod`, options, async () => {
    using made = new NetworkHost()
    using _firewalld = backend === 'firewalld' ? await FirewalldHost.start(made) : undefined
    const a = await pod(made, 'a')
    await firewall.add(inputOf(conf(1, { backend }), a), made.host)
    const heir = inputOf(conf(1, { backend }), { ...a, containerId: 'heir' })
    await firewall.add(heir, made.host)
    await firewall.del(inputOf(conf(1, { backend }), a), made.host)
    await firewall.check(heir, made.host)
    await firewall.del(heir, made.host)
    await assert.rejects(firewall.check(heir, made.host), { code: 100 })
  })
}

test('bad configurations are refused with their field', async () => {
  using made = new NetworkHost()
  const prevResult = { interfaces: [{ name: 'eth0', sandbox: '/x' }], ips: [], routes: [], dns: {} }
  const bad: [JsonObject, RegExp][] = [
    [conf(1, { backend: 'ufw' }), /backend.*ufw/],
    [conf(1, { ingressPolicy: 'closed' }), /ingressPolicy.*closed/],
    [conf(1, { iptablesAdminChainName: 'A B' }), /iptablesAdminChainName.*A B/],
    [conf(1, { iptablesAdminChainName: 'CNI-FORWARD' }), /CNI-FORWARD/],
    [conf(1, { iptablesAdminChainName: 'X'.repeat(29) }), /28/],
    [conf(1, { firewalldZone: 'a b' }), /firewalldZone/],
    [conf(1, { ingressPolicy: 'same-bridge' }), /bridge/],
  ]
  for (const [raw, message] of bad)
    await assert.rejects(
      firewall.add(inputOf(raw, { prevResult }), made.host),
      { code: 7, message },
      JSON.stringify(raw),
    )
  await assert.rejects(firewall.add(inputOf(conf(1)), made.host), { code: 7, message: /chained/ })
  assert.deepEqual(firewall.versions.at(0), '0.4.0')
  assert.equal(await firewall.add(inputOf(conf(1), { prevResult }), made.host), prevResult)
  assert.equal(made.exec('nft', 'list', 'ruleset'), '')
})
