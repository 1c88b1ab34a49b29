import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { Contributions } from '#state/contributions.ts'
import type { Entry } from '#state/entry.ts'
import { agentMetrics } from './agent-metrics.ts'
import type { Pages } from './health-server.ts'
import { silentLog } from './log.ts'
import { reportState } from './state-report.ts'

test('a conflict is counted, logged once, and shown with both sides', async () => {
  const state = new Contributions()
  const dst = cidrText('10.244.1.0/24')
  const route = (via: string): Entry => ({
    kind: 'route',
    dst,
    table: 254,
    priority: 0,
    type: 'unicast',
    dev: 'eth0',
    via: ipText(via),
  })
  const want = (via: string, reason: string) => [{ entry: route(via), origin: { owner: 'test', reason } }]
  state.set('node/a', want('10.0.0.1', 'node a'))
  state.set('node/b', want('10.0.0.2', 'node b'))
  const lines: unknown[] = []
  const pages: Pages = new Map()
  const metrics = agentMetrics({ version: '0', node: '0' })
  const log = { ...silentLog, warn: (fields: unknown) => void lines.push(fields) }
  const report = reportState({ state, pages, metrics, log, interval: 5 })
  for (let i = 0; i < 200 && lines.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 5))
  await new Promise((resolve) => setTimeout(resolve, 40))
  assert.equal(lines.length, 1, 'once, however often it is seen')
  assert.match(metrics.registry.text('prometheus'), /^heddle_state_conflicts 1$/m)
  const [shown] = JSON.parse(JSON.stringify(pages.get('/conflicts')?.(new URLSearchParams())))
  assert.deepEqual([shown.kept.source, shown.kept.reason, shown.refused.wants.via], ['node/a', 'node a', '10.0.0.2'])
  const query = new URLSearchParams({ entry: shown.entry })
  assert.deepEqual(
    JSON.parse(JSON.stringify(pages.get('/explain')?.(query))).map((claim: { source: string }) => claim.source),
    ['node/a', 'node/b'],
  )
  assert.deepEqual(pages.get('/explain')?.(new URLSearchParams()), [])
  state.set('node/a', [])
  assert.match(metrics.registry.text('prometheus'), /^heddle_state_conflicts 0$/m)
  report[Symbol.dispose]()
  assert.equal(pages.size, 0)
})
