import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ipNetText } from '#ip/prefix.ts'
import { ipText } from '#ip/address.ts'
import { renderEdits } from '#iptables/edit.ts'
import { ruleKey } from '#iptables/rule.ts'
import { TableRules } from '#iptables/save.ts'
import { readWords } from '#iptables/words.ts'
import type { HostPort } from '../rules/host-ports.ts'
import { checkIptablesCondition } from './condition.ts'
import { entryRules, missingPort, planPorts, portRules, type IptablesPortOptions } from './host-ports.ts'
import { jumpOf, referenceChain, referenceComment } from './reference.ts'

const owner = { network: 'net1', containerId: 'abcdef' }
const options: IptablesPortOptions = { nat: 'snat', markBit: 13, conditions: { 4: [], 6: [] } }
const port = (hostPort: number, containerPort: number, extra: Partial<HostPort> = {}): HostPort => ({
  protocol: 'tcp',
  hostPort,
  containerPort,
  address: ipNetText('10.77.0.2/24'),
  ...extra,
})
const keys = (rules: readonly (readonly string[])[]) => rules.map(ruleKey)
const saved = (lines: string) =>
  lines
    .trim()
    .split('\n')
    .map((line) => readWords(line.trim()))

test('names are those of the reference', () => {
  assert.equal(referenceChain('net1', 'abcdef'), 'CNI-458c655a43cbed52e400484b')
  assert.equal(referenceChain('net1', 'abcdef', 'DN-'), 'CNI-DN-458c655a43cbed52e4004')
  assert.equal(referenceComment('net1', 'abcdef', 'dnat '), 'dnat name: "net1" id: "abcdef"')
  assert.equal(referenceComment('n', 'c'.repeat(300)).length, 255)
  const rule = ['-m', 'comment', '--comment', 'dnat name: "net1" id: "abcdef"', '-j', 'CNI-DN-1']
  assert.deepEqual(jumpOf(rule), { chain: 'CNI-DN-1', network: 'net1' })
  assert.equal(jumpOf(['-j', 'CNI-DN-1']), undefined)
})

// What iptables-save shows of the reference plugin's rules for these mappings.
test('rules are those of the reference', () => {
  const four = [
    port(8000, 80),
    port(8001, 81, { protocol: 'udp', hostIp: ipText('127.0.0.1') }),
    port(8005, 85, { protocol: 'sctp' }),
  ]
  assert.deepEqual(
    keys(portRules(four, 4, options)),
    keys(
      saved(`
        -s 10.77.0.0/24 -p tcp -m tcp --dport 8000 -j CNI-HOSTPORT-SETMARK
        -s 127.0.0.1/32 -p tcp -m tcp --dport 8000 -j CNI-HOSTPORT-SETMARK
        -p tcp -m tcp --dport 8000 -j DNAT --to-destination 10.77.0.2:80
        -s 10.77.0.0/24 -d 127.0.0.1/32 -p udp -m udp --dport 8001 -j CNI-HOSTPORT-SETMARK
        -s 127.0.0.1/32 -d 127.0.0.1/32 -p udp -m udp --dport 8001 -j CNI-HOSTPORT-SETMARK
        -d 127.0.0.1/32 -p udp -m udp --dport 8001 -j DNAT --to-destination 10.77.0.2:81
        -s 10.77.0.0/24 -p sctp -m sctp --dport 8005 -j CNI-HOSTPORT-SETMARK
        -s 127.0.0.1/32 -p sctp -m sctp --dport 8005 -j CNI-HOSTPORT-SETMARK
        -p sctp -m sctp --dport 8005 -j DNAT --to-destination 10.77.0.2:85`),
    ),
  )
  const six = [port(8000, 80, { address: ipNetText('fd00:77::2/64') })]
  assert.deepEqual(
    keys(portRules(six, 6, options)),
    keys(
      saved(`
        -s fd00:77::/64 -p tcp -m tcp --dport 8000 -j CNI-HOSTPORT-SETMARK
        -p tcp -m tcp --dport 8000 -j DNAT --to-destination [fd00:77::2]:80`),
    ),
  )
  assert.deepEqual(
    keys(entryRules(four, 'net1', 'abcdef', ['!', '-d', '10.9.0.0/16'])),
    keys(
      saved(String.raw`
        ! -d 10.9.0.0/16 -p sctp -m comment --comment "dnat name: \"net1\" id: \"abcdef\"" -m multiport --dports 8005 -j CNI-DN-458c655a43cbed52e4004
        ! -d 10.9.0.0/16 -p tcp -m comment --comment "dnat name: \"net1\" id: \"abcdef\"" -m multiport --dports 8000 -j CNI-DN-458c655a43cbed52e4004
        ! -d 10.9.0.0/16 -p udp -m comment --comment "dnat name: \"net1\" id: \"abcdef\"" -m multiport --dports 8001 -j CNI-DN-458c655a43cbed52e4004`),
    ),
  )
})

