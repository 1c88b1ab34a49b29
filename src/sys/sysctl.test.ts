import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSysctl, sysctlKey } from './sysctl.ts'

test('both notations of a key, with dots in interface names', () => {
  const table: Record<string, string> = {
    'net.ipv4.ip_forward': 'net/ipv4/ip_forward',
    'net/ipv4/ip_forward': 'net/ipv4/ip_forward',
    'net/ipv4/conf/eth0.100/forwarding': 'net/ipv4/conf/eth0.100/forwarding',
    'net.ipv4.conf.eth0/100.forwarding': 'net/ipv4/conf/eth0.100/forwarding',
  }
  for (const [given, key] of Object.entries(table)) assert.equal(sysctlKey(given), key)
})

test('what leads elsewhere is refused', () => {
  for (const bad of ['', '/etc/passwd', 'net/../../etc', '..', 'net//ipv4', 'net/ipv4/', 'a\0b', 'net.//.x'])
    assert.throws(() => sysctlKey(bad), { code: 'bad-key' }, bad)
})

test('a missing setting says so', () => {
  assert.throws(() => readSysctl('net/ipv4/no_such_setting'), { code: 'missing', message: /no such setting/ })
  assert.match(readSysctl('kernel.ostype'), /^Linux$/)
})
