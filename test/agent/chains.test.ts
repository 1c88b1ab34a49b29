/** What attachments have in iptables comes back after a flush, as it was, and what has left does not. */

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'

import { agentMetrics, type AgentMetrics } from '#agent/agent-metrics.ts'
import { ChainsKeeper } from '#agent/chains-keeper.ts'
import { silentLog } from '#agent/log.ts'
import { recordFolder } from '#cni/attachment/record.ts'
import { parseConfList } from '#cni/runtime/conflist.ts'
import { restoreChains } from '#plugins/iptables/restore.ts'
import { needsProgram, needsRoot } from '../namespace.ts'
import { connects, serve } from '../plugins/network-host.ts'
import { until } from './cluster.ts'
import { TestNode } from './node.ts'

const skip = needsRoot || needsProgram('iptables', 'iptables')
const metrics = (): AgentMetrics => agentMetrics({ version: '0', node: '0' })
const PATIENCE = 20_000

const list = (portmap: object = {}) =>
  parseConfList(
    JSON.stringify({
      cniVersion: '1.1.0',
      name: 'net1',
      plugins: [
        {
          type: 'bridge',
          bridge: 'br0',
          isDefaultGateway: true,
          hairpinMode: true,
          ipMasq: true,
          ipMasqBackend: 'iptables',
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
        },
        { type: 'portmap', backend: 'iptables', capabilities: { portMappings: true }, ...portmap },
        { type: 'firewall', backend: 'iptables', ingressPolicy: 'same-bridge' },
      ],
    }),
    'test',
  )

const TABLES = ['raw', 'nat', 'filter'] as const
const saved = (node: TestNode): string =>
  ['iptables', 'ip6tables']
    .flatMap((program) =>
      TABLES.map((table) => node.made.exec(`${program}-save`, '-t', table).replaceAll(/^#.*\n|\[\d+:\d+\]/gm, '')),
    )
    .join('\n')
/** In an order that does not tell which chain was made first. */
const rules = (node: TestNode): string =>
  saved(node)
    .split(/\n(?=[*])/)
    .map(sortChains)
    .join('\n')
const sortChains = (text: string): string => {
  const lines = text.split('\n')
  const chainOf = (line: string): string => /^-A (\S+)/.exec(line)?.[1] ?? ''
  return lines
    .map(
      (line, i) =>
        [line.startsWith('-A') ? `2 ${chainOf(line)} ${String(i).padStart(6, '0')}` : `1 ${line}`, line] as const,
    )
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, line]) => line)
    .join('\n')
}

test('host ports, masquerade and firewall of iptables are back after a flush, and counted', { skip }, async (t) => {
  using node = new TestNode()
  const [a, b] = [node.pod('a'), node.pod('b')]
  await node.add(list(), a, 8000)
  await node.add(list(), b, 8000)
  const servers = [await serve(a.netns, 8080, 'a'), await serve(b.netns, 8080, 'b')]
  node.made.exec('iptables', '-A', 'FORWARD', '-s', '192.0.2.1', '-j', 'ACCEPT')
  const before = rules(node)
  const counted = metrics()
  const value = (table: string): number => counted.rulesRestored.value({ table })
  await using _keeper = new ChainsKeeper({ host: node.base, metrics: counted, log: silentLog })
  await sleep(500)
  assert.equal(rules(node), before)
  assert.deepEqual(['ip nat', 'ip6 nat', 'ip filter', 'ip raw'].map(value), [0, 0, 0, 0], 'nothing was missing')

  const chain = /^-A (CNI-DN-\w+) /m.exec(before)?.[1] ?? ''
  const harms: readonly (readonly [what: string, table: string, ...command: string[]])[] = [
    ['a chain', 'ip nat', 'iptables', '-t', 'nat', '-F', chain],
    ['a rule of a chain', 'ip nat', 'iptables', '-t', 'nat', '-D', chain, '1'],
    ['the guard', 'ip raw', 'iptables', '-t', 'raw', '-F'],
    ['the older one’s entry', 'ip nat', 'iptables', '-t', 'nat', '-D', 'CNI-HOSTPORT-DNAT', '2'],
    ['what is let through', 'ip6 filter', 'ip6tables', '-F', 'CNI-FORWARD'],
    ['isolation', 'ip filter', 'iptables', '-D', 'FORWARD', '1'],
    ['a whole table', 'ip nat', 'nft', 'delete', 'table', 'ip', 'nat'],
  ]
  for (const [what, table, program, ...args] of harms) {
    await t.test(what, async () => {
      const already = value(table)
      node.made.exec(program ?? '', ...args)
      await until(`${what} is back`, () => rules(node) === before || rules(node), PATIENCE)
      await until('it is counted', () => value(table) > already)
    })
  }
  assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'b', 'the newer, with real packets')

  const foreign = /^-A FORWARD -s 192\.0\.2\.1.*\n/m
  node.made.exec('nft', 'flush', 'ruleset')
  await until('all of ours is back', () => rules(node) === before.replace(foreign, '') || rules(node), PATIENCE)
  await node.runtime.del(list(), b)
  assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'a', 'the older has its port again')
  for (const server of servers) server.kill()
})

