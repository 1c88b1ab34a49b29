import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { IptablesError } from '#iptables/error.ts'
import { NetlinkError } from '#netlink/error.ts'
import { NftError } from '#nft/error.ts'
import { ERRNO, SysError } from '#sys/errno.ts'
import { LockError } from '#sys/flock.ts'
import { JournalError } from '#sys/journal.ts'
import { NetnsError } from '#sys/netns.ts'
import { SysctlError } from '#sys/sysctl.ts'
import { joinErrors, toCniError } from './errors.ts'

function thrownBy(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return assert.fail('nothing was thrown')
}

const table: readonly (readonly [what: string, error: unknown, code: number, details?: RegExp])[] = [
  ['a netlink request that is not allowed', new NetlinkError('link add', ERRNO.EPERM), 5, /CAP_NET_ADMIN/],
  ['a device in use', new NetlinkError('link add x0', ERRNO.EBUSY, 'Device is already in use'), 5, /somebody else/],
  ['a device that is gone', new NetlinkError('link set', ERRNO.ENODEV), 5, /no such device/],
  ['a kind that the kernel lacks', new NetlinkError('link add', ERRNO.EOPNOTSUPP), 5, /cannot do that/],
  ['an errno without a remedy', new NetlinkError('route add', ERRNO.EINVAL), 5],
  ['an errno without a name', new SysError(4095, 'ioctl'), 5],
  ['a kernel that is busy', new NetlinkError('link add', ERRNO.EAGAIN), 11, /busy/],
  ['full buffers', new SysError(ERRNO.ENOBUFS, 'send'), 11],
  ['a full disk', new SysError(ERRNO.ENOSPC, 'write', '/x'), 5, /full/],
  ['a file that Node cannot read', thrownBy(() => readFileSync('/nonexistent/file')), 5],
  ['an element that the kernel refuses', new NftError('kernel', 'x', { errno: 16, errnoName: 'EBUSY' }), 5, /else/],
  ['a ruleset that others keep changing', new NftError('contended', 'x'), 11],
  ['a text that nft refuses', new NftError('refused', 'x'), 5],
  ['a text that Heddle got wrong', new NftError('bad-rule', 'x'), 999],
  ['iptables without its program', new IptablesError('no-program', 'x'), 5],
  ['the lock of iptables', new IptablesError('timeout', 'x'), 11],
  ['a lock that others hold', new LockError('/x', 1), 11],
  ['a namespace that is none', new NetnsError('not-a-netns', 'x'), 8],
  ['an excursion that waits', new NetnsError('async-excursion', 'x'), 999],
  ['a sysctl that is none', new SysctlError('bad-key', 'x', 'x'), 7],
  ['a sysctl that the kernel refuses', new SysctlError('refused', 'x', 'x'), 5],
  ['a damaged journal', new JournalError('corrupt', '/x', 'x'), 5],
  ["a mistake in Node's terms", thrownBy(() => Buffer.alloc(-1)), 999],
  ['a mistake', new TypeError('x is not a function'), 999],
  ['an object of the same look', { code: 'EPERM', errno: 1 }, 999],
  ['a code alone', Object.assign(new Error('x'), { code: 'EPERM' }), 999],
  ['a code of no table', Object.assign(new Error('x'), { name: '__proto__', code: '' }), 999],
]

for (const [what, error, code, details] of table) {
  test(`${what} is answered with code ${code}`, () => {
    const answer = toCniError(error)
    assert.equal(answer.code, code)
    assert.equal(answer.cause, error)
    if (details !== undefined) assert.match(answer.details ?? '', details)
  })
}

test('who gives a code is believed, and of several failures the first one counts', () => {
  const refused = new NetlinkError('link add', ERRNO.EPERM)
  assert.equal(toCniError(refused, 'internal').code, 999)
  assert.equal(joinErrors([refused, new Error('later')])?.code, 5)
})
