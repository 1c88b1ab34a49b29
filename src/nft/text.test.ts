import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { NftError } from './error.ts'
import type { SetDeclaration, Table } from './table.ts'
import { hookPriority } from './table.ts'
import { type Existing, renderDelete, renderTable } from './text.ts'

const golden = (name: string): string => readFileSync(join(import.meta.dirname, 'testdata', name), 'utf8')

const ports: SetDeclaration = {
  name: 'ports',
  key: ['inet_proto', 'inet_service'],
  data: ['ipv4_addr', 'inet_service'],
  comment: 'host ports',
}
const pods: SetDeclaration = { name: 'pods', key: ['ipv4_addr'], flags: ['interval'] }
const policy: SetDeclaration = { name: 'pod-policy', key: ['ifname'], data: 'verdict' }
const recent: SetDeclaration = { name: 'recent', key: ['ipv6_addr'], flags: ['dynamic'], timeout: 90_500, size: 1000 }

const table: Table = {
  family: 'inet',
  name: 'heddle',
  comment: 'made by "heddle"',
  sets: [ports, pods, policy, recent],
  chains: [
    {
      name: 'dnat-all',
      rules: [
        {
          text: 'dnat ip to meta l4proto . th dport map @ports',
          owner: 'portmap',
          reason: 'pod default/web-0',
        },
      ],
    },
    {
      name: 'prerouting',
      base: { type: 'nat', hook: 'prerouting', priority: hookPriority.dstnat },
      comment: 'host ports',
      rules: [{ text: 'fib daddr type local jump dnat-all', owner: 'portmap' }],
    },
    {
      name: 'forwarding',
      base: { type: 'filter', hook: 'forward', priority: hookPriority.filter, policy: 'drop' },
      rules: [{ text: 'oifname vmap @pod-policy', owner: 'policy', reason: 'a "quoted"\nreason' }],
    },
  ],
}

test('golden: a table from nothing', () => {
  assert.equal(renderTable(table), golden('create.nft'))
})

test('golden: what is no longer wanted goes, what changed is made anew, what is the same stays', () => {
  const existing: Existing = {
    sets: [
      { ...ports, handle: 1n },
      { name: 'pods', key: ['ipv6_addr'], flags: ['interval'], handle: 2n },
      { name: 'old', key: ['mark'], data: ['mark'], handle: 3n },
      { name: 'foreign/set', key: undefined, handle: 4n },
      { ...recent, flags: ['timeout', 'dynamic'], handle: 5n },
    ],
    chains: [
      { name: 'dnat-all', handle: 6n },
      { name: 'prerouting', base: { type: 'nat', hook: 'prerouting', priority: -90 }, handle: 7n },
      { name: 'forwarding', base: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' }, handle: 8n },
      { name: 'my/chain', handle: 9n },
    ],
  }
  assert.equal(renderTable(table, existing), golden('refresh.nft'))
})

test('the same model gives the same text', () => {
  assert.equal(renderTable(structuredClone(table)), renderTable(table))
})

test('deleting works whether or not the table is there', () => {
  assert.equal(renderDelete({ family: 'ip6', name: 'x' }), 'add table ip6 x\ndelete table ip6 x\n')
})

test('what cannot be said is refused before nft sees it', () => {
  const set = (part: Partial<SetDeclaration>): Table => ({ ...table, sets: [{ ...pods, ...part }], chains: [] })
  for (const bad of [
    set({ name: 'a b' }),
    set({ key: [] }),
    set({ key: ['ipv6_addr', 'ipv6_addr', 'ipv6_addr', 'ipv6_addr', 'mark'] }),
    set({ data: [] }),
    set({ size: 0 }),
    set({ timeout: 0.5 }),
    { ...table, name: 'x; flush ruleset' },
    {
      ...table,
      chains: [
        { name: 'a', rules: [] },
        { name: 'a', rules: [] },
      ],
    },
    { ...table, chains: [{ name: 'a', rules: [{ text: 'accept\nflush ruleset', owner: 'x' }] }] },
    { ...table, chains: [{ name: 'a', base: { type: 'filter', hook: 'input', priority: 1.5 }, rules: [] }] },
  ] satisfies Table[])
    assert.throws(() => renderTable(bad), NftError)
})
