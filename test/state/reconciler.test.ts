import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import { createLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { hookPriority, type Table } from '#nft/table.ts'
import type { Operation } from '#state/diff.ts'
import { keyOf, type Desired, type Entry } from '#state/entry.ts'
import { NetlinkKernel } from '#state/kernel-netlink.ts'
import { printEntry } from '#state/print.ts'
import { Reconciler } from '#state/reconciler.ts'
import { systemClock } from '#sys/clock.ts'
import { TestNetns } from '../namespace.ts'
import { slowness } from '../slow.ts'

const device: Entry = {
  kind: 'link',
  name: 'flannel.1',
  up: true,
  mtu: 1450,
  mac: '02:00:00:00:00:01' as MacText,
  data: { type: 'vxlan', vni: 1, local: '172.16.0.1' as IpText, dev: 'eth0', port: 8472, learning: false, gbp: false },
}
const table: Table = {
  family: 'inet',
  name: 'heddle_test',
  sets: [],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: hookPriority.srcnat },
      rules: [{ text: 'ip saddr 10.244.0.0/16 masquerade', owner: 'test' }],
    },
  ],
}
const own: Entry[] = [
  device,
  { kind: 'address', dev: 'flannel.1', address: '10.244.0.0/32' as IpNetText },
  { kind: 'address', dev: 'flannel.1', address: 'fd00:10::/128' as IpNetText },
  { kind: 'sysctl', key: 'net/ipv4/ip_forward', value: '1' },
  { kind: 'sysctl', key: 'net/ipv6/conf/flannel.1/accept_ra', value: '0', dev: 'flannel.1' },
  { kind: 'nft', table },
]
const peer = (n: number): Entry[] => {
  const mac = `02:00:00:01:00:${n.toString(16).padStart(2, '0')}` as MacText
  const four = `10.244.${n}.0` as IpText
  const six = `fd00:10:0:${n.toString(16)}::` as IpText
  return [
    { kind: 'neigh', dev: 'flannel.1', ip: four, mac },
    { kind: 'neigh', dev: 'flannel.1', ip: six, mac },
    { kind: 'fdb', dev: 'flannel.1', mac, dst: `172.16.0.${n}` as IpText },
    {
      kind: 'route',
      dst: `${four}/24` as CidrText,
      table: 254,
      priority: 0,
      type: 'unicast',
      dev: 'flannel.1',
      via: four,
      onlink: true,
    },
    {
      kind: 'route',
      dst: `${six}/64` as CidrText,
      table: 254,
      priority: 1024,
      type: 'unicast',
      dev: 'flannel.1',
      via: six,
      onlink: true,
    },
  ]
}
const direct: Entry[] = [
  {
    kind: 'route',
    dst: '10.245.1.0/24' as CidrText,
    table: 254,
    priority: 0,
    type: 'unicast',
    dev: 'eth0',
    via: '172.16.0.9' as IpText,
  },
  { kind: 'route', dst: '10.246.0.0/16' as CidrText, table: 254, priority: 0, type: 'blackhole' },
  { kind: 'route', dst: 'fd00:11::/64' as CidrText, table: 254, priority: 1024, type: 'blackhole' },
  {
    kind: 'rule',
    family: 4,
    priority: 1000,
    table: 100,
    from: '10.244.0.5/32' as CidrText,
    mark: 0x4000,
    mask: 0xffff,
  },
]
const wants = (entries: readonly Entry[]): Desired[] =>
  entries.map((entry) => ({ entry, origin: { owner: 'test', reason: 'test' } }))

interface Bed extends AsyncDisposable {
  readonly namespace: TestNetns
  readonly ip: (...args: string[]) => string
}

function bed(): Bed {
  const namespace = new TestNetns('state')
  const run = (command: string, ...args: string[]): string =>
    execFileSync('nsenter', [`--net=${namespace.path}`, command, ...args], { encoding: 'utf8' })
  using socket = NetlinkSocket.open({ netns: namespace.path })
  createLink(socket, { name: 'eth0', up: true, info: { kind: 'bridge' } })
  run('ip', 'address', 'add', '172.16.0.1/24', 'dev', 'eth0')
  return {
    namespace,
    ip: (command, ...args) => run(command, ...args),
    [Symbol.asyncDispose]: async () => namespace[Symbol.dispose](),
  }
}

function open(namespace: TestNetns): { reconciler: Reconciler; repairs: Operation[] } {
  const repairs: Operation[] = []
  const kernel = new NetlinkKernel({
    clock: systemClock,
    netns: namespace.path,
    tables: [{ family: 'inet', name: 'heddle_test' }],
  })
  return {
    repairs,
    reconciler: Reconciler.open({ kernel, clock: systemClock, onRepair: (operation) => repairs.push(operation) }),
  }
}

