import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { specVersions } from '#cni/version.ts'
import { parseMac } from '#ip/mac.ts'
import { listLinks } from '#netlink/link.ts'
import type { FaultAction } from '#openstack/fake/faults.ts'
import { Book } from '#plugins/host-device-plus/book.ts'
import { isIdle, type Card } from '#plugins/host-device-plus/card.ts'
import { closeClouds } from '#plugins/host-device-plus/cloud.ts'
import { NicKeeper, type NicReport } from '#plugins/host-device-plus/keeper.ts'
import { hostDevicePlusPlugin } from '#plugins/host-device-plus/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { vethHost } from '#plugins/veth-host/plugin.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { gcInputOf, inputOf } from './input.ts'
import { codeOf, execIn, ping, pluginHostAt } from './network-host.ts'
import { NovaHost } from './nova-host.ts'

const skip = needsRoot
const plugin = hostDevicePlusPlugin({ settleMs: 0 })

const keeperOf = (made: NovaHost, onReport: (report: NicReport) => void = () => {}): NicKeeper =>
  new NicKeeper({ host: made.host, settleMs: 0, intervalMs: 100, fullMs: 300, onReport })

const bookOf = (made: NovaHost): Book => new Book(made.root, made.host)
const idleCards = (made: NovaHost): readonly Card[] => bookOf(made).list().filter(isIdle)

const macIn = (netns: string): unknown => JSON.parse(execIn(netns, 'ip', '-j', 'link', 'show', 'eth0'))[0]?.address

