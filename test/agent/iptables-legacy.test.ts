/** flannel's rules in the old kind of iptables, which tells nobody of changes, on a node whose kubelet uses it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { TestCluster, until } from './cluster.ts'

test(
  'the old kind is used where kubelet uses it, mended at the next look, and left behind when the node changes',
  { skip: needsKernel('iptables-legacy'), timeout: 120_000 * slowness },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 1, conf: { EnableNFTables: false } })
    const a = cluster.node(0)
    const rules = (program: string): string =>
      ['nat', 'filter'].map((table) => a.run(program, '-t', table, '-S')).join('')
    a.run('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
    cluster.start(a, '--iptables-resync', '1')
    await cluster.ready()
    const isWhole = (program: string): boolean =>
      rules(program).match(/flanneld (masq|forward)/g)?.length === 10 && /-j FLANNEL-FWD/.test(rules(program))
    assert.ok(isWhole('iptables-legacy'), rules('iptables-legacy'))
    assert.doesNotMatch(rules('iptables-nft'), /FLANNEL/)
    a.run('iptables-legacy', '-t', 'nat', '-F')
    await until('the rules are back', () => isWhole('iptables-legacy'))
    a.run('iptables-legacy', '-t', 'mangle', '-X', 'KUBE-IPTABLES-HINT')
    a.run('iptables-nft', '-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY')
    await until('the rules are nf_tables’', () => isWhole('iptables-nft') && !/FLANNEL/.test(rules('iptables-legacy')))
  },
)
