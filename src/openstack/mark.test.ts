import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import {
  holderOf,
  holdTags,
  MARK_KINDS,
  markFields,
  markOf,
  markTags,
  markText,
  readMarkText,
  type Mark,
} from './mark.ts'

const mark: Mark = { cluster: 'blue', kind: 'pod', node: '8a1f6a3e-1111-4222-8333-944455566677', subject: 'c0ffee' }

const word = (pattern: RegExp): fc.Arbitrary<string> => fc.stringMatching(pattern)
const marks: fc.Arbitrary<Mark> = fc
  .record({
    cluster: word(/^[a-z0-9][a-z0-9.-]{0,30}[a-z0-9]$/),
    kind: fc.constantFrom(...MARK_KINDS),
    node: word(/^[A-Za-z0-9][A-Za-z0-9.-]{0,30}[A-Za-z0-9]$/),
    subject: fc.option(word(/^[A-Za-z0-9][A-Za-z0-9._-]{0,60}[A-Za-z0-9]$/), { nil: undefined }),
  })
  .map(({ subject, ...rest }) => (subject === undefined ? rest : { ...rest, subject }))

test('a mark comes back as it was written, and its tags fit', () => {
  fc.assert(
    fc.property(marks, (one) => {
      assert.deepEqual(readMarkText(markText(one)), one)
      assert.deepEqual(markOf(markFields(one)), one)
      for (const tag of markTags(one)) assert.ok(tag.length <= 60 && !tag.includes(','), tag)
      assert.ok(markText(one).length <= 255)
    }),
  )
})

test('the longest parts fit', () => {
  const long: Mark = { cluster: 'c'.repeat(40), kind: 'floating-ip', node: 'n'.repeat(48), subject: 's'.repeat(128) }
  assert.deepEqual(markOf(markFields(long)), long)
  for (const tag of markTags(long)) assert.ok(tag.length <= 60, tag)
})

test('what is no mark is none', () => {
  for (const name of [
    '', 'heddle', 'heddle:blue:pod', 'heddle:blue:pod:', 'heddle::pod:n1', 'heddle:blue:router:n1', 'heddle:Blue:pod:n1',
    'heddle:blue:pod:n1:', 'heddle:blue:pod:n1:a:b', 'heddle:blue:pod:n 1', 'HEDDLE:blue:pod:n1', ' heddle:blue:pod:n1',
    `heddle:blue:pod:${'n'.repeat(49)}`, `heddle:blue:pod:n1:${'s'.repeat(300)}`,
  ]) assert.equal(markOf({ name }), undefined, name) // prettier-ignore
})

test('tags without the text are no mark, and tags that contradict it take it away', () => {
  assert.equal(markOf({ name: 'web', tags: markTags(mark) }), undefined)
  assert.deepEqual(markOf({ name: markText(mark), tags: [] }), mark)
  assert.deepEqual(markOf({ name: '', description: markText(mark), tags: ['mine', ...markTags(mark)] }), mark)
  assert.equal(markOf({ name: markText(mark), tags: markTags({ ...mark, cluster: 'green' }) }), undefined)
  assert.equal(markOf({ name: markText(mark), tags: ['heddle-node=other'] }), undefined)
})

test('parts that no mark can have are refused', () => {
  for (const wrong of [
    { cluster: '' },
    { cluster: 'a:b' },
    { node: '' },
    { node: 'a,b' },
    { subject: '' },
    { subject: 'a:b' },
  ]) {
    assert.throws(() => markText({ ...mark, ...wrong }), RangeError, JSON.stringify(wrong))
  }
})

test('who holds a floating IP: by the mark where it was made for a pod, by tags where it was there before', () => {
  const made: Mark = { cluster: 'blue', kind: 'floating-ip', node: 'n1', subject: 'uid-1' }
  assert.equal(holderOf({ description: markText(made) }, 'blue'), 'uid-1')
  assert.equal(holderOf({ description: markText(made) }, 'green'), undefined)
  assert.equal(holderOf({ description: markText(mark) }, 'blue'), undefined, 'a port is no floating IP')
  const tags = holdTags('blue', 'uid-2')
  assert.equal(holderOf({ description: 'of the shop', tags }, 'blue'), 'uid-2')
  assert.equal(holderOf({ tags }, 'green'), undefined)
  assert.equal(holderOf({ tags: [...tags, 'heddle-pod=uid-3'] }, 'blue'), undefined, 'two holders are none')
  for (const tag of holdTags('c'.repeat(40), '8a1f6a3e-1111-4222-8333-944455566677')) assert.ok(tag.length <= 60)
})
