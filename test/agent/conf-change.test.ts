/** A network configuration that changes while agents run: followed without a restart where pods can stay, else said and left. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'

import { slowness } from '../slow.ts'
import { needsRoot, TestCluster, until, type TestNode } from './cluster.ts'

/** Pings every 20 ms until it is asked, then says how many were sent and how many came back. */
function watchPings(ns: string, to: string): () => Promise<{ sent: number; lost: number }> {
  const ping = spawn('nsenter', [`--net=/run/netns/${ns}`, 'ping', '-q', '-i', '0.02', '-W', '1', '-w', '120', to], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  ping.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  return async () => {
    const closed = once(ping, 'close')
    ping.kill('SIGINT')
    await closed
    const [, sent = '0', back = '0'] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? []
    return { sent: Number(sent), lost: Number(sent) - Number(back) }
  }
}

const condition = async (cluster: TestCluster, node: TestNode): Promise<string | undefined> =>
  (await cluster.getNode(node.name)).status?.conditions?.find(({ type }) => type === 'NetworkConfigurationRefused')
    ?.status

test('followed: an option, then another backend and back; what cannot be is said', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2 })
  cluster.startAll()
  await cluster.ready()
  const [a, b] = [cluster.node(0), cluster.node(1)]
  const pids = [a.agent?.pid, b.agent?.pid]
  const from = cluster.pod(a)
  cluster.pod(b)
  const mtuIs = (mtu: number): Promise<number> =>
    until(
      `the MTU is ${mtu}`,
      () => [a, b].every((n) => n.run('cat', n.subnetFile).includes(`FLANNEL_MTU=${mtu}`)),
      30_000,
    )
  const configure = (backend: object): void => {
    for (const node of [a, b]) cluster.configure(node, { backend })
  }

  // Only the device changes: no packet is lost.
  const quiet = watchPings(from, '10.244.1.2')
  configure({ Type: 'vxlan', MTU: 1400 })
  await mtuIs(1350)
  await cluster.ready()
  const first = await quiet()
  assert.ok(first.sent > 20, `${first.sent} pings`)
  assert.equal(first.lost, 0)
  assert.match(a.run('ip', 'link', 'show', 'flannel.1'), /mtu 1350 /)

  // Nodes read their files some seconds apart, and of two with different backends neither believes the other.
  const changing = watchPings(from, '10.244.1.2')
  configure({ Type: 'host-gw' })
  await mtuIs(1500)
  await cluster.ready()
  for (const node of [a, b])
    await until('the tunnel is gone', () => !node.run('ip', 'link').includes('flannel.1'), 20_000)
  assert.match(a.run('ip', 'route'), /10\.244\.1\.0\/24 via 192\.0\.2\.2 dev eth0/)
  const second = await changing()
  assert.ok(second.lost * 20 < 15_000 * slowness, `${second.lost} of ${second.sent} pings are lost`)
  assert.equal((await cluster.annotations('node-0'))['backend-type'], 'host-gw')

  // What cannot be used, or would take addresses from pods, changes nothing.
  const through = watchPings(from, '10.244.1.2')
  for (const [conf, word] of [
    [{ Network: '10.99.0.0/16' }, /is not inside the pod network 10\.99\.0\.0\/16.*the former configuration stays/],
    [{ Network: 'nonsense' }, /nonsense/],
    [{ EnableIPv6: true, IPv6Network: 'fd00:9::/48' }, /IPv6/],
  ] as const) {
    cluster.configure(a, { backend: { Type: 'host-gw' }, conf })
    await until(`${word.source} is said`, async () => word.test((await a.get('/readyz')).body), 20_000)
  }
  assert.equal((await a.get('/readyz')).status, 200, 'pods are served')
  assert.match((await a.get('/readyz')).body, /"degraded": true/)
  await until('the Node says it', async () => (await condition(cluster, a)) === 'True')
  assert.equal(await condition(cluster, b), undefined)
  configure({ Type: 'host-gw' })
  await until('all is well', async () => (await condition(cluster, a)) === 'False', 20_000)
  await cluster.ready()
  const third = await through()
  assert.ok(third.sent > 20)
  assert.equal(third.lost, 0)
  assert.match(a.run('cat', a.subnetFile), /FLANNEL_NETWORK=10\.244\.0\.0\/16\n/)
  assert.ok((await a.metric('heddle_configuration_changes_total{outcome="refused"}')) >= 3)
  assert.equal(await a.metric('heddle_configuration_changes_total{outcome="followed"}'), 2)
  assert.deepEqual([a.agent?.pid, b.agent?.pid], pids)
  assert.ok([a, b].every(({ agent }) => agent?.exitCode === null))
})
