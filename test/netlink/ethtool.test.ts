import assert from 'node:assert/strict'
import { test } from 'node:test'

import { activeFeatures } from '#netlink/ethtool.ts'
import { findFamily, openGenl } from '#netlink/genl.ts'
import { needsProgram, needsRoot, TestNetns } from '../namespace.ts'

function kernelSpeaks(): string | false {
  if (needsRoot !== false) return needsRoot
  using socket = openGenl()
  return findFamily(socket, 'ethtool') === undefined ? 'kernel lacks ethtool netlink (before 5.6)' : false
}

test(
  'features of a device, as ethtool shows them',
  { skip: kernelSpeaks() || needsProgram('ethtool', 'ethtool') },
  () => {
    using netns = new TestNetns('ethtool')
    netns.run('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb')
    netns.run('ethtool', '-K', 'va', 'tx-checksum-ip-generic', 'off')
    using socket = openGenl({ netns: netns.path })
    for (const dev of ['va', 'vb']) {
      const shown = netns
        .run('ethtool', '-k', dev)
        .split('\n')
        .flatMap((line) => /^\s*([\w-]+): on/.exec(line)?.[1] ?? [])
        // Sums of several features, under names of ethtool's own.
        .filter((name) => !/^(rx|tx)-checksumming$|^scatter-gather$|-offload$/.test(name))
      const found = activeFeatures(socket, dev)
      assert.ok(found !== undefined && found.has('tx-checksum-ip-generic') === (dev === 'vb'))
      for (const name of shown) assert.ok(found.has(name), `${dev}: ${name} is on`)
    }
    assert.equal(activeFeatures(socket, 'nothing'), undefined)
  },
)
