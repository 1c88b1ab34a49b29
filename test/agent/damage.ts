/** What an outsider does to a node's entries, and how soon they are right again. */

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'

import { slowness } from '../slow.ts'
import { until, type TestNode } from './cluster.ts'

/** What is damaged, the command that does it, and whether it is right again. */
export type Damage = readonly [what: string, program: string, args: readonly string[], isMended: () => boolean]

/** What issue and design promise. */
const PROMISE = 2_000

/** Each damage is repaired in time and counted; `steady` is what must be the same afterwards as before all of it. */
export async function repairs(
  t: TestContext,
  node: TestNode,
  damages: readonly Damage[],
  steady: () => string,
): Promise<void> {
  const before = steady()
  for (const [what, program, args, isMended] of damages) {
    await t.test(what, async () => {
      const counted = await repairsOf(node)
      node.run(program, ...args)
      const took = await until(`${what} is repaired`, isMended, PROMISE + 500)
      assert.ok(took <= PROMISE * slowness, `took ${Math.round(took)} ms`)
      await until('it is counted', async () => (await repairsOf(node)) > counted)
    })
  }
  await until('all is as it was', () => steady() === before || steady())
}

async function repairsOf(node: TestNode): Promise<number> {
  const { body } = await node.get('/metrics')
  return body
    .split('\n')
    .filter((line) => line.startsWith('heddle_repairs_total{'))
    .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0)
}
