import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Book } from '#plugins/host-device-plus/book.ts'
import { isIdle } from '#plugins/host-device-plus/card.ts'
import { NicKeeper } from '#plugins/host-device-plus/keeper.ts'
import { hostDevicePlusPlugin } from '#plugins/host-device-plus/plugin.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { gcInputOf, inputOf } from './input.ts'
import { keeperKilledAt } from './kill-keeper.ts'
import { killedAt } from './kill-plugin.ts'
import { execIn, ping } from './network-host.ts'
import { NovaHost } from './nova-host.ts'

const skip = needsRoot
const plugin = hostDevicePlusPlugin({ settleMs: 0 })
const timeout = 240_000 * slowness

/** Starting a process takes most of the time: a few at once. */
async function inTurns<T>(items: readonly T[], work: (item: T, index: number) => Promise<void>): Promise<void> {
  const left = [...items.entries()]
  const worker = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await work(next[1], next[0])
  }
  await Promise.all(Array.from({ length: 3 }, worker))
}

/** The fail points that `work` passes, each once. */
async function pointsOf(made: NovaHost, work: () => Promise<unknown>): Promise<readonly string[]> {
  const points = new Set<string>()
  made.atFailpoint = (name) => void points.add(name)
  await work()
  made.atFailpoint = () => {}
  return [...points]
}

test('killed at any step of ADD or DEL: DEL, GC or an agent removes all of it', { skip, timeout }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf()
  const victim = { containerId: 'victim', netns: made.pod() }
  const ofAdd = await pointsOf(made, () => plugin.add(inputOf(conf, victim), made.host))
  const ofDel = await pointsOf(made, () => plugin.del(inputOf(conf, victim), made.host))
  await made.assertNothing('at first')
  assert.ok(ofAdd.length >= 9 && ofDel.length >= 6, `${ofAdd.join()} | ${ofDel.join()}`)
  const orders = [
    ...ofAdd.map((point) => ({ verb: 'ADD' as const, point })),
    ...ofDel.map((point) => ({ verb: 'DEL' as const, point })),
  ]
  const keeper = { containerId: 'keeper', netns: made.pod() }
  await plugin.add(inputOf(conf, keeper), made.host)
  const pods = orders.map(() => made.pod())
  await inTurns(orders, async ({ verb, point }, i) => {
    const call = { containerId: `v${i}`, netns: pods[i] ?? '' }
    if (verb === 'DEL') await plugin.add(inputOf(conf, call), made.host)
    await killedAt(made, { verb, conf, call, point })
    if (i % 3 === 0) await plugin.del(inputOf(conf, call), made.host)
    if (i % 3 === 1) await plugin.del(inputOf(conf, { containerId: call.containerId }), made.host)
  })
  // The others' runtimes never come back, but for their garbage collection.
  await plugin.gc(gcInputOf(conf, [{ containerId: 'keeper', ifname: 'eth0' }]), made.host)
  for (const [i, pod] of pods.entries())
    assert.equal(execIn(pod, 'ip', '-o', 'link').trim().split('\n').length, 1, JSON.stringify(orders[i]))
  assert.ok(await ping(keeper.netns, '10.9.0.1'))
  await plugin.del(inputOf(conf, keeper), made.host)
  await made.assertNothing('after all')
})

test('an ADD that fails at any step undoes itself', { skip, timeout }, async () => {
  await using made = await NovaHost.start()
  const conf = made.conf()
  const call = { containerId: 'a', netns: made.pod() }
  const points = await pointsOf(made, () => plugin.add(inputOf(conf, call), made.host))
  await plugin.del(inputOf(conf, call), made.host)
  for (const point of points) {
    made.atFailpoint = (name) => {
      if (name === point) throw new Error(`failed on purpose at ${point}`)
    }
    await assert.rejects(plugin.add(inputOf(conf, call), made.host), /failed on purpose/)
    made.atFailpoint = () => {}
    assert.equal(execIn(call.netns, 'ip', '-o', 'link').trim().split('\n').length, 1, point)
    await made.assertNothing(point)
  }
})

test(
  'an agent killed at any step of filling its pool: the next one has a pool, and nothing else',
  { skip, timeout },
  async () => {
    await using made = await NovaHost.start()
    const conf = made.conf({ poolSize: 1 })
    await plugin.status(inputOf(conf), made.host)
    const book = new Book(made.root, made.host)
    // The other steps are those of an ADD.
    const steps = ['created', 'attached']
    for (const step of steps) {
      await keeperKilledAt(made, `host-device-plus.${step}`)
      await using keeper = new NicKeeper({ host: made.host, settleMs: 0, intervalMs: 50, fullMs: 100 })
      const deadline = Date.now() + 20_000 * slowness
      const isGood = (): boolean => book.list().length === 1 && book.list().every(isIdle) && made.cards().length === 1
      while (!isGood()) {
        assert.ok(Date.now() < deadline, `${step}: ${JSON.stringify(book.list())}`)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await keeper[Symbol.asyncDispose]()
      // It goes for the next turn, as the cards of a network without a pool do.
      await plugin.status(inputOf(made.conf()), made.host)
      await using cleaner = new NicKeeper({ host: made.host, settleMs: 0, intervalMs: 50 })
      await made.assertNothing(step)
      await cleaner[Symbol.asyncDispose]()
      await plugin.status(inputOf(conf), made.host)
    }
  },
)
