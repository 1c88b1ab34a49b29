import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'

import { CloudError } from './errors.ts'
import { listOf, parseXml, readXml, type XmlValue } from './xml.ts'

test('as EC2 writes it', () =>
  assert.deepEqual(
    readXml(`<?xml version="1.0" encoding="UTF-8"?>
<DescribeXResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>r-1</requestId>
  <routeSet><item><a>1</a></item><item><a>&lt;&#50;&#x33; &amp;amp;&gt;</a><b/></item></routeSet>
  <tagSet/>
</DescribeXResponse>
`),
    {
      name: 'DescribeXResponse',
      value: { requestId: 'r-1', routeSet: [{ a: '1' }, { a: '<23 &amp;>', b: '' }], tagSet: '' },
    },
  ))

const REFUSED = [
  '',
  'null',
  '{"a":1}',
  '<a>',
  '</a>',
  '<a></b>',
  '<a><b></a></b>',
  '<a/><b/>',
  'x<a/>',
  '<a/>x',
  '<a>x<b/></a>',
  '<a><b/><b/></a>',
  '<a><item/><b/><item/></a>',
  '<a>&b;</a>',
  '<a>&</a>',
  '<a>&#0;</a>',
  '<a>&#xD800;</a>',
  '<a>&#1114112;</a>',
  '<a b=c/>',
  '<a b="<"/>',
  '</a b="c">',
  '<a></a/>',
  '<__proto__>x</__proto__>',
  '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
  '<a><![CDATA[b]]></a>',
  '<a><!-- b --></a>',
  '<a><?b?></a>',
  '<html><br></html>',
  '<a>'.repeat(40) + '</a>'.repeat(40),
]
for (const text of REFUSED) test(`refused: ${text.slice(0, 50)}`, () => assert.equal(readXml(text), undefined))

test('names of every object are names like others', () => {
  const value = readXml('<a><constructor>1</constructor><toString>2</toString></a>')?.value
  assert.deepEqual(Object.entries(value ?? {}), [
    ['constructor', '1'],
    ['toString', '2'],
  ])
})

test('what is too much is refused, in little time', () => {
  const begun = performance.now()
  assert.equal(readXml(`<a>${'<item/>'.repeat(600_000)}</a>`), undefined)
  assert.equal(readXml('<a '.repeat(300_000)), undefined)
  assert.equal(readXml(`<a ${'b="c" '.repeat(300_000)}`), undefined)
  assert.equal(readXml('<'.repeat(1_000_000)), undefined)
  assert.notEqual(readXml(`<a>${'&amp;'.repeat(300_000)}</a>`), undefined)
  assert.ok(performance.now() - begun < 30_000)
})

const name = fc.stringMatching(/^[a-z][a-zA-Z0-9]{0,8}$/).filter((text) => text !== 'item')
const { value: anyValue } = fc.letrec<{ value: XmlValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string({ unit: 'grapheme' }).filter((text) => !/[\0\uD800-\uDFFF]/.test(text)),
    fc.array(tie('value'), { minLength: 1, maxLength: 4 }),
    fc.dictionary(name, tie('value'), { minKeys: 1, maxKeys: 4, noNullPrototype: true }),
  ),
}))

const escape = (text: string): string => text.replaceAll(/[<>&]/g, (char) => `&#${char.charCodeAt(0)};`)
const write = (tag: string, value: XmlValue): string => {
  const inner =
    typeof value === 'string'
      ? escape(value)
      : Array.isArray(value)
        ? value.map((item: XmlValue) => write('item', item)).join('\n')
        : Object.entries(value)
            .map(([key, child]) => write(key, child))
            .join('')
  return `<${tag}>${inner}</${tag}>`
}

test('what is written is read again', () =>
  fc.assert(
    fc.property(anyValue, (value) => {
      assert.deepEqual(readXml(write('root', value)), { name: 'root', value })
    }),
  ))

test('any text is answered or refused', () =>
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('<', '>', '/', 'a', '&', ';', '"', '=', ' ', '#', 'item') }),
      (text) => {
        readXml(text)
      },
    ),
  ))

test('by a schema: lists that are empty, roots of another name, fields that miss', () => {
  const schema = v.object({ set: listOf(v.object({ id: v.string() })) })
  assert.deepEqual(parseXml(schema, 'A', '<A><set/></A>', 'x'), { set: [] })
  assert.deepEqual(parseXml(schema, 'A', '<A><set><item><id>1</id></item></set></A>', 'x'), { set: [{ id: '1' }] })
  for (const text of ['<B><set/></B>', '<A/>', '<A><set><item/></set></A>', '<A><set>hush</set></A>'])
    assert.throws(
      () => parseXml(schema, 'A', text, 'x'),
      (error) => error instanceof CloudError && error.code === 'bad-answer' && !error.message.includes('hush'),
    )
})
