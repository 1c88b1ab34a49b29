import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseDaemonFlags, parseDuration } from './flags.ts'

test('times as Go writes them', () => {
  const table: Record<string, number | undefined> = {
    '10s': 10_000,
    '1m30s': 90_000,
    '500ms': 500,
    '1.5h': 5_400_000,
    '.5s': 500,
    '0': 0,
    '10': undefined,
    s: undefined,
    '-1s': undefined,
    '': undefined,
    '10 s': undefined,
  }
  for (const [text, ms] of Object.entries(table)) assert.equal(parseDuration(text), ms, text)
})

test("the reference's flags: one dash or two, = or not; the defaults are its own", () => {
  assert.deepEqual(parseDaemonFlags([]), {
    pidFile: '',
    hostPrefix: '',
    socketPath: '/run/cni/dhcp.sock',
    broadcast: false,
    timeout: 10_000,
    resendMax: 62_000,
    resendTimeout: 208_000,
  })
  const flags = [
    '-pidfile',
    '/p',
    '--hostprefix=/host',
    '-socketpath=/s',
    '-broadcast',
    '-timeout',
    '5s',
    '-resendmax=4s',
    '-resendtimeout',
    '20s',
  ]
  assert.deepEqual(parseDaemonFlags(flags), {
    pidFile: '/p',
    hostPrefix: '/host',
    socketPath: '/s',
    broadcast: true,
    timeout: 5000,
    resendMax: 4000,
    resendTimeout: 20_000,
  })
  assert.equal(parseDaemonFlags(['-broadcast=false']).broadcast, false)
})

test('what is wrong is named', () => {
  const table: Record<string, readonly string[]> = {
    'no flag "-x"': ['-x'],
    'no flag "daemon"': ['daemon'],
    '-pidfile is "p": write an absolute path': ['-pidfile', 'p'],
    '-timeout is "10"': ['-timeout', '10'],
    '-resendmax has no value': ['-resendmax'],
    '-broadcast is "maybe"': ['-broadcast=maybe'],
  }
  for (const [message, args] of Object.entries(table))
    assert.throws(() => parseDaemonFlags(args), {
      name: 'FlagError',
      message: new RegExp(message.replaceAll('"', '.')),
    })
})
