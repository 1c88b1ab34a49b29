import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { agentMetrics } from './agent-metrics.ts'
import { Registry } from './metrics.ts'

test('counters, gauges and histograms as OpenMetrics prints them', () => {
  const registry = new Registry()
  const counter = registry.counter({ name: 'x_calls', help: 'Calls "so far"\nby verb.' })
  counter.add({ verb: 'ADD' })
  counter.add({ verb: 'ADD' }, 2)
  registry.gauge({ name: 'x_size_bytes', unit: 'bytes', help: 'Size.' }, () => 7)
  const histogram = registry.histogram({ name: 'x_seconds', unit: 'seconds', help: 'Time.' }, [0.1, 1])
  for (const value of [0.05, 0.1, 0.5, 3]) histogram.observe(value, { verb: 'A"B\\C' })
  assert.equal(
    registry.text('openmetrics'),
    [
      '# TYPE x_calls counter',
      '# HELP x_calls Calls \\"so far\\"\\nby verb.',
      'x_calls_total{verb="ADD"} 3',
      '# TYPE x_size_bytes gauge',
      '# UNIT x_size_bytes bytes',
      '# HELP x_size_bytes Size.',
      'x_size_bytes 7',
      '# TYPE x_seconds histogram',
      '# UNIT x_seconds seconds',
      '# HELP x_seconds Time.',
      'x_seconds_bucket{verb="A\\"B\\\\C",le="0.1"} 2',
      'x_seconds_bucket{verb="A\\"B\\\\C",le="1"} 3',
      'x_seconds_bucket{verb="A\\"B\\\\C",le="+Inf"} 4',
      'x_seconds_count{verb="A\\"B\\\\C"} 4',
      'x_seconds_sum{verb="A\\"B\\\\C"} 3.65',
      '# EOF',
      '',
    ].join('\n'),
  )
  assert.match(registry.text('prometheus'), /# TYPE x_calls_total counter\n/)
  assert.doesNotMatch(registry.text('prometheus'), /EOF|UNIT/)
})

test('label values from outside cannot grow without bound', () => {
  const registry = new Registry()
  const counter = registry.counter({ name: 'x', help: 'X.' })
  for (let i = 0; i < 5000; i++) counter.add({ code: String(i) })
  assert.ok(registry.text('openmetrics').split('\n').length < 520)
  assert.equal(counter.value({ code: 'other' }), 4500)
})

test('docs/metrics.md names every metric of the agent, and no other', () => {
  const [text = ''] = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8').split(
    '\n## The controller\n',
  )
  const documented = new Set([...text.matchAll(/^\| `(heddle_[a-z0-9_]+)` /gm)].map(([, name]) => name))
  const { registry } = agentMetrics({ version: '0', node: 'v0' })
  assert.deepEqual(documented, new Set(registry.names()))
})