test('snat, masqAll and a foreign chain for the mark', () => {
  const rules = (extra: Partial<IptablesPortOptions>) =>
    portRules([port(1, 2)], 4, { ...options, ...extra }).map((rule) => rule.join(' '))
  assert.deepEqual(rules({ nat: 'none' }), ['-p tcp --dport 1 -j DNAT --to-destination 10.77.0.2:2'])
  assert.deepEqual(rules({ nat: 'all' })[0], '-p tcp --dport 1 -s 0.0.0.0/0 -j CNI-HOSTPORT-SETMARK')
  assert.equal(rules({ nat: 'all' }).length, 2)
  assert.match(rules({ setMarkChain: 'KUBE-MARK-MASQ' })[0] ?? '', /-j KUBE-MARK-MASQ$/)
  const text = (extra: Partial<IptablesPortOptions>) =>
    renderEdits('nat', planPorts(TableRules.parse('', 'nat'), [port(1, 2)], 4, owner, { ...options, ...extra }))
  assert.match(text({}), /-A CNI-HOSTPORT-SETMARK .*--set-xmark 0x2000\/0x2000/)
  assert.match(text({ markBit: 31 }), /--mark 0x80000000\/0x80000000 -j MASQUERADE/)
  assert.doesNotMatch(text({ setMarkChain: 'KUBE-MARK-MASQ' }), /CNI-HOSTPORT-MASQ|SETMARK/)
  assert.doesNotMatch(text({ nat: 'none' }), /MASQ/)
})

test('a plan that was carried out has nothing left to do; 15 ports to an entry', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { minLength: 1, maxLength: 50 }), (numbers) => {
      const ports = numbers.map((number) => port(number, 80))
      const plan = (seen: TableRules) => planPorts(seen, ports, 4, owner, options)
      const seen = carriedOut(plan(TableRules.parse('', 'nat')))
      assert.deepEqual(plan(seen), [])
      assert.equal(missingPort(seen, ports, 4, owner, options), undefined)
      assert.equal(seen.rulesOf('CNI-HOSTPORT-DNAT').length, Math.ceil(numbers.length / 15))
      const other = [port(numbers[0] ?? 1, 81)]
      assert.notEqual(missingPort(seen, other, 4, owner, options), undefined)
    }),
  )
})

/** The table after these changes, for a table that was empty. */
function carriedOut(edits: ReturnType<typeof planPorts>): TableRules {
  const chains = new Map<string, string[]>([
    ['PREROUTING', []],
    ['OUTPUT', []],
    ['POSTROUTING', []],
  ])
  for (const line of renderEdits('nat', edits).split('\n')) {
    const [verb, chain = '', ...words] = line.split(' ')
    const rules = chains.get(chain) ?? []
    if (verb === '-N') chains.set(chain, [])
    if (verb === '-A') rules.push(words.join(' '))
    if (verb === '-I') rules.unshift(words.join(' '))
  }
  const heads = [...chains.keys()].map((chain) => `:${chain} - [0:0]`)
  const bodies = [...chains].flatMap(([chain, rules]) => rules.map((text) => `-A ${chain} ${text}`))
  return TableRules.parse(['*nat', ...heads, ...bodies, 'COMMIT'].join('\n'), 'nat')
}

test('conditions only match', () => {
  const good = [
    ['!', '-d', '10.9.0.0/16'],
    ['-m', 'set', '--match-set', 'x', 'src'],
    ['-i', 'eth0'],
    ['-m', 'limit', '--limit', '5/s'],
  ]
  for (const words of good) assert.deepEqual(checkIptablesCondition(words, 'conditionsV4'), words)
  const bad = [
    ['-j', 'ACCEPT'],
    ['-jACCEPT'],
    ['--jump', 'X'],
    ['--ju', 'X'],
    ['--goto=X'],
    ['-A', 'INPUT'],
    ['-t', 'filter'],
    ['-d', 'x\nCOMMIT'],
    ['-p', 'tcp'],
    [''],
    ['--pro', 'tcp'],
    ['-D', 'X'],
    ['-F'],
  ]
  for (const words of bad)
    assert.throws(
      () => checkIptablesCondition(words, 'conditionsV4'),
      { code: 7, message: /conditionsV4/ },
      words.join(' '),
    )
})
