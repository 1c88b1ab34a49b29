import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CidrText, IpText, MacText } from '#ip/text.ts'
import { FakeClock } from '#sys/fake-clock.ts'
import type { Operation } from './diff.ts'
import { keyOf, type Desired, type Entry } from './entry.ts'
import { FakeKernel } from './fake-kernel.ts'
import { Reconciler, type ReconcilerOptions } from './reconciler.ts'

const device: Entry = {
  kind: 'link',
  name: 'flannel.1',
  up: true,
  mtu: 1450,
  data: { type: 'vxlan', vni: 1, local: '10.0.0.1' as IpText, dev: 'eth0', port: 8472, learning: false, gbp: false },
}
const peer = (n: number): Entry[] => {
  const mac =
    `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}` as MacText
  const via = `10.${n >> 8}.${n & 255}.0` as IpText
  return [
    { kind: 'neigh', dev: 'flannel.1', ip: via, mac },
    { kind: 'fdb', dev: 'flannel.1', mac, dst: `172.16.${n >> 8}.${n & 255}` as IpText },
    {
      kind: 'route',
      dst: `${via}/24` as CidrText,
      table: 254,
      priority: 0,
      type: 'unicast',
      dev: 'flannel.1',
      via,
      onlink: true,
    },
  ]
}
const wants = (entries: readonly Entry[]): Desired[] =>
  entries.map((entry) => ({ entry, origin: { owner: 'test', reason: 'test' } }))

/** Lets everything that was started by events come to its end. */
const settle = async (reconciler: Reconciler): Promise<void> => {
  await new Promise((resolve) => setImmediate(resolve))
  await reconciler.sync()
}

async function withReconciler(
  kernel: FakeKernel,
  run: (reconciler: Reconciler, clock: FakeClock, repairs: Operation[]) => Promise<void>,
  options: Partial<ReconcilerOptions> = {},
): Promise<void> {
  const clock = new FakeClock()
  const repairs: Operation[] = []
  await using reconciler = Reconciler.open({
    kernel,
    clock,
    onRepair: (operation) => repairs.push(operation),
    ...options,
  })
  await run(reconciler, clock, repairs)
}

test('what is wanted comes to be, once', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  await withReconciler(kernel, async (reconciler) => {
    reconciler.set('device', wants([device]))
    reconciler.set('peer/1', wants(peer(1)))
    const report = await reconciler.sync()
    assert.equal(report.operations.length, 4)
    assert.equal(kernel.state.size, 4)
    assert.deepEqual((await reconciler.sync()).operations, [])
  })
})

test('a peer that joins costs its own entries and no reading of the kernel', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  await withReconciler(kernel, async (reconciler) => {
    reconciler.set('device', wants([device]))
    for (let n = 1; n <= 1000; n++) reconciler.set(`peer/${n}`, wants(peer(n)))
    await reconciler.sync()
    reconciler.set('peer/2000', wants(peer(2000)))
    assert.equal((await reconciler.sync()).operations.length, 3)
    reconciler.remove('peer/7')
    assert.deepEqual(
      (await reconciler.sync()).operations.map((o) => `${o.do} ${o.entry.kind}`),
      ['remove route', 'remove fdb', 'remove neigh'],
    )
    assert.equal(kernel.observations, 1)
  })
})

test('what an outsider breaks is mended and told, and nothing else is touched', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  await withReconciler(kernel, async (reconciler, _clock, repairs) => {
    reconciler.set('device', wants([device]))
    reconciler.set('peer/1', wants(peer(1)))
    reconciler.set('peer/2', wants(peer(2)))
    await reconciler.sync()
    assert.equal(repairs.length, 0)
    for (const entry of peer(1)) {
      kernel.change({ do: 'remove', entry })
      await settle(reconciler)
      assert.ok(kernel.state.get(keyOf(entry)), entry.kind)
      assert.deepEqual(
        repairs.splice(0).map((o) => keyOf(o.entry)),
        [keyOf(entry)],
      )
    }
    kernel.change({ do: 'remove', entry: device })
    await settle(reconciler)
    assert.equal(kernel.state.size, 7)
    assert.equal(repairs.length, 7)
  })
})

