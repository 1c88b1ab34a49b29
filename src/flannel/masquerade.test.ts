import assert from 'node:assert/strict'
import { test } from 'node:test'

import { checkRule } from '#nft/quote.ts'
import { localNode } from './fixture.ts'
import { masqueradePlan } from './masquerade.ts'

function rulesOf(chain: string, local = localNode()): string[] {
  const [desired] = masqueradePlan(local)
  assert.ok(desired?.entry.kind === 'nft')
  return desired.entry.table.chains.find(({ name }) => name === chain)?.rules.map(({ text }) => text) ?? []
}

test('the rules are flannel’s, in its order', () => {
  assert.deepEqual(rulesOf('postrouting'), [
    'meta mark & 0x00004000 == 0x00004000 return',
    'ip saddr 10.244.0.0/24 ip daddr 10.0.0.0/8 return',
    'ip saddr 10.0.0.0/8 ip daddr 10.244.0.0/24 return',
    'ip saddr != 10.0.0.0/8 ip daddr 10.244.0.0/24 return',
    'ip saddr 10.0.0.0/8 ip daddr != 224.0.0.0/4 masquerade fully-random',
    'ip saddr != 10.0.0.0/8 ip daddr 10.0.0.0/8 masquerade fully-random',
  ])
  assert.deepEqual(rulesOf('forwarding'), ['ip saddr 10.0.0.0/8 accept', 'ip daddr 10.0.0.0/8 accept'])
})

test('both families in one table; each rule is one that nft can take', () => {
  const rules = [
    ...rulesOf('postrouting', localNode({ ipv6: true })),
    ...rulesOf('forwarding', localNode({ ipv6: true })),
  ]
  assert.equal(rules.length, 1 + 5 + 5 + 4)
  assert.ok(rules.includes('ip6 saddr fd00:244::/32 ip6 daddr != ff00::/8 masquerade fully-random'))
  for (const rule of rules) assert.equal(checkRule(rule), rule)
})

test('without ip-masq pods are still forwarded; fully-random can be left out', () => {
  assert.deepEqual(rulesOf('postrouting', { ...localNode(), ipMasq: false }), [])
  assert.equal(rulesOf('forwarding', { ...localNode(), ipMasq: false }).length, 2)
  assert.deepEqual(rulesOf('forwarding', { ...localNode(), forwardRules: false }), [])
  assert.deepEqual(masqueradePlan({ ...localNode(), forwardRules: false, ipMasq: false }), [])
  assert.ok(rulesOf('postrouting', { ...localNode(), randomFully: false }).every((rule) => !rule.includes('random')))
})
