import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseNetConf } from '#flannel/net-conf.ts'
import { judgeConf, type ConfInUse } from './conf-change.ts'

const TEXT = '{"Network":"10.244.0.0/16","Backend":{"Type":"wireguard","PSK":"' + 'A'.repeat(43) + '="}}'
const used = (text = TEXT, objection?: string): ConfInUse => ({
  text,
  conf: parseNetConf(text),
  allowExtension: false,
  objection: () => objection,
})

test('blanks say nothing, a secret does', () => {
  assert.equal(judgeConf(TEXT.replaceAll(',', ' ,\n'), used()).is, 'same')
  assert.equal(judgeConf(TEXT.replace('AAAA', 'AAAB'), used()).is, 'follow')
})

test('another backend is followed, and is what was read', () => {
  const text = '{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}'
  assert.deepEqual(judgeConf(text, used()), { is: 'follow', read: { text, conf: parseNetConf(text) } })
})

const both = '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}'
const only = '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'

test('a further family is followed, one that goes is not', () => {
  assert.equal(judgeConf(both, used(only)).is, 'follow')
  assert.match(JSON.stringify(judgeConf(only, used(both))), /"refused".*IPv6 is switched off/)
})

for (const [text, why] of [
  ['', /not JSON/],
  ['{"Network":', /not JSON/],
  ['null', /JSON object/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"pigeon"}}', /pigeon/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"extension"}}', /--allow-extension-commands|is off/],
] as const)
  test(`refused: ${text}`, () => {
    const change = judgeConf(text, used())
    assert.ok(change.is === 'refused')
    assert.match(change.why, why)
  })

test('what the node says against it', () =>
  assert.deepEqual(judgeConf(only, used(TEXT, 'no such subnet')), { is: 'refused', why: 'no such subnet' }))
