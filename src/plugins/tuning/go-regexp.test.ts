import assert from 'node:assert/strict'
import { test } from 'node:test'
import { goRegExp } from './go-regexp.ts'

test('matches anywhere, and what Go writes differently means the same', () => {
  const cases: [string, string, boolean][] = [
    ['somaxconn', 'net.core.somaxconn', true],
    ['^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$', 'net.ipv4.conf.IFNAME.arp_filter', true],
    ['^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$', 'net.ipv4.conf.IFNAME.arp_filter.x', false],
    ['^net\\.[[:alpha:]]+\\z', 'net.core', true],
    ['^net\\.[[:alpha:]]+\\z', 'net.9', false],
    ['^net\\.[[:alpha:][:digit:]_]+$', 'net.ipv4_', true],
    ['(?i)^NET\\.', 'net.core', true],
    ['\\Anet\\.', 'a.net.b', false],
    ['(?P<which>core|ipv4)', 'net.core', true],
    ['^net\\.ipv4\\.tcp\\_sack$', 'net.ipv4.tcp_sack', true],
    ['\\\\Q', '\\Q', true],
  ]
  for (const [expression, text, expected] of cases) assert.equal(goRegExp(expression).test(text), expected, expression)
})

test('what would mean something else is refused', () => {
  for (const bad of ['\\pL', '\\Qnet.core\\E', '(?U)a+', 'a(?i)b', '[[:^alpha:]]', '[[:what:]]', '(', '[a'])
    assert.throws(() => goRegExp(bad), SyntaxError, bad)
})
