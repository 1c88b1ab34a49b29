/**
 * A part of the conformance suite on Heddle's own plugins, as they are built: what most easily breaks, with the agent and without it.
 * All of it: `npm run conformance`.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { needsRoot } from '../namespace.ts'
import { agentOf, dist } from './agent.ts'
import { fullId, type Case } from './case.ts'
import { runCases } from './runner.ts'
import { cases } from './suite.ts'
import { openTarget } from './target.ts'

before(() => void execFileSync(process.execPath, [join(dist, '..', 'tools', 'build.mjs')]))

/** Cases whose features this machine's kernel lacks run in kernel.test.ts. */
const here = cases.filter(({ needs, programs }) => needs === undefined && programs === undefined)
const named = (...names: readonly string[]): readonly Case[] =>
  here.filter((one) => names.some((name) => fullId(one).startsWith(name)))
const ending = (...ids: readonly string[]): readonly Case[] => here.filter(({ id }) => ids.includes(id))

async function allPass(selected: readonly Case[], hasAgent: boolean): Promise<void> {
  assert.ok(selected.length > 10, `${selected.length} cases`)
  const target = openTarget('heddle', join(dist, 'cni'), hasAgent ? agentOf(dist) : undefined)
  const outcomes = await runCases(target, selected, { jobs: 2, kills: 2 })
  const wrong = outcomes.flatMap(({ test, verdict }) =>
    verdict.is === 'passed' ? [] : [`${fullId(test)}: ${verdict.is}: ${verdict.why}`],
  )
  assert.deepEqual(wrong, [])
}

test(
  'every plugin, alone: CHECK after ADD, DEL and GC after the namespace vanished',
  { skip: needsRoot, timeout: 280_000 },
  () => allPass(ending('life/del-netns-gone', 'check/after-add', 'gc/netns-gone'), false),
)

test(
  'answered by the agent: the bridge’s contract, address book, delegation, whole chains',
  { skip: needsRoot, timeout: 280_000 },
  () =>
    allPass(
      [...named('chain/', 'bridge/bridge/spoof', 'bridge/delegate/', 'bridge/fail/'), ...ending('crash/add-del')],
      true,
    ),
)
