/** The agent with flannel's rules in iptables: EnableNFTables is false in net-conf.json. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { agentMetrics } from '#agent/agent-metrics.ts'
import { FlannelRules } from '#agent/flannel-rules.ts'
import { silentLog } from '#agent/log.ts'
import { needsProgram, needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { run, TestCluster, until, type TestNode } from './cluster.ts'

const skip = needsProgram('iptables', 'iptables')
/** Within this an outsider's damage is mended. */
const PROMISE = 2_000 * slowness

/** Of each table, first what leads to the chain. */
const flannelIn = (node: TestNode, program = 'iptables'): string =>
  ['nat', 'filter']
    .flatMap((table) => node.run(program, '-t', table, '-S').split('\n'))
    .filter((line) => line.includes('flanneld'))
    .join('\n')

const RULES = `-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/24 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT`

async function repairs(node: TestNode): Promise<number> {
  const { body } = await node.get('/metrics')
  const line = body.split('\n').find((text) => text.startsWith('heddle_repairs_total{') && text.includes('iptables'))
  return Number(line?.split(' ').at(-1) ?? '0')
}

test(
  'the rules are flannel’s; pods talk through a FORWARD policy of DROP; damage is mended within 2 s',
  { skip, timeout: 180_000 * slowness },
  async (t) => {
    await using cluster = await TestCluster.open({ nodes: 2, ipv6: true, conf: { EnableNFTables: false } })
    const a = cluster.node(0)
    for (const node of cluster.nodes)
      for (const program of ['iptables', 'ip6tables']) node.run(program, '-P', 'FORWARD', 'DROP')
    cluster.startAll()
    await cluster.ready()
    assert.equal(flannelIn(a), RULES)
    assert.match(flannelIn(a, 'ip6tables'), /-A FLANNEL-POSTRTG -s fd00:244::\/\d+ ! -d ff00::\/8 .*--random-fully/)
    assert.doesNotMatch(a.run('nft', 'list', 'tables'), /heddle_flannel/)
    const from = cluster.pod(a)
    cluster.pod(cluster.node(1))
    const ping = (): string => run(from, 'ping', '-c', '3', '-i', '0.05', '-W', '2', '10.244.1.2')
    assert.match(ping(), / 0% packet loss/)

    const six = flannelIn(a, 'ip6tables')
    const whole = (): boolean => flannelIn(a) === RULES && flannelIn(a, 'ip6tables') === six
    const damage: readonly (readonly [string, string, readonly string[]])[] = [
      ['a rule', 'iptables', ['-t', 'nat', '-D', 'FLANNEL-POSTRTG', '1']],
      ['a foreign rule among ours', 'iptables', ['-t', 'nat', '-I', 'FLANNEL-POSTRTG', '-j', 'ACCEPT']],
      ['the jump', 'iptables', ['-D', 'FORWARD', '1']],
      ['a chain', 'ip6tables', ['-F', 'FLANNEL-FWD']],
      ['a table', 'iptables', ['-t', 'nat', '-F']],
      ['all tables', 'nft', ['flush', 'ruleset']],
    ]
    for (const [what, program, args] of damage) {
      await t.test(what, async () => {
        const before = await repairs(a)
        a.run(program, ...args)
        const took = await until(`${what} is mended`, whole, PROMISE + 1000)
        assert.ok(took <= PROMISE, `took ${Math.round(took)} ms`)
        await until('it is counted', async () => (await repairs(a)) > before)
      })
    }
    // Others' rules are theirs, and no reason to count a repair.
    const before = await repairs(a)
    a.run('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '192.0.2.77', '-j', 'ACCEPT')
    await new Promise((resolve) => setTimeout(resolve, 1000 * slowness))
    assert.match(a.run('iptables', '-t', 'nat', '-S', 'POSTROUTING'), /192\.0\.2\.77/)
    assert.equal(await repairs(a), before)
    assert.equal(flannelIn(a), RULES)
    assert.match(ping(), / 0% packet loss/)
  },
)

test(
  'from one kind to the other and back: the rules of the other kind go, what flannel left too, and nobody else’s',
  { skip, timeout: 180_000 * slowness },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 1, conf: { EnableNFTables: false } })
    const a = cluster.node(0)
    // What flanneld leaves on a node: of both kinds, of another podCIDR.
    a.run('nft', 'add', 'table', 'ip', 'flannel-ipv4')
    a.run('nft', 'add', 'table', 'ip6', 'flannel-ipv6')
    a.run('iptables', '-t', 'nat', '-N', 'FLANNEL-POSTRTG')
    a.run(
      'iptables',
      '-t',
      'nat',
      '-A',
      'POSTROUTING',
      '-m',
      'comment',
      '--comment',
      'flanneld masq',
      '-j',
      'FLANNEL-POSTRTG',
    )
    a.run('iptables', '-t', 'nat', '-A', 'FLANNEL-POSTRTG', '-s', '10.244.9.0/24', '-j', 'RETURN')
    a.run('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '192.0.2.77', '-j', 'ACCEPT')
    cluster.start(a)
    await cluster.ready()
    assert.equal(flannelIn(a), RULES)
    await until('flannel’s own tables are gone', () => !a.run('nft', 'list', 'tables').includes('flannel-ipv'))

    await cluster.stop(a)
    cluster.configure(a, { conf: { EnableNFTables: true } })
    cluster.start(a)
    await cluster.ready()
    await until('the chains are gone', () => !/FLANNEL/.test(a.run('iptables-save')))
    assert.match(a.run('nft', 'list', 'table', 'inet', 'heddle_flannel'), /masquerade fully-random/)

    await cluster.stop(a)
    cluster.configure(a, { conf: { EnableNFTables: false } })
    cluster.start(a, '--no-ip-masq', '--iptables-resync', '1')
    await cluster.ready()
    await until('the table is gone', () => !a.run('nft', 'list', 'tables').includes('heddle_flannel'))
    assert.equal(flannelIn(a), RULES.split('\n').slice(7).join('\n'), 'no masquerade any more')

    await cluster.stop(a)
    cluster.start(a, '--no-iptables-forward-rules')
    await cluster.ready()
    await until('only masquerade', () => flannelIn(a) === RULES.split('\n').slice(0, 7).join('\n'))
    assert.match(a.run('iptables', '-t', 'nat', '-S', 'POSTROUTING'), /192\.0\.2\.77/)
  },
)

test('where iptables is not installed nftables is used, and the log says what to do', { skip: needsRoot }, async () => {
  const warnings: string[] = []
  const log = { ...silentLog, warn: (...args: readonly unknown[]) => void warnings.push(args.join(' ')) }
  const path = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  try {
    const metrics = agentMetrics({ version: '', node: '' })
    await using rules = new FlannelRules({ mode: 'iptables', resyncMs: 0, metrics, log, onChange: () => undefined })
    assert.equal(rules.mode, 'nftables')
    assert.equal(rules.absent, undefined)
    assert.match(warnings.join('\n'), /iptables is not installed.*EnableNFTables/)
  } finally {
    process.env['PATH'] = path
  }
})
