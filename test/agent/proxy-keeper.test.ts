/** The agent's part in neutron-veth: a card that forgets is told again, and what no pod has goes. */

import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { judge } from '#agent/leaks/judge.ts'
import { observeLeaks } from '#agent/leaks/observe.ts'
import { removeLeftover } from '#agent/leaks/remove.ts'
import { agentMetrics } from '#agent/agent-metrics.ts'
import { keepProxies } from '#agent/proxy-keeper.ts'
import { silentLog, type Log } from '#agent/log.ts'
import type { JsonObject } from '#cni/json.ts'
import { neutronVeth } from '#plugins/neutron-veth/plugin.ts'
import { registry } from '#plugins/registry.ts'
import { needsRoot } from '../namespace.ts'
import { inputOf } from '../plugins/input.ts'
import { lanIpam, LanHost } from '../plugins/pod-link-suite.ts'
import { slowness } from '../slow.ts'

const conf: JsonObject = { name: 'neutron', type: 'neutron-veth', master: 'up0', ipam: lanIpam }
const options = { skip: needsRoot, timeout: 60_000 * slowness }

const proxies = (made: LanHost): string => made.exec('ip', 'neigh', 'show', 'proxy').trim()

async function until(isSo: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 15_000 * slowness; !isSo(); await sleep(25))
    assert.ok(Date.now() < deadline, `not within ${15 * slowness} s: ${what}`)
}

test('proxy neighbours that the kernel dropped come back, are logged and counted', options, async () => {
  using made = new LanHost()
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  const lines: string[] = []
  const warn = (fields: unknown): void => void lines.push(JSON.stringify(fields))
  const log: Log = { ...silentLog, warn }
  const metrics = agentMetrics({ version: 'test', node: process.version })
  await using _keeper = keepProxies({
    host: made.host,
    metrics,
    log,
    interval: 50,
  })
  await neutronVeth.add(inputOf(conf, { containerId: 'a', netns: made.pod() }), made.host)
  for (const times of [1, 2]) {
    made.exec('ip', 'link', 'set', 'up0', 'down')
    made.exec('ip', 'link', 'set', 'up0', 'up')
    await until(() => /10\.88\.0\.10/.test(proxies(made)), 'the card answers again')
    await until(() => metrics.registry.text('prometheus').includes(`{table="proxy neighbours"} ${times}`), 'counted')
  }
  assert.match(lines.join('\n'), /10\.88\.0\.10/)
  await neutronVeth.del(inputOf(conf, { containerId: 'a' }), made.host)
  await sleep(200)
  assert.equal(proxies(made), '', 'what a DEL removed stays away')
})

test('the leak finder: a proxy neighbour without a record, and nobody else’s', options, async () => {
  using made = new LanHost()
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  const records = `${made.root}/run/heddle/attachments`
  mkdirSync(records, { recursive: true })
  const host = { ...made.host, records }
  made.exec('ip', 'neigh', 'add', 'proxy', '192.0.2.7', 'dev', 'up0')
  await neutronVeth.add(inputOf(conf, { containerId: 'a', netns: made.pod() }), made.host)
  await neutronVeth.add(inputOf(conf, { containerId: 'b', netns: made.pod() }), made.host)
  const look = async () => judge(await observeLeaks({ host })).leftovers.filter(({ kind }) => kind === 'proxy')
  assert.deepEqual(await look(), [])
  // Whatever was remembered is lost; then one of them attaches anew.
  rmSync(`${made.root}/run/heddle/links`, { recursive: true })
  const found = (await look()).toSorted((a, b) => (a.object < b.object ? -1 : 1))
  assert.deepEqual(
    found.map(({ object }) => object),
    ['10.88.0.10', '10.88.0.11'],
  )
  await neutronVeth.del(inputOf(conf, { containerId: 'b' }), made.host)
  const same = { ...conf, ipam: { type: 'static', addresses: [{ address: '10.88.0.11/32' }] } }
  await neutronVeth.add(inputOf(same, { containerId: 'c', netns: made.pod() }), made.host)
  const alone = async <T>(_: unknown, job: () => Promise<T>): Promise<T> => job()
  const removed = await Promise.all(found.map((one) => removeLeftover(one, { host, registry, alone })))
  assert.deepEqual(removed, [true, false])
  assert.deepEqual(
    proxies(made)
      .split('\n')
      .map((line) => line.trim())
      .toSorted(),
    ['10.88.0.11 dev up0 proxy proto 200', '192.0.2.7 dev up0 proxy'],
  )
})
