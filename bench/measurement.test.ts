import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atLeast, atMost, met, type Measurement } from './measurement.ts'
import { figure, measurementTable } from './table.ts'

const line = (more: Partial<Measurement>): Measurement => ({ what: 'ADD', unit: 'ms', ours: 2, ...more })
const ratio = (median: number) => ({ median, min: median / 2, max: median * 2 })

test('a budget is about the ratio, or without one about our value', () => {
  assert.equal(met(line({ ratio: ratio(0.3), budget: atMost(0.25) })), false)
  assert.equal(met(line({ ratio: ratio(0.25), budget: atMost(0.25) })), true)
  assert.equal(met(line({ ratio: ratio(1), budget: atLeast(0.98) })), true)
  assert.equal(met(line({ budget: atMost(1) })), false)
  assert.equal(met(line({ budget: atMost(2) })), true)
  assert.equal(met(line({ ratio: ratio(9) })), undefined)
})

test('a ratio of nothing meets no budget', () => {
  assert.equal(met(line({ ratio: ratio(Number.NaN), budget: atMost(1) })), false)
  assert.equal(met(line({ ratio: ratio(Number.NaN), budget: atLeast(1) })), false)
})

test('figures keep three digits', () => {
  assert.deepEqual([0.012345, 1.2345, 12.345, 123.45, 12345].map(figure), ['0.0123', '1.23', '12.3', '123', '12345'])
})

test('the table says what was asked for and whether it was reached', () => {
  const rows = [
    line({ peer: 10, against: 'the others', ratio: ratio(0.2), budget: atMost(0.25) }),
    line({ what: 'memory', unit: 'MB', ours: 190, budget: atMost(120) }),
  ]
  const [, first = '', second = ''] = measurementTable(rows).split('\n')
  assert.match(first, /^ADD +the others +2 ms +10 ms +0\.200 +0\.10–0\.40 +≤ 0\.25 +yes$/)
  assert.match(second, /^memory +- +190 MB +- +- +- +≤ 120 MB +NO$/)
})
