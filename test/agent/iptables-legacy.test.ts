/** flannel's rules and those of attachments in the old kind of iptables, which tells nobody of changes, on a node whose kubelet uses it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { agentMetrics } from '#agent/agent-metrics.ts'
import { ChainsKeeper } from '#agent/chains-keeper.ts'
import { silentLog } from '#agent/log.ts'
import { parseConfList } from '#cni/runtime/conflist.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { TestCluster, until } from './cluster.ts'
import { TestNode } from './node.ts'

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

test(
  'what attachments have there is found missing at the next look',
  { skip: needsKernel('iptables-legacy') },
  async () => {
    using node = new TestNode()
    const ipam = { type: 'host-local', subnet: '10.77.0.0/24' }
    const plugins = [
      { type: 'bridge', bridge: 'br0', isGateway: true, ipMasq: true, ipMasqBackend: 'iptables', ipam },
      { type: 'portmap', backend: 'iptables', capabilities: { portMappings: true } },
    ]
    const list = parseConfList(JSON.stringify({ cniVersion: '1.1.0', name: 'net1', plugins }), 'test')
    node.made.exec('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
    await node.add(list, node.pod('a'), 8000)
    const rules = (): string =>
      ['raw', 'nat']
        .map((table) => node.made.exec('iptables-legacy', '-t', table, '-S'))
        .join('')
        .split('\n')
        .toSorted()
        .join('\n')
    const before = rules()
    assert.match(before, /CNI-DN-/)
    await using _keeper = new ChainsKeeper({
      host: node.base,
      metrics: agentMetrics({ version: '0', node: '0' }),
      log: silentLog,
    })
    for (const table of ['raw', 'nat']) node.made.exec('iptables-legacy', '-t', table, '-F')
    await until('all is back', () => rules() === before || rules(), 20_000)
  },
)
