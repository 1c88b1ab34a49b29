import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { addChain, checkChain, delChain, gcChain, type ChainCall } from './chain.ts'
import { difference, NetworkHost } from './network-host.ts'

const keeper = { containerId: 'keeper', hostPort: 7999 }

async function killed(made: NetworkHost, verb: 'ADD' | 'DEL', dieAt: number, call: ChainCall): Promise<void> {
  const program = new URL('./kill-call.ts', import.meta.url).pathname
  const order = JSON.stringify({ verb, dieAt, host: made.path, root: made.root, ...call })
  const child = spawn(process.execPath, [program, order], { stdio: ['ignore', 'ignore', 'inherit'], timeout: 30_000 })
  const [, signal] = await once(child, 'exit')
  assert.equal(signal, 'SIGKILL', `${verb} was to die at fail point ${dieAt}`)
}

/** The fail points that a verb passes, in order. */
async function pointsOf(made: NetworkHost, work: () => Promise<unknown>): Promise<string[]> {
  const points: string[] = []
  made.atFailpoint = (name) => void points.push(name)
  await work()
  made.atFailpoint = () => {}
  return points
}

test(
  'killed at any step of ADD or DEL: DEL or GC leaves nothing, and no address is given twice',
  { timeout: 300_000 },
  async () => {
    using made = new NetworkHost()
    const kept = { ...keeper, netns: made.pod() }
    const prevResult = await addChain(made.host, kept)
    const netns = made.pod()
    const call = { containerId: 'victim', netns }
    let result = await addChain(made.host, call)
    await delChain(made.host, { ...call, prevResult: result })
    const baseline = made.dump()
    const addPoints = await pointsOf(made, async () => (result = await addChain(made.host, call)))
    const delPoints = await pointsOf(made, () => delChain(made.host, { ...call, prevResult: result }))
    assert.deepEqual(difference(baseline, made.dump()), [])
    assert.ok(addPoints.length > 12 && delPoints.length > 6, `${addPoints.join()} | ${delPoints.join()}`)
    const given = new Set(prevResult.ips.map((ip) => ip.address))
    const cleanUps: [string, () => Promise<void>][] = [
      ['DEL', () => delChain(made.host, call)],
      ['DEL without a namespace', () => delChain(made.host, { containerId: 'victim' })],
      ['GC', () => gcChain(made.host, [{ containerId: 'keeper', ifname: 'eth0' }])],
    ]
    let next = 0
    for (const [verb, points] of [
      ['ADD', addPoints],
      ['DEL', delPoints],
    ] as const) {
      for (const [dieAt, point] of points.entries()) {
        const [how, cleanUp] = cleanUps[next++ % cleanUps.length]!
        if (verb === 'DEL') {
          result = await addChain(made.host, call)
          for (const ip of result.ips) assert.ok(!given.has(ip.address), `${ip.address} given twice`)
        }
        await killed(made, verb, dieAt, verb === 'ADD' ? call : { ...call, prevResult: result })
        await cleanUp()
        assert.deepEqual(difference(baseline, made.dump()), [], `${verb} killed at ${point}, then ${how}`)
        await checkChain(made.host, { ...kept, prevResult })
      }
    }
  },
)

test('an ADD that fails at any step undoes itself', { timeout: 120_000 }, async () => {
  using made = new NetworkHost()
  const call = { containerId: 'a', netns: made.pod() }
  const result = await addChain(made.host, call)
  await delChain(made.host, { ...call, prevResult: result })
  const baseline = made.dump()
  const points = await pointsOf(made, () => addChain(made.host, call))
  await delChain(made.host, call)
  const ofBridge = points.slice(
    0,
    points.findIndex((name) => name.startsWith('portmap.')),
  )
  for (const [dieAt, point] of ofBridge.entries()) {
    let seen = 0
    made.atFailpoint = () => {
      if (seen++ === dieAt) throw new Error(`failed on purpose at ${point}`)
    }
    await assert.rejects(addChain(made.host, call), /failed on purpose/)
    made.atFailpoint = () => {}
    assert.deepEqual(difference(baseline, made.dump()), [], point)
  }
})