test('what has left does not come back, also when it leaves meanwhile', { skip }, async () => {
  using node = new TestNode()
  const pods = Array.from({ length: 6 }, (_, i) => node.pod(`p${i}`))
  for (const [i, pod] of pods.entries()) await node.add(list(), pod, 8000 + i)
  const other = node.runtimeOf(node.another())
  {
    await using _keeper = new ChainsKeeper({ host: node.base, metrics: metrics(), log: silentLog })
    const flushing = (async () => {
      for (let i = 0; i < 3; i++) {
        node.made.exec('nft', 'flush', 'ruleset')
        await sleep(150)
      }
    })()
    for (const pod of pods.slice(1)) await other.del(list(), pod)
    await flushing
    await until('the one that stays is back', () => rules(node).includes('id: \\"p0\\"'), PATIENCE)
    await sleep(1_500)
  }
  const left = rules(node)
  for (const { containerId } of pods.slice(1))
    assert.ok(!left.includes(`\\"${containerId}\\"`), `${containerId}:\n${left}`)
  assert.equal(left.match(/^-A CNI-FORWARD -s 10\.77\./gm)?.length, 1, left)
  await node.runtime.del(list(), pods[0] ?? node.pod('none'))
  assert.doesNotMatch(rules(node), /CNI-DN-|10\.77\./)
})

test('rules that iptables refuses keep nobody else’s from coming back', { skip }, async () => {
  using node = new TestNode()
  node.made.exec('iptables', '-t', 'nat', '-N', 'THEIRS')
  node.made.exec('ip6tables', '-t', 'nat', '-N', 'THEIRS')
  await node.add(list(), node.pod('a'), 8000)
  await node.add(list({ externalSetMarkChain: 'THEIRS' }), node.pod('b'), 8001)
  await node.add(list(), node.pod('c'), 8002)
  node.made.exec('nft', 'flush', 'ruleset')
  const folder = recordFolder(node.root)
  await assert.rejects(restoreChains(node.base, folder), /THEIRS/)
  const ports = (): readonly string[] =>
    [...rules(node).matchAll(/DNAT --to-destination 10\.77\S+/g)].map(([text]) => text)
  assert.equal(ports().length, 2)
  node.made.exec('iptables', '-t', 'nat', '-N', 'THEIRS')
  node.made.exec('ip6tables', '-t', 'nat', '-N', 'THEIRS')
  assert.deepEqual((await restoreChains(node.base, folder)).map(({ table }) => table).toSorted(), ['ip nat', 'ip6 nat'])
  assert.equal(ports().length, 3)
  assert.deepEqual(await restoreChains(node.base, folder), [])
})
