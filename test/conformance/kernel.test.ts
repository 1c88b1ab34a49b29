/** The cases that not every kernel can judge, on Heddle's own plugins. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { dist } from './agent.ts'
import { fullId } from './case.ts'
import { runCases } from './runner.ts'
import { cases } from './suite.ts'
import { openTarget } from './target.ts'

/** Where every instruction is emulated only what a kernel can make different. */
const emulated = [
  'life/result',
  'life/add-del',
  'life/del-netns-gone',
  'life/name-undone',
  'check/after-add',
  'check/link-gone',
  'gc/netns-gone',
]
const needing = cases.filter(
  ({ needs, id }) => needs !== undefined && (slowness === 1 || emulated.includes(id) || id.startsWith('bridge/')),
)

for (const plugin of new Set(needing.map((one) => one.plugin))) {
  const selected = needing.filter((one) => one.plugin === plugin)
  const features = [...new Set(selected.flatMap(({ needs = [] }) => needs))]
  const skip =
    needsKernel(...features) || (existsSync(join(dist, 'cni', plugin)) ? false : `npm run build makes ${plugin}`)
  test(`${plugin}: ${selected.length} cases`, { skip, timeout: 120_000 * slowness }, async () => {
    const outcomes = await runCases(openTarget('heddle', join(dist, 'cni')), selected, { jobs: 2, kills: 2 })
    const wrong = outcomes.flatMap(({ test, verdict }) =>
      verdict.is === 'passed' ? [] : [`${fullId(test)}: ${verdict.is}: ${verdict.why}`],
    )
    assert.deepEqual(wrong, [])
  })
}
