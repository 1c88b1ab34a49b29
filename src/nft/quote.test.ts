import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { NftError } from './error.ts'
import { checkRule, commentText, identifier, isIdentifier, MAX_COMMENT, quoteComment, quoteInterface } from './quote.ts'

const refuses = (code: string) => (error: unknown) => error instanceof NftError && error.code === code

test('names that nft reads as names pass unchanged', () => {
  for (const name of ['heddle', 'POSTROUTING', '_x', 'pod-10.0.0.1', 'a']) assert.equal(identifier(name), name)
})

test('names that nft would read as something else are refused', () => {
  for (const name of [
    '',
    '1a',
    'a b',
    'a;b',
    'a\n',
    'a"',
    'a{',
    '@a',
    '$a',
    'a/b',
    'drop',
    'map',
    'ip',
    'a'.repeat(129),
    'ä',
    '-a',
  ])
    assert.throws(() => identifier(name), refuses('bad-name'), name)
})

test('interface names end neither their quotes nor become wildcards', () => {
  assert.equal(quoteInterface('cni0'), '"cni0"')
  assert.equal(quoteInterface('veth1234abcd.100'.slice(0, 15)), '"veth1234abcd.10"')
  for (const name of ['', '.', '..', 'a'.repeat(16), 'a b', 'a/b', 'a:b', 'a"', 'a*', 'a\\', 'a\n', 'ü'.repeat(8)])
    assert.throws(() => quoteInterface(name), refuses('bad-name'), name)
})

test('property: a comment stays one token and fits', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
      const quoted = quoteComment(text)
      assert.match(quoted, /^"[^"]*"$/)
      assert.ok(!/\p{Cc}/u.test(quoted))
      assert.ok(Buffer.byteLength(quoted) - 2 <= MAX_COMMENT)
      assert.equal(commentText(commentText(text)), commentText(text), 'cleaning twice changes nothing')
    }),
  )
})

test('ordinary comments stay as they are', () => {
  for (const text of ['masquerade: pod default/web-0', 'größe 10 µ', '网络']) assert.equal(commentText(text), text)
  assert.equal(commentText('x'.repeat(200)), `${'x'.repeat(124)}…`)
})

test('property: what is accepted as a name is made of harmless characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (name) => {
      if (isIdentifier(name)) assert.match(name, /^[A-Za-z0-9_.-]+$/)
      else assert.throws(() => identifier(name), refuses('bad-name'))
    }),
  )
})

test('a rule is one rule', () => {
  for (const text of [
    'ip saddr { 10.0.0.1, 10.0.0.2 } accept',
    'iifname "a;b#" drop',
    'log prefix "x{" drop',
    'meta mark set 1',
  ])
    assert.equal(checkRule(text), text)
  for (const text of [
    '',
    ' ',
    'accept; drop',
    'accept\ndrop',
    'accept }',
    'ip saddr { 1.2.3.4',
    'log prefix "x',
    'accept # x',
    '$x',
    'a\\',
    'accept comment "x"',
  ])
    assert.throws(() => checkRule(text), refuses('bad-rule'), text)
})
