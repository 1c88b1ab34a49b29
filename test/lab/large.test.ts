/** Twenty nodes: whole, quick enough to be of use, and gone at the end. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cannotRun, machineState, TestLab } from './harness.ts'

test('20 nodes, 40 pods: up, every pair, down', { skip: cannotRun }, async (t) => {
  await using lab = new TestLab()
  const before = machineState(lab)
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const start = performance.now()
    const result = await work()
    t.diagnostic(`${what}: ${((performance.now() - start) / 1000).toFixed(1)} s`)
    return result
  }
  const up = await timed('up', () => lab.run('up', '--nodes', '20'))
  assert.equal(up.code, 0, up.stderr)
  const check = await timed('check', () => lab.json<{ checks: number; failed: unknown[] }>('check'))
  assert.deepEqual(check.failed, [])
  assert.equal(check.checks, 4820)
  const down = await timed('down', () => lab.run('down'))
  assert.equal(down.code, 0, down.stderr)
  assert.deepEqual(machineState(lab), before)
})
