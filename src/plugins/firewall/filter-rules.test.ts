import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cidrText } from '#ip/prefix.ts'
import { renderEdits, type Edit } from '#iptables/edit.ts'
import { TableRules } from '#iptables/save.ts'
import { allowedAddresses, missingRule, planAllow, planForget, type Wanted } from './filter-rules.ts'

const wanted: Wanted = { addresses: [cidrText('10.77.0.2/32')], adminChain: 'CNI-ADMIN', opens: true }
const guarded: Wanted = { ...wanted, guard: { bridge: 'br0' } }

/** Carries edits out on the text of a table. */
function carriedOut(before: string, edits: readonly Edit[]): string {
  const chains = new Map<string, string[]>()
  for (const line of [...before.split('\n'), ...renderEdits('filter', edits).split('\n')]) {
    const [verb, chain = '', ...words] = line.split(' ')
    const rules = chains.get(chain) ?? []
    const rule = words.join(' ')
    if (verb === '-N') chains.set(chain, [])
    if (verb === '-A') rules.push(rule)
    if (verb === '-I') rules.unshift(rule)
    if (verb === '-D') rules.splice(rules.indexOf(rule), 1)
  }
  return [...chains.keys()]
    .map((chain) => `-N ${chain}`)
    .concat([...chains].flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)))
    .join('\n')
}
const EMPTY = '-N FORWARD'
const parse = (text: string): TableRules =>
  TableRules.parse(`*filter\n${text.replaceAll(/^-N (\S+)$/gm, ':$1 - [0:0]')}\nCOMMIT`, 'filter')
const allowed = (text: string, what: Wanted): string => carriedOut(text, planAllow(parse(text), what))
const FORWARDS = (text: string) =>
  parse(text)
    .rulesOf('FORWARD')
    .map((rule) => rule.at(-1))

test('the rules are those of the reference, once', () => {
  const text = allowed(EMPTY, guarded)
  assert.deepEqual(
    text.split('\n').filter((line) => line.startsWith('-A')),
    [
      '-A FORWARD -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j CNI-ISOLATION-STAGE-1',
      '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
      '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN',
      '-A CNI-FORWARD -d 10.77.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-A CNI-FORWARD -s 10.77.0.2/32 -j ACCEPT',
      '-A CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j CNI-ISOLATION-STAGE-2',
      '-A CNI-ISOLATION-STAGE-1 -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j RETURN',
      '-A CNI-ISOLATION-STAGE-2 -o br0 -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j DROP',
      '-A CNI-ISOLATION-STAGE-2 -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j RETURN',
    ],
  )
  assert.deepEqual(planAllow(parse(text), guarded), [])
  assert.equal(missingRule(parse(text), guarded), undefined)
  assert.match(missingRule(parse(text), { ...guarded, guard: { bridge: 'br1' } }) ?? '', /br1/)
  assert.deepEqual(allowedAddresses(parse(text)), ['10.77.0.2/32'])
})

test('isolation stays before what is let through, whoever came first', () => {
  assert.deepEqual(FORWARDS(allowed(allowed(EMPTY, wanted), guarded)), ['CNI-ISOLATION-STAGE-1', 'CNI-FORWARD'])
  const broken = allowed(EMPTY, guarded).replace(/-A FORWARD .*-j CNI-FORWARD\n/, '')
  assert.deepEqual(FORWARDS(broken), ['CNI-ISOLATION-STAGE-1'])
  assert.deepEqual(FORWARDS(allowed(broken, wanted)), ['CNI-ISOLATION-STAGE-1', 'CNI-FORWARD'])
  assert.deepEqual(FORWARDS(allowed(EMPTY, { ...guarded, opens: false })), ['CNI-ISOLATION-STAGE-1'])
})

test('what goes is what nobody wants', () => {
  const addresses = wanted.addresses
  const base = allowed(EMPTY, wanted)
  // The second is the reference's for isolated pods.
  const both = `${allowed(base, guarded)}\n-A CNI-ISOLATION-STAGE-1 -i br0 -o br0 -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j DROP`
  const forget = (unwanted: Parameters<typeof planForget>[1]) => carriedOut(both, planForget(parse(both), unwanted))
  assert.match(forget({ addresses }), /-i br0 -o br0 .*DROP[^]*-o br0 .*DROP/)
  assert.doesNotMatch(forget({ addresses, shared: 'br0' }), /-i br0 -o br0/)
  assert.doesNotMatch(forget({ addresses, shared: 'br0', open: 'br0' }), /br0|10\.77/)
  assert.match(missingRule(parse(forget({ addresses })), guarded) ?? '', /10\.77\.0\.2\/32/)
  assert.match(missingRule(parse(EMPTY), wanted) ?? '', /FORWARD/)
})
