import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { getLocalnet, isForwarding, noLinkLocalMessage, setInetMessage } from '#netlink/inet-conf.ts'
import { createLink, getLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { createNetns, deleteNetns, inNetns } from '#sys/netns.ts'
import { readSysctl, writeSysctl } from '#sys/sysctl.ts'

const netns = `/run/netns/heddle-inet-conf-${process.pid}`
before(() => createNetns(netns))
after(() => deleteNetns(netns))

const read = (key: string): string => inNetns(netns, () => readSysctl(key))
const write = (key: string, value: string): void => inNetns(netns, () => writeSysctl(key, value))

test('settings of IP are set and read as /proc/sys has them', () => {
  using socket = NetlinkSocket.open({ netns })
  createLink(socket, { name: 'a.b', info: { kind: 'bridge', data: {} } })
  const { index } = getLink(socket, 'a.b')
  for (const ref of ['a.b', index]) {
    for (const [is, value] of [
      [true, '1'],
      [false, '0'],
    ] as const) {
      socket.request(setInetMessage(ref, { arpNotify: is, acceptRedirects: !is }))
      assert.equal(read('net/ipv4/conf/a.b/arp_notify'), value)
      assert.notEqual(read('net/ipv4/conf/a.b/accept_redirects'), value)
      write('net/ipv4/conf/a.b/route_localnet', value)
      assert.deepEqual(getLocalnet(socket, ref), { name: 'a.b', routeLocalnet: is })
    }
  }
  assert.throws(() => getLocalnet(socket, 'none'), { code: 'ENODEV' })
  assert.notEqual(read('net/ipv6/conf/a.b/addr_gen_mode'), '1')
  socket.request(noLinkLocalMessage('a.b'))
  assert.equal(read('net/ipv6/conf/a.b/addr_gen_mode'), '1')
})

test('whether a namespace forwards', () => {
  using socket = NetlinkSocket.open({ netns })
  for (const value of ['1', '0', '1']) {
    write('net/ipv4/ip_forward', value)
    assert.equal(isForwarding(socket, 4), value === '1')
    write('net/ipv6/conf/all/forwarding', value)
    assert.equal(isForwarding(socket, 6), value === '1')
  }
})
