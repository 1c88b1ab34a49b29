import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderEdits } from '#iptables/edit.ts'
import { TableRules } from '#iptables/save.ts'
import { writeWords } from '#iptables/words.ts'
import { localNode } from './fixture.ts'
import { flannelChains, noFlannelChains, planChain } from './iptables-rules.ts'

const textOf = (family: 4 | 6, local = localNode({ ipv6: true })): readonly string[] =>
  flannelChains(local, family).flatMap(({ chain, from, jump, rules }) => [
    ...(rules === undefined ? [] : [`-A ${from} ${writeWords(jump)}`]),
    ...(rules ?? []).map((rule) => `-A ${chain} ${writeWords(rule)}`),
  ])

test('the rules are flannel’s, word by word', () => {
  assert.deepEqual(textOf(4), [
    '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
    '-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN',
    '-A FLANNEL-POSTRTG -s 10.244.0.0/24 -d 10.0.0.0/8 -m comment --comment "flanneld masq" -j RETURN',
    '-A FLANNEL-POSTRTG -s 10.0.0.0/8 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN',
    '-A FLANNEL-POSTRTG ! -s 10.0.0.0/8 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN',
    '-A FLANNEL-POSTRTG -s 10.0.0.0/8 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
    '-A FLANNEL-POSTRTG ! -s 10.0.0.0/8 -d 10.0.0.0/8 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    '-A FLANNEL-FWD -s 10.0.0.0/8 -m comment --comment "flanneld forward" -j ACCEPT',
    '-A FLANNEL-FWD -d 10.0.0.0/8 -m comment --comment "flanneld forward" -j ACCEPT',
  ])
  assert.ok(
    textOf(6).includes(
      '-A FLANNEL-POSTRTG -s fd00:244::/32 ! -d ff00::/8 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
    ),
  )
  assert.equal(textOf(6).length, textOf(4).length)
})

test('what is switched off is not there', () => {
  const local = localNode()
  assert.deepEqual(textOf(6, local), [])
  assert.equal(textOf(4, { ...local, ipMasq: false }).length, 3)
  assert.equal(textOf(4, { ...local, forwardRules: false }).length, 7)
  assert.ok(textOf(4, { ...local, randomFully: false }).every((rule) => !rule.includes('random')))
})

const [nat] = flannelChains(localNode(), 4)
const [noNat] = noFlannelChains
const saved = (lines: readonly string[]): TableRules =>
  TableRules.parse(
    ['*nat', ':POSTROUTING ACCEPT [0:0]', ':FLANNEL-POSTRTG - [0:0]', ...lines, 'COMMIT'].join('\n'),
    'nat',
  )

test('only what differs is written; a jump is there once; what is unwanted goes with its jump', () => {
  assert.ok(nat !== undefined && noNat !== undefined)
  const lines = textOf(4).filter((line) => /POSTR/.test(line))
  assert.deepEqual(planChain(saved(lines), nat), [])
  assert.deepEqual(
    planChain(saved([...lines, lines[0] ?? '']), nat).map((edit) => edit.do),
    ['delete'],
  )
  const changed = planChain(saved(lines.slice(1).toReversed()), nat)
  assert.equal(changed.length, 1 + 6 + 1)
  assert.match(
    renderEdits('nat', changed),
    /^\*nat\n-F FLANNEL-POSTRTG\n(-A FLANNEL-POSTRTG .*\n){6}-A POSTROUTING .*\nCOMMIT\n$/,
  )
  assert.match(
    renderEdits('nat', planChain(saved(lines), noNat)),
    /^\*nat\n-D POSTROUTING .*\n-F FLANNEL-POSTRTG\n-X FLANNEL-POSTRTG\nCOMMIT\n$/,
  )
  assert.deepEqual(planChain(TableRules.parse('', 'nat'), noNat), [])
})
