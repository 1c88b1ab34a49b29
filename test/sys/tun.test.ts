/** TUN devices of the real kernel, in a namespace of their own. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { nativeSys } from '#sys/addon.ts'
import { ERRNO } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { attachTun, createTun } from '#sys/tun.ts'
import { needsProgram, needsRoot, TestNetns } from '../namespace.ts'

const sys = nativeSys()

test(
  'a device stays without a program, and is opened by one at a time',
  { skip: needsRoot || needsProgram('ethtool', 'ethtool') },
  () => {
    using ns = new TestNetns('tun')
    inNetns(ns.path, () => {
      assert.throws(() => attachTun('tun7', true), { code: 'ENODEV' }, 'one that is not there is not made')
      createTun('tun7', () => undefined)
      const device = attachTun('tun7', true)
      assert.deepEqual([device.header, device.checksum, device.tcp], [12, true, true])
      assert.throws(() => attachTun('tun7', true), { code: 'EBUSY' })
      assert.equal(sys.read(device.fd, new Uint8Array(100)), -ERRNO.EAGAIN, 'it does not wait')
      sys.close(device.fd)
      // What the last program could do is not asked of one that cannot.
      const plain = attachTun('tun7', false)
      assert.deepEqual([plain.header, plain.checksum, plain.tcp, plain.udp], [0, false, false, false])
      sys.close(plain.fd)
    })
    assert.match(ns.run('ip', '-d', 'link', 'show', 'tun7'), /tun type tun pi off vnet_hdr off persist on/)
    assert.match(ns.run('ethtool', '-k', 'tun7'), /tx-tcp-segmentation: off/)
  },
)

test('what goes wrong in the middle leaves no device', { skip: needsRoot }, () => {
  using ns = new TestNetns('tun')
  assert.throws(
    () =>
      inNetns(ns.path, () =>
        createTun('tun8', () => {
          throw new Error('no')
        }),
      ),
    /no/,
  )
  assert.equal(ns.run('ip', '-br', 'link').includes('tun8'), false)
})
