import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { quoteWord, readWords, writeWords } from './words.ts'

// eslint-disable-next-line no-control-regex
const word = fc.string({ minLength: 1, maxLength: 40 }).filter((text) => !/[\u0000-\u001f\u007f]/.test(text))

test('what is written is read again, word by word', () => {
  fc.assert(
    fc.property(fc.array(word, { maxLength: 12 }), (words) => assert.deepEqual(readWords(writeWords(words)), words)),
  )
})

test('words are quoted as iptables-save quotes them', () => {
  assert.equal(quoteWord('10.0.0.0/8'), '10.0.0.0/8')
  assert.equal(quoteWord('name: "net1" id: "abc"'), String.raw`"name: \"net1\" id: \"abc\""`)
  assert.equal(quoteWord(String.raw`a\b`), String.raw`"a\\b"`)
  assert.deepEqual(readWords(String.raw`-m comment --comment "a \"b\" \\ c" -j X`), [
    '-m',
    'comment',
    '--comment',
    String.raw`a "b" \ c`,
    '-j',
    'X',
  ])
  assert.deepEqual(readWords('--comment "" -j X'), ['--comment', '', '-j', 'X'])
})

test('nothing ends its line', () => {
  for (const bad of ['a\nCOMMIT', 'a\0', 'a\r']) assert.throws(() => writeWords([bad]), { code: 'bad-word' })
  assert.throws(() => writeWords(Array.from({ length: 2000 }, () => 'abcdef')), { code: 'bad-word' })
})
