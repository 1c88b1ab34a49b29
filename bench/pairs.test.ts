import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compare, compareRounds, interleave } from './pairs.ts'
import { median, percentile } from './statistics.ts'

const forever = new AbortController().signal

test('percentiles lie between neighbours', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 2, 3]), 2.5)
  assert.equal(percentile([10, 0], 0.99), 9.9)
  assert.equal(percentile([7], 0.99), 7)
  assert.equal(Number.isNaN(median([])), true)
})

test('samples are not reordered in place', () => {
  const samples = [3, 1, 2]
  median(samples)
  assert.deepEqual(samples, [3, 1, 2])
})

test('sides take turns, and the warm-up does not count', async () => {
  const order: string[] = []
  const side = (name: string) => async (round: number) => {
    order.push(`${name}${round}`)
    return round
  }
  const paired = await interleave({ pairs: 2, warmup: 1, signal: forever }, side('a'), side('b'))
  assert.deepEqual(order, ['a0', 'b0', 'a1', 'b1', 'a2', 'b2'])
  assert.deepEqual(paired, { ours: [1, 2], peer: [1, 2] })
})

test('the ratio is the median of the pairs, not the ratio of the medians', () => {
  const { ours, peer, ratio } = compare({ ours: [1, 2, 30], peer: [10, 4, 30] })
  assert.deepEqual({ ours, peer }, { ours: 2, peer: 10 })
  assert.deepEqual(ratio, { median: 0.5, min: 0.1, max: 1 })
})

test('rounds give the median of their percentiles, and all together the tail', () => {
  const rounds = {
    ours: [
      [1, 1, 1],
      [3, 3, 3],
      [2, 2, 20],
    ],
    peer: [
      [2, 2, 2],
      [4, 4, 4],
      [10, 10, 10],
    ],
  }
  assert.deepEqual(compareRounds(rounds, 0.5).ratio, { median: 0.5, min: 0.2, max: 0.75 })
  const tail = compareRounds(rounds, 1)
  assert.equal(tail.ratio.median, 2)
  assert.deepEqual([tail.ours, tail.peer], [20, 10])
})

test('when time is over what has counted is enough, and one pair always counts', async () => {
  const side = async (): Promise<number> => 1
  const paired = await interleave({ pairs: 9, signal: forever, limitMs: -1 }, side, side)
  assert.deepEqual(paired, { ours: [1], peer: [1] })
})

test('a signal ends the measuring between two measurements', async () => {
  const stop = new AbortController()
  let count = 0
  const side = async (): Promise<number> => {
    count += 1
    if (count === 3) stop.abort(new Error('stopped'))
    return 1
  }
  await assert.rejects(interleave({ pairs: 9, signal: stop.signal }, side, side), /stopped/)
  assert.equal(count, 3)
})