async function until(what: string, is: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000 * slowness
  while (!is()) {
    if (Date.now() > deadline) assert.fail(`waited for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

test('without an agent: port, card, pod, packets; and back', { skip }, async () => {
  await using made = await NovaHost.start({ attachMs: 50, plugMs: 100 })
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const conf: JsonObject = made.conf()
  const result = await plugin.add(inputOf(conf, call), made.host)
  const [card] = made.cards()
  assert.deepEqual(result.interfaces, [{ name: 'eth0', mac: card?.mac, mtu: 1442, sandbox: netns }])
  assert.deepEqual(
    result.ips.map(({ address, gateway }) => [address, gateway]),
    [
      [`${card?.fixed[0]?.ip_address}/24`, '10.9.0.1'],
      [`${card?.fixed[1]?.ip_address}/64`, 'fd00:9::1'],
    ],
  )
  assert.deepEqual(
    result.routes.map(({ dst, gw }) => [dst, gw]),
    [
      ['0.0.0.0/0', '10.9.0.1'],
      ['::/0', 'fd00:9::1'],
    ],
  )
  assert.match(card?.name ?? '', new RegExp(`^heddle:unnamed:nic:${made.server.id}:[0-9a-f]{12}$`))
  assert.deepEqual(card?.tags.includes('heddle-kind=nic'), true)
  assert.ok(await ping(netns, '10.9.0.1'))
  assert.ok(await ping(netns, '-6', 'fd00:9::1'))
  assert.match(execIn(netns, 'ip', 'route'), /^default via 10\.9\.0\.1 dev eth0/m)
  assert.deepEqual(made.links(), ['ens3', 'lo'])
  await plugin.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  await plugin.status(inputOf(conf), made.host)
  assert.equal(await codeOf(plugin.add(inputOf(conf, call), made.host)), 4)
  for (const gone of [{ ...call, prevResult: result }, call, { containerId: 'a' }, { containerId: 'never', netns }])
    await plugin.del(inputOf(conf, gone), made.host)
  assert.equal(execIn(netns, 'ip', '-o', 'link').trim().split('\n').length, 1)
  await made.assertNothing('after DEL')
})

test(
  'with an agent: the pool answers without a request, and is filled beside; keep gives the card back to it',
  { skip },
  async () => {
    await using made = await NovaHost.start({ attachMs: 50, plugMs: 50 })
    const conf = made.conf({ poolSize: 1, onDelete: 'keep' })
    await plugin.status(inputOf(conf), made.host)
    const reports: NicReport[] = []
    await using keeper = keeperOf(made, (report) => reports.push(report))
    await until('an idle card', () => idleCards(made).length === 1)
    const [pooled] = made.cards()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const result = await plugin.add(inputOf(conf, call), made.host)
    assert.equal(result.interfaces[0]?.mac, pooled?.mac)
    assert.ok(await ping(netns, '10.9.0.1'))
    await until('another idle card', () => idleCards(made).length === 1)
    assert.equal(made.cards().length, 2)
    // The pool is full, so the pod's card goes.
    await plugin.del(inputOf(conf, call), made.host)
    await until('one card', () => made.cards().length === 1)
    assert.notEqual(made.cards()[0]?.mac, pooled?.mac)
    await until('a report', () => reports.at(-1)?.places === 25 && reports.at(-1)?.cards.get('idle') === 1)
    assert.deepEqual([...(reports.at(-1)?.troubles ?? [])], [])
    await keeper[Symbol.asyncDispose]()
    // Without one, the last card goes to a pod and comes back to the pool, with what the pod made of it undone.
    const kept = made.cards()[0]?.mac
    made.requests()
    assert.equal((await plugin.add(inputOf(conf, call), made.host)).interfaces[0]?.mac, kept)
    assert.deepEqual(made.requests(), [])
    execIn(netns, 'ip', 'link', 'set', 'eth0', 'mtu', '1300', 'address', '02:00:00:00:00:0b', 'alias', 'mine')
    made.requests()
    await plugin.del(inputOf(conf, call), made.host)
    assert.deepEqual(made.requests(), [])
    assert.equal(idleCards(made).length, 1)
    const link = listLinks(made.netlink).find(({ mac }) => mac === kept)
    assert.deepEqual([link?.mtu, link?.up, link?.alias?.startsWith('heddle-nic:')], [1500, false, true])
    const again = await plugin.add(inputOf(conf, { containerId: 'b', netns }), made.host)
    assert.deepEqual([again.interfaces[0]?.mac, again.interfaces[0]?.mtu], [kept, 1442])
    assert.ok(await ping(netns, '10.9.0.1'))
    await plugin.del(inputOf(made.conf(), { containerId: 'b' }), made.host)
    await made.assertNothing('after DEL without keep')
  },
)

test('the limit of the server is never exceeded, by two programs and more pods than places', { skip }, async () => {
  await using made = await NovaHost.start({ attachMs: 20 })
  const other = pluginHostAt(made.path, made.root, () => {})
  try {
    const conf = made.conf({ deviceLimit: 4, attachTimeoutMs: 3000 * slowness })
    const calls = Array.from({ length: 7 }, (_, i) => ({ containerId: `c${i}`, netns: made.pod() }))
    const codes = await Promise.all(
      calls.map((call, i) => codeOf(plugin.add(inputOf(conf, call), i % 2 === 0 ? made.host : other))),
    )
    assert.deepEqual(
      [11, undefined].map((wanted) => codes.filter((code) => code === wanted).length),
      [4, 3],
    )
    assert.equal(made.most, 4)
    assert.equal(await codeOf(plugin.status(inputOf(conf), made.host)), 50)
    const macs = calls.flatMap(({ netns }, i) => (codes[i] === undefined ? [macIn(netns)] : []))
    assert.equal(new Set(macs).size, 3)
    // A place that becomes free is another pod's.
    const [winner, loser] = [codes.indexOf(undefined), codes.indexOf(11)]
    await plugin.del(inputOf(conf, calls[winner]), made.host)
    await plugin.add(inputOf(conf, calls[loser]), other)
    for (const call of calls) await plugin.del(inputOf(conf, call), made.host)
    assert.equal(made.most, 4)
    await made.assertNothing('after all')
  } finally {
    other.netlink[Symbol.dispose]()
  }
})

const failures: readonly {
  readonly name: string
  readonly at: RegExp
  readonly method: string
  readonly action: FaultAction
  readonly code: number | undefined
  /** Nobody knows whether a port was made: its record stays until none can come any more. */
  readonly conf?: JsonObject
}[] = [
  { name: 'Neutron: quota', at: /\/ports$/, method: 'POST', action: neutron(409, 'OverQuota'), code: 11 },
  {
    name: 'Neutron: subnet full',
    at: /\/ports$/,
    method: 'POST',
    action: neutron(409, 'IpAddressGenerationFailure'),
    code: 11,
  },
  { name: 'Neutron: forbidden', at: /\/ports$/, method: 'POST', action: neutron(403, 'PolicyNotAuthorized'), code: 5 },
  {
    name: 'Neutron: no such network',
    at: /\/networks\//,
    method: 'GET',
    action: neutron(404, 'NetworkNotFound'),
    code: 7,
  },
  {
    name: 'Neutron: done, and no answer',
    at: /\/ports$/,
    method: 'POST',
    action: { kind: 'drop', afterWork: true },
    code: 11,
  },
  { name: 'Neutron: nonsense', at: /\/ports$/, method: 'POST', action: { kind: 'garbage' }, code: 11 },
  { name: 'Nova: forbidden', at: /os-interface$/, method: 'POST', action: nova(403, 'forbidden'), code: 5 },
  { name: 'Nova: no such server', at: /os-interface$/, method: 'POST', action: nova(404, 'itemNotFound'), code: 7 },
  { name: 'Nova: busy', at: /os-interface$/, method: 'POST', action: nova(409, 'conflictingRequest'), code: 11 },
  {
    name: 'Nova: broken',
    at: /os-interface$/,
    method: 'POST',
    action: nova(500, 'computeFault'),
    code: 11,
    conf: { attachTimeoutMs: 1500 },
  },
  {
    name: 'Nova: quota',
    at: /os-interface$/,
    method: 'POST',
    action: nova(403, 'forbidden', 'Quota exceeded'),
    code: 11,
  },
  {
    name: 'Nova: done, and no answer',
    at: /os-interface$/,
    method: 'POST',
    action: { kind: 'drop', afterWork: true },
    code: undefined,
  },
  {
    name: 'Nova: done, and a late error',
    at: /os-interface$/,
    method: 'POST',
    action: { kind: 'status', status: 504, afterWork: true },
    code: undefined,
  },
  { name: 'Nova: slow', at: /os-interface$/, method: 'POST', action: { kind: 'slow', ms: 400 }, code: undefined },
]

function neutron(status: number, type: string): FaultAction {
  return { kind: 'status', status, body: { NeutronError: { type, message: 'as ordered', detail: '' } } }
}
function nova(status: number, name: string, message = 'as ordered'): FaultAction {
  return { kind: 'status', status, body: { [name]: { code: status, message } } }
}

test('what Neutron and Nova refuse has a code, and leaves nothing', { skip }, async () => {
  await using made = await NovaHost.start()
  const netns = made.pod()
  for (const { name, at, method, action, code, conf: nova = {} } of failures) {
    closeClouds()
    const conf = made.conf(nova)
    const undo = made.fake.faults.inject({
      action,
      times: 1,
      match: (seen) => seen.method === method && at.test(seen.path),
    })
    const call = { containerId: 'a', netns }
    assert.equal(await codeOf(plugin.add(inputOf(conf, call), made.host)), code, name)
    undo()
    assert.equal(execIn(netns, 'ip', '-o', 'link').trim().split('\n').length, code === undefined ? 2 : 1, name)
    await plugin.del(inputOf(conf, call), made.host)
    await plugin.gc(gcInputOf(conf, []), made.host)
    await made.assertNothing(name)
  }
  // A hypervisor that never plugs it in.
  made.isStuck = true
  const conf = made.conf({ attachTimeoutMs: 500 * slowness })
  assert.equal(await codeOf(plugin.add(inputOf(conf, { containerId: 'a', netns }), made.host)), 11)
  await made.assertNothing('never plugged in')
})

test('a cloud that is away keeps no pod from going; what is left goes when it is back', { skip }, async () => {
  await using made = await NovaHost.start()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const conf = made.conf()
  await plugin.add(inputOf(conf, call), made.host)
  const undo = made.fake.faults.inject({
    action: { kind: 'status', status: 403 },
    match: ({ path }) => path.includes('v2.'),
  })
  await plugin.del(inputOf(conf, call), made.host)
  assert.equal(execIn(netns, 'ip', '-o', 'link').trim().split('\n').length, 1)
  assert.equal(made.cards().length, 1)
  assert.equal(await codeOf(plugin.status(inputOf(conf), made.host)), 50)
  assert.equal(await codeOf(plugin.add(inputOf(conf, call), made.host)), 5)
  undo()
  await plugin.gc(gcInputOf(conf, []), made.host)
  await made.assertNothing('after GC')
})

test('what an outsider does to ports is noticed: idle cards are replaced, lost ones are told', { skip }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf({ poolSize: 1 })
  const call = { containerId: 'a', netns: made.pod() }
  const prevResult = await plugin.add(inputOf(conf, call), made.host)
  const [own] = made.cards()
  await using keeper = keeperOf(made)
  await until('an idle card', () => idleCards(made).length === 1)
  const [idle] = idleCards(made)
  // Neutron alone knows: the hypervisor still shows the card.
  made.fake.cloud.ports.delete(idle?.port?.id ?? '')
  await until('another idle card', () => idleCards(made).some(({ id }) => id !== idle?.id))
  assert.equal(await codeOf(plugin.check(inputOf(conf, { ...call, prevResult }), made.host)), undefined)
  made.fake.cloud.ports.delete(own?.id ?? '')
  await until('a lost card', () =>
    bookOf(made)
      .list()
      .some(({ lost }) => lost !== undefined),
  )
  assert.equal(await codeOf(plugin.check(inputOf(conf, { ...call, prevResult }), made.host)), 100)
  assert.equal(await codeOf(plugin.status(inputOf(conf), made.host)), 51)
  // Its port is back after all.
  if (own !== undefined) made.fake.cloud.ports.set(own.id, own)
  await until('no lost card', () =>
    bookOf(made)
      .list()
      .every(({ lost }) => lost === undefined),
  )
  made.fake.cloud.ports.delete(own?.id ?? '')
  await plugin.del(inputOf(conf, call), made.host)
  await keeper[Symbol.asyncDispose]()
  await plugin.status(inputOf(made.conf()), made.host)
  await using cleaner = keeperOf(made)
  await made.assertNothing('after DEL')
  await cleaner[Symbol.asyncDispose]()
})

test(
  'cards that no record tells of any more go, unless a pod may have them; those of another server are left alone',
  { skip },
  async () => {
    await using made = await NovaHost.start()
    const conf = made.conf({ poolSize: 1 })
    const call = { containerId: 'a', netns: made.pod() }
    await plugin.add(inputOf(conf, call), made.host)
    const used = macIn(call.netns)
    const first = keeperOf(made)
    await until('an idle card', () => idleCards(made).length === 1)
    await first[Symbol.asyncDispose]()
    const book = bookOf(made)
    for (const { id } of book.list()) book.remove(id)
    // A port that was begun, and one that looks like ours on another server.
    const [model] = made.cards()
    assert.ok(model !== undefined)
    const server = made.fake.addServer(made.project, 'node-2')
    const foreign = {
      ...model,
      id: crypto.randomUUID(),
      name: model.name.replace(made.server.id, server.id),
      device: server.id,
      mac: '02:00:00:00:00:01',
    }
    const loose = {
      ...model,
      id: crypto.randomUUID(),
      name: model.name.replace(/[0-9a-f]{12}$/, 'abcdefabcdef'),
      device: '',
      mac: '02:00:00:00:00:02',
    }
    for (const port of [foreign, loose]) made.fake.cloud.ports.set(port.id, port)
    await plugin.status(inputOf(made.conf()), made.host)
    await using keeper = keeperOf(made)
    await until('the pod’s card and the foreign one alone', () => made.cards().length === 2)
    assert.deepEqual(new Set(made.cards().map(({ mac }) => mac)), new Set([used, foreign.mac]))
    assert.ok(await ping(call.netns, '10.9.0.1'))
    // When its pod is gone its card is on the host, or nowhere: then it goes too.
    execIn(call.netns, 'ip', 'link', 'set', 'eth0', 'name', 'ens9', 'netns', made.path)
    await until('the foreign one alone', () => made.cards().length === 1)
    await keeper[Symbol.asyncDispose]()
    made.fake.cloud.ports.delete(foreign.id)
    // The disk of another server: its cards are not this one's to remove.
    book.write({
      version: 1,
      id: '0123456789ab',
      state: 'ready',
      since: 1,
      cluster: 'unnamed',
      server: server.id,
      network: 'net1',
      port: { id: model.id, mac: parseMac('02:00:00:00:00:03'), mtu: 0, ips: [], routes: [], nameservers: [] },
    })
    made.fake.cloud.ports.set(model.id, { ...model, device: server.id })
    await plugin.gc(gcInputOf(made.conf(), []), made.host)
    assert.equal(made.cards().length, 1)
    made.fake.cloud.ports.delete(model.id)
    await made.assertNothing('at last')
  },
)

test('GC spares valid attachments; another boot frees every card; CHECK finds what is wrong', { skip }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf()
  const calls = ['a', 'b'].map((containerId) => ({ containerId, netns: made.pod() }))
  const [a, b] = calls
  const prevResult = await plugin.add(inputOf(conf, a), made.host)
  await plugin.add(inputOf({ ...conf, name: 'other' }, b), made.host)
  const check = () => codeOf(plugin.check(inputOf(conf, { ...a, prevResult }), made.host))
  await plugin.gc(gcInputOf(conf, [{ containerId: 'a', ifname: 'eth0' }]), made.host)
  assert.equal(await check(), undefined)
  execIn(a?.netns ?? '', 'ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:0b')
  assert.equal(await check(), 100)
  await plugin.gc(gcInputOf(conf, []), made.host)
  assert.equal(await check(), 100)
  assert.deepEqual(made.cards().length, 1)
  // The other one's holder is from an earlier boot.
  const book = bookOf(made)
  for (const card of book.list())
    if (card.holder !== undefined) book.write({ ...card, holder: { ...card.holder, boot: 'earlier' } })
  await plugin.gc(gcInputOf({ ...conf, name: 'other' }, [{ containerId: 'b', ifname: 'eth0' }]), made.host)
  await made.assertNothing('after another boot')
})

test('the pod’s namespace ended, or has what the host calls the card', { skip }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf()
  const netns = `${made.path}-mortal`
  createNetns(netns)
  try {
    // A veth goes with its namespace; test/plugins/host-device-plus-physical.test.ts has a card that comes back.
    await plugin.add(inputOf(conf, { containerId: 'a', netns }), made.host)
  } finally {
    deleteNetns(netns)
  }
  await plugin.del(inputOf(conf, { containerId: 'a', netns }), made.host)
  await made.assertNothing('after its namespace ended')
  const call = { containerId: 'b', netns: made.pod() }
  await plugin.add(inputOf(made.conf({ onDelete: 'keep', poolSize: 1 }), call), made.host)
  const name = bookOf(made).list()[0]?.device?.name ?? ''
  made.exec('ip', 'link', 'add', 'name', name, 'type', 'bridge')
  await plugin.del(inputOf(made.conf({ onDelete: 'keep', poolSize: 1 }), call), made.host)
  assert.ok(made.links().some((link) => link.startsWith('nic')))
  made.exec('ip', 'link', 'delete', name)
  const again = await plugin.add(inputOf(conf, call), made.host)
  assert.equal(again.interfaces[0]?.name, 'eth0')
  await plugin.del(inputOf(conf, call), made.host)
  await made.assertNothing('after all')
})

test('every version; a bad configuration has a clear error; Neutron’s word on addresses counts', { skip }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf()
  const netns = made.pod()
  assert.deepEqual(plugin.versions, specVersions)
  for (const cniVersion of plugin.versions) {
    const result = await plugin.add(inputOf({ ...conf, cniVersion }, { netns }), made.host)
    assert.equal(encodeResult(result, cniVersion)['cniVersion'], cniVersion)
    await plugin.del(inputOf({ ...conf, cniVersion }, { netns }), made.host)
  }
  const bad: readonly JsonObject[] = [
    { ipam: { type: 'host-local' } },
    { cloudsFile: 'clouds.yaml' },
    { cloudsFile: '/nowhere/clouds.yaml' },
    { cloud: 'none' },
    { cluster: 'No Name' },
    { runtimeConfig: { mac: '02:00:00:00:00:01' } },
    { hostInterface: 'none0' },
    { hostInterface: 'lo' },
    made.conf({ deviceLimit: 0 }),
    made.conf({ computeUrl: 'ftp://nova' }),
    made.conf({ onDelete: 'perhaps' }),
    made.conf({ networkId: '../x' }),
    made.conf({ networkId: crypto.randomUUID(), serverId: made.server.id }),
    made.conf({ serverId: crypto.randomUUID() }),
  ]
  for (const more of bad)
    assert.equal(await codeOf(plugin.add(inputOf({ ...conf, ...more }, { netns }), made.host)), 7, JSON.stringify(more))
  // Some of them are clear only from the cloud, and the node's disk may not be written to.
  const subnet = { subnetIds: [made.subnetId], securityGroups: [], serverId: made.server.id, networkId: made.networkId }
  const ipam = { type: 'neutron-ipam', cloudsFile: made.cloudsFile, cloud: 'test' }
  const {
    cloudsFile: _,
    cloud: __,
    ...rest
  } = made.conf(subnet, { ipam, mtu: 1400, isDefaultGateway: false, cluster: 'blue' })
  const result = await plugin.add(inputOf(rest, { netns }), made.host)
  assert.deepEqual([result.ips.length, result.routes, result.interfaces[0]?.mtu], [1, [], 1400])
  assert.match(made.cards()[0]?.name ?? '', /^heddle:blue:nic:/)
  await plugin.del(inputOf(rest, { netns }), made.host)
  await made.assertNothing('after all')
})

test('with veth-host behind it: the pod reaches its node, and the node the pod', { skip }, async () => {
  await using made = await NovaHost.start()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const conf = made.conf()
  const leg: JsonObject = { name: 'net1', type: 'veth-host', serviceCIDRs: ['10.96.0.0/12'] }
  const own = await plugin.add(inputOf(conf, call), made.host)
  const prevResult = await vethHost.add(inputOf(leg, { ...call, prevResult: own }), made.host)
  assert.match(execIn(netns, 'ip', 'route', 'get', '10.9.0.5'), /dev veth0/)
  assert.ok(await ping(netns, '10.9.0.5'))
  assert.ok(await ping(netns, '10.9.0.1'))
  assert.ok(await ping(made.path, own.ips[0]?.address.split('/')[0] ?? ''))
  await plugin.check(inputOf(conf, { ...call, prevResult }), made.host)
  await vethHost.check(inputOf(leg, { ...call, prevResult }), made.host)
  // As runtimes do: the last first.
  await vethHost.del(inputOf(leg, { ...call, prevResult }), made.host)
  await plugin.del(inputOf(conf, { ...call, prevResult }), made.host)
  await made.assertNothing('after DEL')
})
