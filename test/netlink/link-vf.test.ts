import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMac } from '#ip/mac.ts'
import { getLink } from '#netlink/link.ts'
import { listVfs, setVfMessage, VLAN_PROTOCOL, type VfSettings } from '#netlink/link-vf.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { needsRoot, TestNetns } from '../namespace.ts'

test(
  'the kernel understands every setting: a card without virtual functions refuses it, and nothing is malformed',
  { skip: needsRoot },
  () => {
    using netns = new TestNetns('link-vf')
    netns.run('ip', 'link', 'add', 'name', 'x0', 'type', 'veth', 'peer', 'name', 'x1')
    using netlink = NetlinkSocket.open({ netns: netns.path })
    const { index } = getLink(netlink, 'x0')
    assert.deepEqual(listVfs(netlink, index), new Map())
    const each: VfSettings[] = [
      { mac: parseMac('02:00:00:00:00:01') },
      { vlan: { id: 5, qos: 1, protocol: VLAN_PROTOCOL['802.1q'] } },
      { spoofCheck: true },
      { trust: true },
      { linkState: 'enable' },
      { rate: { min: 0, max: 100 } },
    ]
    for (const settings of each)
      assert.throws(
        () => netlink.request(setVfMessage(index, 0, settings)),
        { code: 'EOPNOTSUPP' },
        JSON.stringify(settings),
      )
  },
)
