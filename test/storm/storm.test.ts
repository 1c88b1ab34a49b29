import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { describeStorm, runStorm } from './storm.ts'

const LIMIT_MS = 270_000 * slowness

test(
  'a storm of calls, a part of them killed or wrong, with an agent that dies: no address twice, and nothing stays',
  { skip: needsRoot, timeout: LIMIT_MS + 10_000 },
  async (t) => {
    // Another one each time; that of a failure is printed, and can be run again: npm run storm -- --seed S
    const order = { seed: Math.floor(Math.random() * 2 ** 32), steps: 250, pods: 48, atOnce: 32 }
    const report = await runStorm(order, LIMIT_MS)
    const text = describeStorm(order, report)
    for (const line of text) t.diagnostic(line)
    assert.deepEqual([report.violations, report.left], [[], []], text.join('\n'))
    // It was one.
    for (const how of ['ADD done', 'ADD killed', 'ADD refused with 4', 'DEL done', 'DEL killed', 'GC done'])
      assert.ok((report.outcomes[how] ?? 0) > 0, `${how}: never; ${text.join('\n')}`)
    assert.ok(report.given > 100 && report.agentKills > 5, text.join('\n'))
  },
)