async function until(what: string, holds: () => boolean, ms = 2000 * slowness): Promise<void> {
  const end = performance.now() + ms
  while (!holds()) {
    if (performance.now() > end) assert.fail(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** What a fresh reading of the kernel finds to do. */
async function remaining(namespace: TestNetns, entries: readonly Entry[]): Promise<string[]> {
  const { reconciler } = open(namespace)
  await using _ = reconciler
  reconciler.set('all', wants(entries))
  const { operations } = await reconciler.sync()
  return operations.map((o) => `${o.do} ${printEntry(o.entry)}`)
}

test('every kind of entry comes to be in the kernel, and a second reading finds nothing to do', async () => {
  await using b = bed()
  const all = [...own, ...peer(2), ...peer(3), ...direct]
  {
    const { reconciler, repairs } = open(b.namespace)
    await using _ = reconciler
    reconciler.set('all', wants(all))
    const report = await reconciler.sync()
    assert.deepEqual(
      report.failures.map((f) => `${keyOf(f.operation.entry)}: ${f.error.message}`),
      [],
    )
    await reconciler.sync()
    assert.deepEqual(repairs, [])
  }
  assert.match(
    b.ip('ip', '-d', 'link', 'show', 'flannel.1'),
    /mtu 1450[^]*02:00:00:00:00:01[^]*alias heddle agent[^]*|vxlan id 1 local 172\.16\.0\.1 dev eth0 srcport 0 0 dstport 8472 nolearning/,
  )
  assert.match(
    b.ip('ip', 'route', 'show', '10.244.2.0/24'),
    /^10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1 proto 20\d scope \d+ onlink/,
  )
  assert.match(b.ip('ip', 'neigh', 'show', 'dev', 'flannel.1'), /10\.244\.2\.0 lladdr 02:00:00:01:00:02 PERMANENT/)
  assert.match(b.ip('bridge', 'fdb', 'show', 'dev', 'flannel.1'), /02:00:00:01:00:02 dst 172\.16\.0\.2 self permanent/)
  assert.match(b.ip('nft', 'list', 'table', 'inet', 'heddle_test'), /ip saddr 10\.244\.0\.0\/16 masquerade/)
  assert.deepEqual(await remaining(b.namespace, all), [])
})

test('what an outsider breaks is mended within two seconds, each thing by itself', async () => {
  await using b = bed()
  const all = [...own, ...peer(2), ...peer(3), ...direct]
  const { reconciler, repairs } = open(b.namespace)
  await using _ = reconciler
  reconciler.set('device', wants(own))
  reconciler.set('peer/2', wants(peer(2)))
  reconciler.set('peer/3', wants(peer(3)))
  reconciler.set('direct', wants(direct))
  await reconciler.sync()
  const breakages: [string, string[], RegExp][] = [
    ['route', ['ip', 'route', 'delete', '10.244.2.0/24'], /^route 254 10\.244\.2\.0\/24 0$/],
    [
      'route replaced',
      ['ip', 'route', 'replace', '10.244.3.0/24', 'via', '172.16.0.77', 'dev', 'eth0'],
      /^route 254 10\.244\.3\.0\/24 0$/,
    ],
    ['IPv6 route', ['ip', '-6', 'route', 'delete', 'fd00:10:0:2::/64'], /^route 254 fd00:10:0:2::\/64 1024$/],
    ['neighbour', ['ip', 'neigh', 'delete', '10.244.2.0', 'dev', 'flannel.1'], /^neigh flannel\.1 10\.244\.2\.0$/],
    [
      'neighbour changed',
      ['ip', 'neigh', 'replace', '10.244.2.0', 'lladdr', '02:99:00:00:00:00', 'dev', 'flannel.1', 'nud', 'permanent'],
      /^neigh flannel\.1 10\.244\.2\.0$/,
    ],
    [
      'forwarding entry',
      ['bridge', 'fdb', 'delete', '02:00:00:01:00:02', 'dev', 'flannel.1', 'dst', '172.16.0.2'],
      /^fdb flannel\.1 02:00:00:01:00:02$/,
    ],
    [
      'address',
      ['ip', 'address', 'delete', '10.244.0.0/32', 'dev', 'flannel.1'],
      /^address flannel\.1 10\.244\.0\.0\/32$|^(neigh|route) /,
    ],
    ['rule', ['ip', 'rule', 'delete', 'priority', '1000'], /^rule 4 1000 /],
    ['MTU', ['ip', 'link', 'set', 'flannel.1', 'mtu', '1300'], /^link flannel\.1$/],
    ['table', ['nft', 'delete', 'table', 'inet', 'heddle_test'], /^nft inet heddle_test$/],
    ['rule of the table', ['nft', 'flush', 'chain', 'inet', 'heddle_test', 'postrouting'], /^nft inet heddle_test$/],
    [
      'rule added to the table',
      ['nft', 'add', 'rule', 'inet', 'heddle_test', 'postrouting', 'drop'],
      /^nft inet heddle_test$/,
    ],
    ['whole ruleset', ['nft', 'flush', 'ruleset'], /^nft inet heddle_test$/],
  ]
  for (const [what, [command, ...args], key] of breakages) {
    repairs.length = 0
    b.ip(command!, ...args)
    await until(what, () => repairs.length > 0)
    await reconciler.sync()
    assert.deepEqual(
      repairs.filter((o) => !key.test(keyOf(o.entry))).map((o) => keyOf(o.entry)),
      [],
      `${what}: only that was repaired`,
    )
    assert.deepEqual(await remaining(b.namespace, all), [], what)
  }
})

test('a device that an outsider deletes, downs or replaces comes back with everything on it', async () => {
  await using b = bed()
  const all = [...own, ...peer(2), ...peer(3)]
  const { reconciler, repairs } = open(b.namespace)
  await using _ = reconciler
  reconciler.set('device', wants(own))
  for (const n of [2, 3]) reconciler.set(`peer/${n}`, wants(peer(n)))
  await reconciler.sync()
  const breakages: string[][] = [
    ['ip', 'link', 'delete', 'flannel.1'],
    ['ip', 'link', 'set', 'flannel.1', 'down'],
    ['ip', 'link', 'set', 'flannel.1', 'address', '02:99:99:99:99:99'],
  ]
  for (const [command, ...args] of breakages) {
    repairs.length = 0
    b.ip(command!, ...args)
    await until(args.join(' '), () => repairs.some((o) => o.entry.kind === 'link'))
    await until(`everything after ${args.join(' ')}`, () => reconciler.failing === 0)
    await reconciler.sync()
    assert.deepEqual(await remaining(b.namespace, all), [], args.join(' '))
  }
})

test('a restart adopts what is there, removes what a former life left, and leaves foreign things alone', async () => {
  await using b = bed()
  {
    const { reconciler } = open(b.namespace)
    await using _ = reconciler
    reconciler.set('all', wants([...own, ...peer(2), ...peer(3), ...direct]))
    await reconciler.sync()
  }
  b.ip('ip', 'route', 'add', '192.0.2.0/24', 'via', '172.16.0.50')
  b.ip('ip', 'neigh', 'add', '172.16.0.50', 'lladdr', '02:00:00:00:00:50', 'dev', 'eth0')
  const { reconciler } = open(b.namespace)
  await using _ = reconciler
  reconciler.set('device', wants(own.filter((entry) => entry.kind !== 'nft')))
  reconciler.set('peer/3', wants(peer(3)))
  assert.deepEqual(
    (await reconciler.sync()).operations.map((o) => printEntry(o.entry)),
    [],
  )
  reconciler.removeLeftovers()
  await reconciler.sync()
  assert.equal(b.ip('ip', 'route', 'show', '10.244.2.0/24'), '')
  assert.notEqual(b.ip('ip', 'route', 'show', '10.244.3.0/24'), '')
  assert.doesNotMatch(b.ip('bridge', 'fdb', 'show', 'dev', 'flannel.1'), /172\.16\.0\.2 /)
  assert.equal(b.ip('nft', 'list', 'tables'), '')
  assert.notEqual(b.ip('ip', 'route', 'show', '192.0.2.0/24'), '')
  assert.notEqual(b.ip('ip', 'neigh', 'show', '172.16.0.50'), '')
})

test('a device of another identity is replaced, and what fails for want of an underlay works once it is there', async () => {
  await using b = bed()
  b.ip(
    'ip',
    'link',
    'add',
    'flannel.1',
    'type',
    'vxlan',
    'id',
    '7',
    'dstport',
    '4789',
    'local',
    '172.16.0.1',
    'dev',
    'eth0',
  )
  const { reconciler } = open(b.namespace)
  await using _ = reconciler
  reconciler.set('device', wants([device]))
  const { failures } = await reconciler.sync()
  assert.deepEqual(failures, [])
  assert.match(b.ip('ip', '-d', 'link', 'show', 'flannel.1'), /vxlan id 1 /)
  reconciler.set(
    'late',
    wants([
      {
        kind: 'route',
        dst: '10.250.0.0/24' as CidrText,
        table: 254,
        priority: 0,
        type: 'unicast',
        dev: 'late0',
        via: '172.17.0.2' as IpText,
      },
    ]),
  )
  assert.equal((await reconciler.sync()).failures.length, 1)
  b.ip('ip', 'link', 'add', 'late0', 'type', 'bridge')
  b.ip('ip', 'address', 'add', '172.17.0.1/24', 'dev', 'late0')
  b.ip('ip', 'link', 'set', 'late0', 'up')
  await until('the route over the late device', () => b.ip('ip', 'route', 'show', '10.250.0.0/24') !== '')
})
