/** What a node says that means harm, on any backend: nothing of it changes what others have, and all of it is refused, logged and counted. */

import assert from 'node:assert/strict'

import { nodes as nodeResource } from '#kube/resources.ts'
import { run, TestCluster, until } from './cluster.ts'

export interface HostileCase {
  readonly backend: { readonly Type: string }
  /** What an honest node writes as its backend-type. */
  readonly type: string
  /** Further words that this backend refuses, with the reason that is counted. */
  readonly more?: readonly (readonly [reason: string, publicIp: string])[]
}

const pings = (ns: string, to: string): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.05', '-W', '2', to), / 0% packet loss/, to)

/** Node 2 is the enemy; 0 and 1 are honest. */
export async function hostileNode({ backend, type, more = [] }: HostileCase): Promise<void> {
  await using cluster = await TestCluster.open({ nodes: 3, backend })
  const [a, b, evil] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  cluster.start(a)
  cluster.start(b)
  await cluster.ready(a, b)
  const from = cluster.pod(a)
  cluster.pod(b)
  await until('the pods reach each other', () => {
    pings(from, '10.244.1.2')
    return true
  })
  const state = (): string =>
    [
      a.run('ip', '-4', 'route', 'show', 'table', 'all'),
      a.run('ip', '-br', 'link'),
      a.run('ip', 'neigh', 'show', 'nud', 'permanent'),
      a.run('nft', 'list', 'ruleset'),
    ].join('\n')
  const before = state()
  const good = {
    'kube-subnet-manager': 'true',
    'backend-type': type,
    'backend-data': 'null',
    'public-ip': evil.address,
  }
  const refused = async (reason: string, annotations: Readonly<Record<string, string>>): Promise<void> => {
    const metric = `heddle_peer_refusals_total{reason="${reason}"}`
    const counted = await a.metric(metric)
    await cluster.annotate(evil.name, annotations)
    await until(`refused: ${reason}`, async () => (await a.metric(metric)) > counted, 10_000)
    assert.equal(state(), before, `${reason}: ${JSON.stringify(annotations).slice(0, 200)}`)
  }
  const attacks: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
    ['own-address', { ...good, 'public-ip': a.address }],
    ['address-in-pod-network', { ...good, 'public-ip': '10.244.1.2' }],
    ['unreadable', { ...good, 'public-ip': '$(touch /tmp/x)' }],
    ['unreadable', { ...good, 'public-ip': '0.0.0.0/0' }],
    ['unreadable', { ...good, 'public-ip': 'x'.repeat(200_000) }],
    ['other-backend', { ...good, 'backend-type': 'extension', 'backend-data': '"; reboot #"' }],
    ...more.map(([reason, ip]) => [reason, { ...good, 'public-ip': ip }] as const),
  ]
  for (const [reason, annotations] of attacks) await refused(reason, annotations)
  await assert.rejects(cluster.annotate(evil.name, { 'public-ip': 'x'.repeat(10_000_000) }), { status: 413 })

  // Another node's pods, all of them, the whole world, a half of the own node's, and what lies outside.
  for (const podCIDR of ['10.244.1.0/24', '10.244.0.0/16', '0.0.0.0/0', '10.244.0.128/25', '203.0.113.0/24']) {
    await cluster.client.delete(nodeResource, { name: evil.name })
    await cluster.client.create(nodeResource, { metadata: { name: evil.name }, spec: { podCIDR, podCIDRs: [podCIDR] } })
    const counted = a.log.split('lease refused').length
    await cluster.annotate(evil.name, good)
    await until(`refused: ${podCIDR}`, () => a.log.split('lease refused').length > counted, 10_000)
    assert.equal(state(), before, podCIDR)
  }
  pings(from, '10.244.1.2')

  // Once it is honest it is believed.
  await cluster.client.delete(nodeResource, { name: evil.name })
  await cluster.register(evil)
  await cluster.annotate(evil.name, good)
  await until('an honest node is a peer', async () => (await a.metric('heddle_peers')) === 2, 10_000)
  pings(from, '10.244.1.2')
}
