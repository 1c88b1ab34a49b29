import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseResolvConf, readResolvConf } from './resolv-conf.ts'

test('resolv.conf becomes dns', () => {
  const text =
    '# c\n; c\nnameserver 10.0.0.10\n nameserver\tfd00::a \ndomain a.b\nsearch x.y  z\noptions ndots:5 edns0\noptions rotate\n'
  assert.deepEqual(parseResolvConf(text), {
    nameservers: ['10.0.0.10', 'fd00::a'],
    domain: 'a.b',
    search: ['x.y', 'z'],
    options: ['ndots:5', 'edns0', 'rotate'],
  })
  assert.deepEqual(parseResolvConf(''), {})
  assert.deepEqual(parseResolvConf('nameserver\nsearch\n\0\0'), {})
})

test('a file that cannot be read is an I/O failure that names it', () => {
  assert.throws(() => readResolvConf('/nonexistent/resolv.conf'), { code: 5, message: /nonexistent/ })
})