test('what is there already is adopted: a restart does nothing', async () => {
  const kernel = new FakeKernel([device, ...peer(1)], ['eth0'])
  await withReconciler(kernel, async (reconciler) => {
    reconciler.set('device', wants([device]))
    reconciler.set('peer/1', wants(peer(1)))
    assert.deepEqual((await reconciler.sync()).operations, [])
  })
})

test('leftovers of a former life stay until it is known who is wanted', async () => {
  const kernel = new FakeKernel([device, ...peer(1), ...peer(2)], ['eth0'])
  await withReconciler(kernel, async (reconciler, clock) => {
    reconciler.set('device', wants([device]))
    await reconciler.sync()
    await clock.advance(120_000)
    await settle(reconciler)
    assert.equal(kernel.state.size, 7)
    reconciler.set('peer/2', wants(peer(2)))
    reconciler.removeLeftovers()
    await reconciler.sync()
    assert.deepEqual(new Set(kernel.state.keys()), new Set([device, ...peer(2)].map(keyOf)))
  })
})

test('what fails is tried again, ever more slowly, and works once it can', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  const attempts: number[] = []
  const clock = new FakeClock()
  await using reconciler = Reconciler.open({ kernel, clock, onSync: () => attempts.push(clock.now()) })
  const [neigh] = peer(1)
  kernel.refusals.set(keyOf(neigh!), new Error('ENOBUFS'))
  reconciler.set('device', wants([device]))
  reconciler.set('peer/1', wants([neigh!]))
  assert.equal((await reconciler.sync()).failures.length, 1)
  assert.equal(reconciler.failing, 1)
  for (let second = 0; second < 60; second++) {
    await clock.advance(1000)
    await settle(reconciler)
  }
  // 250 ms, doubling: about eight attempts in a minute, with jitter and the readings of everything every 30 s.
  assert.ok(attempts.length >= 6 && attempts.length <= 13, `${attempts.length} attempts`)
  kernel.refusals.clear()
  await clock.advance(60_000)
  await settle(reconciler)
  assert.ok(kernel.state.get(keyOf(neigh!)))
  assert.equal(reconciler.failing, 0)
})

test('lost events are made good by reading everything', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  await withReconciler(kernel, async (reconciler) => {
    reconciler.set('device', wants([device]))
    reconciler.set('peer/1', wants(peer(1)))
    await reconciler.sync()
    kernel.state.delete(keyOf(peer(1)[2]!))
    kernel.lose()
    await settle(reconciler)
    assert.equal(kernel.state.size, 4)
    assert.equal(kernel.observations, 2)
  })
})

test('silent loss is found by the regular reading', async () => {
  const kernel = new FakeKernel([], ['eth0'])
  await withReconciler(kernel, async (reconciler, clock, repairs) => {
    reconciler.set('device', wants([device]))
    await reconciler.sync()
    kernel.state.deleteDevice('flannel.1')
    await clock.advance(30_000)
    await settle(reconciler)
    assert.ok(kernel.state.get('link flannel.1'))
    assert.equal(repairs.length, 1)
  })
})

test('an outsider who fights over an entry does not make it spin', async () => {
  const kernel: FakeKernel = new FakeKernel([], ['eth0'])
  let rounds = 0
  const [neigh] = peer(1)
  const clock = new FakeClock()
  await using reconciler = Reconciler.open({
    kernel,
    clock,
    onSync: () => {
      rounds++
      if (rounds < 100 && kernel.state.get(keyOf(neigh!))) kernel.change({ do: 'remove', entry: neigh! })
    },
  })
  reconciler.set('peer/1', wants([device, neigh!]))
  await reconciler.sync()
  await settle(reconciler)
  assert.ok(rounds <= 8, `${rounds} rounds without waiting`)
  for (let i = 0; i < 100; i++) {
    await clock.advance(500)
    await settle(reconciler)
  }
  assert.equal(rounds, 100, 'it went on at a bounded pace until the other gave up')
  assert.ok(kernel.state.get(keyOf(neigh!)))
})
