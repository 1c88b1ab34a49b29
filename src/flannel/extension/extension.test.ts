import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { backendOf } from '../backend/registry.ts'
import { backendDataText } from '../backend-data.ts'
import { localNode, peerNode } from '../fixture.ts'
import type { Local } from '../local.ts'
import { parseNetConf } from '../net-conf.ts'
import { PeerTable } from '../peer-table.ts'
import { ownVariables, peerVariables } from './backend.ts'
import { expand, type ExtensionConf } from './conf.ts'
import { parseTextData } from './data.ts'

function confOf(options: object): ExtensionConf {
  const { backend } = parseNetConf(
    JSON.stringify({ Network: '10.0.0.0/8', Backend: { Type: 'extension', ...options } }),
  )
  assert.ok(backend.type === 'extension')
  return backend
}

test('commands are split at white space, or given as a list', () => {
  assert.deepEqual(
    confOf({
      PreStartupCommand: '/opt/make  key',
      SubnetAddCommand: ['/sbin/ip', 'route', 'add', '$SUBNET', 'via', '${PUBLIC_IP}', 'a word; and `more`'],
      SubnetRemoveCommand: '',
    }),
    {
      type: 'extension',
      preStartup: ['/opt/make', 'key'],
      subnetAdd: ['/sbin/ip', 'route', 'add', '$SUBNET', 'via', '${PUBLIC_IP}', 'a word; and `more`'],
    },
  )
})

test('what only a shell understands is refused, and what to do is said', () => {
  for (const command of [
    'echo $SUBNET | cut -d/ -f1',
    'export X=1',
    'a && b',
    'ip route add $(cat x)',
    'echo `id`',
    'a > b',
    'echo "x y"',
  ])
    assert.throws(() => confOf({ PostStartupCommand: command }), /Backend\.PostStartupCommand: .*no.*write a script/s)
  assert.throws(() => confOf({ SubnetAddCommand: '$SUBNET x' }), /cannot be the program/)
  assert.throws(() => confOf({ SubnetAddCommand: 7 }), /Backend\.SubnetAddCommand: it is 7; expected a command/)
  assert.throws(() => confOf({ SubnetAddCommand: ['ip', 7] }), /Backend\.SubnetAddCommand/)
  assert.throws(() => confOf({ SubnetAddCommand: Array(200).fill('x') }), /no command line/)
})

test('a value is never more than part of one argument', () => {
  assert.deepEqual(expand(['ip', 'x$A-${B}y', '$NONE', '$$'], { A: '1 2', B: '$A;' }), ['ip', 'x1 2-$A;y', '', '$$'])
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 5 }), fc.string(), (args, value) => {
      const [program, ...expanded] = expand(['p', ...args], { SUBNET: value, constructor: 'x' })
      assert.equal(program, 'p')
      assert.equal(expanded.length, args.length)
    }),
  )
})

test('what commands are told: this node, and of a peer no more than what was checked', () => {
  const conf = confOf({})
  const backend = backendOf(conf)
  const local: Local = { ...localNode({ ipv6: true, conf }), identity: { kind: 'extension', text: 'key "1"\nend' } }
  assert.deepEqual(ownVariables(local), {
    NETWORK: '10.0.0.0/8',
    SUBNET: '10.244.0.0/24',
    PUBLIC_IP: '192.168.0.1',
    IPV6NETWORK: 'fd00:244::/32',
    IPV6SUBNET: 'fd00:244::/64',
    PUBLIC_IPV6: '2001:db8::1',
  })
  assert.equal(backendDataText(backend.published(local, 4)), '"key \\"1\\"\\nend"')
  const own = { backendType: 'extension', backendData: '"their key"', backendV6Data: '"their key"' }
  const lease = new PeerTable(local, backend).update(peerNode(1, own)).leases.get('node-1')
  assert.ok(lease)
  assert.deepEqual(peerVariables(local, lease), {
    variables: {
      SUBNET: '10.244.1.0/24',
      PUBLIC_IP: '192.168.0.2',
      IPV6SUBNET: 'fd00:244:0:1::/64',
      PUBLIC_IPV6: '2001:db8::2',
    },
    input: 'their key',
  })
})

test('data that is no JSON string is refused; none is nothing to say', () => {
  for (const [text, expected] of [
    [undefined, ''],
    ['null', ''],
    ['""', ''],
    ['"; reboot #"', '; reboot #'],
  ] as const)
    assert.equal(parseTextData(text, 'backend-data').text, expected)
  for (const text of ['7', '{"a":1}', 'x', '"a\\u0000b"', '['.repeat(100_000)])
    assert.throws(() => parseTextData(text, 'backend-data'), /annotation backend-data/)
})
