import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import type { ChainsNote } from '#cni/attachment/record.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import type { Edit } from '#iptables/edit.ts'
import { ruleKey, type Rule } from '#iptables/rule.ts'
import { TableRules } from '#iptables/save.ts'
import { writeWords } from '#iptables/words.ts'
import { planAllow } from '../firewall/filter-rules.ts'
import { planPorts, portChain } from './host-ports.ts'
import { noteOf, planRestore, planTakeBack } from './note.ts'

type Chains = Map<string, Rule[]>

const textOf = (table: string, chains: Chains): string =>
  [
    `*${table}`,
    ...[...chains.keys()].map((chain) => `:${chain} -`),
    ...[...chains].flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${writeWords(rule)}`)),
    'COMMIT',
  ].join('\n')

const seen = (table: string, chains: Chains): TableRules => TableRules.parse(textOf(table, chains), table)

/** What `iptables-restore --noflush` makes of a table; it refuses what iptables refuses. */
function apply(chains: Chains, edits: readonly Edit[]): Chains {
  const after: Chains = new Map([...chains].map(([chain, rules]) => [chain, [...rules]]))
  for (const edit of edits) {
    const rules = after.get(edit.chain)
    assert.equal(rules === undefined, edit.do === 'new-chain', JSON.stringify(edit))
    if (rules === undefined) after.set(edit.chain, [])
    else if (edit.do === 'flush') rules.length = 0
    else if (edit.do === 'remove-chain') after.delete(edit.chain)
    else if (edit.do === 'append') rules.push(edit.rule)
    else if (edit.do === 'insert') rules.unshift(edit.rule)
    else if (edit.do === 'delete') {
      const at = rules.findIndex((rule) => ruleKey(rule) === ruleKey(edit.rule))
      assert.ok(at >= 0, `no such rule: ${JSON.stringify(edit)}`)
      rules.splice(at, 1)
    }
  }
  return after
}

const empty = (): Chains =>
  new Map(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => [chain, []]))

const options = { nat: 'snat', markBit: 13, conditions: { 4: [], 6: [] } } as const
const portsOf = (n: number) => (table: TableRules) =>
  planPorts(
    table,
    [{ protocol: 'tcp', hostPort: 8000, containerPort: 80, address: ipNetText(`10.77.0.${n + 2}/24`) }],
    4,
    { network: 'net1', containerId: `c${n}` },
    options,
  )
const allowOf = (n: number) => (table: TableRules) =>
  planAllow(table, {
    addresses: [cidrText(`10.77.0.${n + 2}/32`)],
    adminChain: 'CNI-ADMIN',
    guard: n % 2 === 0 ? { bridge: `br${n}` } : undefined,
    opens: true,
  })

const kinds = [
  { table: 'nat', planOf: portsOf, ownOf: (n: number) => [portChain('net1', `c${n}`)] },
  { table: 'filter', planOf: allowOf, ownOf: () => [] },
] as const

for (const { table, planOf, ownOf } of kinds) {
  const numbers = [0, 1, 2, 3]
  const noteFor = (n: number): ChainsNote => noteOf(4, table, planOf(n), ownOf(n))
  const notes = numbers.map(noteFor)
  const whole = numbers.reduce((chains, n) => apply(chains, planOf(n)(seen(table, chains))), empty())
  const restored = (chains: Chains): Chains => apply(chains, planRestore(seen(table, chains), notes).edits)

  test(`${table}: what is whole is left alone`, () => {
    const { edits, put } = planRestore(seen(table, whole), notes)
    assert.deepEqual(edits, [])
    assert.ok(put.every((some) => some.length === 0))
  })

  test(`${table}: after a flush it is as the ADDs had made it, the newest first`, () => {
    assert.equal(textOf(table, restored(empty())), textOf(table, sorted(whole, restored(empty()))))
    const flushed: Chains = new Map([...whole.keys()].map((chain) => [chain, []]))
    assert.deepEqual(restored(flushed), whole)
  })

  test(`${table}: whatever is taken out comes back at its place, others' rules stay`, () => {
    const foreign: Rule = ['-s', '192.0.2.1/32', '-j', 'ACCEPT']
    const all = [...whole].flatMap(([chain, rules]) => rules.map((rule) => [chain, rule] as const))
    fc.assert(
      fc.property(fc.subarray(all), (taken) => {
        const gone = new Set(taken)
        const damaged: Chains = new Map(
          [...whole].map(([chain, rules]) => [
            chain,
            rules.filter((rule) => !all.some((one) => gone.has(one) && one[0] === chain && one[1] === rule)),
          ]),
        )
        damaged.get('INPUT')?.push(foreign)
        const after = restored(damaged)
        assert.deepEqual(after.get('INPUT'), [foreign])
        for (const [chain, rules] of whole) {
          if (chain === 'INPUT') continue
          const [a, b] = [after.get(chain) ?? [], rules].map((some) => some.map(ruleKey))
          // What belongs at the end of a shared chain may come in another order there: none of these exclude each other.
          assert.deepEqual(a?.toSorted(), b?.toSorted(), chain)
          if (chain === 'CNI-HOSTPORT-DNAT' || chain.startsWith('CNI-DN-') || chain === 'FORWARD')
            assert.deepEqual(a, b, chain)
        }
        assert.deepEqual(planRestore(seen(table, after), notes).edits, [], 'nothing is left to do')
      }),
      { numRuns: 200 },
    )
  })

  test(`${table}: what was put back for one that has left goes again, and nothing else`, () => {
    const without = numbers.filter((n) => n !== 2).reduce((c, n) => apply(c, planOf(n)(seen(table, c))), empty())
    const { edits, put } = planRestore(seen(table, without), notes)
    const both = apply(without, edits)
    assert.notDeepEqual(both, without)
    const [note = noteFor(2), some = []] = [notes[2], put[2]]
    const left = notes.filter((_, i) => i !== 2)
    const after = apply(both, planTakeBack(seen(table, both), [{ note, put: some }], left))
    assert.deepEqual(after, without)
    assert.deepEqual(planTakeBack(seen(table, both), [{ note, put: [] }], left), [])
  })
}

/** The chains of one in the order of the other. */
const sorted = (chains: Chains, like: Chains): Chains =>
  new Map([...like.keys()].map((chain) => [chain, chains.get(chain) ?? []]))

test('a chain that two attachments of one container share is as the newer made it', () => {
  const shared = (n: number): ChainsNote => noteOf(4, 'nat', portsOf(n), [portChain('net1', 'c1')])
  const two = [noteOf(4, 'nat', portsOf(1), [portChain('net1', 'c1')]), { ...shared(1), edits: [...shared(1).edits] }]
  const first = apply(empty(), planRestore(seen('nat', empty()), two).edits)
  assert.deepEqual(planRestore(seen('nat', first), two).edits, [])
  assert.equal(first.get(portChain('net1', 'c1'))?.length, 3)
})
