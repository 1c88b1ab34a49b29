/** neutron-gc, whole: what dead nodes left in the fake cloud goes, after two looks; nothing else does. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { IpText } from '#ip/address.ts'
import { nodes } from '#kube/resources.ts'
import { markFields, markText, type MarkKind } from '#openstack/mark.ts'
import { createFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { Ports, type NewPort, type Port } from '#openstack/neutron/port.ts'
import { Compute } from '#openstack/nova/compute.ts'
import { pause, Rig, until } from './rig.ts'

const port = (rig: Rig, kind: MarkKind, node: string, more: Partial<NewPort> = {}, subject?: string): Promise<Port> => {
  const mark = { cluster: 'blue', kind, node, ...(subject === undefined ? {} : { subject }) }
  return new Ports(rig.cloud).create({ network_id: rig.network, ...markFields(mark), ...more })
}
const isThere = (rig: Rig, id: string): boolean => rig.fake.cloud.ports.has(id)

test('ports, cards, pairs and floating IPs of a node that is gone; nothing of those that live, or of others', async (t) => {
  const rig = await Rig.start(t)
  const live = await rig.node('a', '10.0.0.11')
  const dead = await rig.node('z', '10.0.0.19')
  await rig.kube.delete(nodes, { name: 'z' })
  const ports = new Ports(rig.cloud)
  const uid = (await rig.kube.get(nodes, { name: 'a' })).metadata.uid
  const gone = 'e6b7e0a4-0000-4000-8000-000000000001'
  const reserved = await port(rig, 'prefix', dead.id, { fixed_ips: [16, 17].map((n) => ({ ip_address: `10.0.128.${n}` as IpText })) }, dead.port.id)
  await ports.update(dead.port.id, { allowed_address_pairs: [{ ip_address: '10.0.128.16/31' as never }, { ip_address: '192.0.2.1' as IpText }] })
  const own = await port(rig, 'pod', gone, { fixed_ips: [{ ip_address: '10.0.128.5' as IpText }] })
  const card = await port(rig, 'nic', gone)
  await new Compute(rig.cloud).attach(dead.id, { port: card.id })
  const kept = [
    await port(rig, 'pod', uid),
    await port(rig, 'pod', live.id),
    await ports.create({ network_id: rig.network, name: 'vip', device_owner: '', device_id: '' }),
    await ports.create({ network_id: rig.network, name: markText({ cluster: 'green', kind: 'pod', node: gone }) }),
  ]
  // Of a Node that was deleted and registered anew: its server is a living node's.
  const again = await port(rig, 'nic', gone)
  await new Compute(rig.cloud).attach(live.id, { port: again.id })
  const led = await createFloatingIp(rig.cloud, { network: rig.external, target: { port: own.id, address: '10.0.128.5' as IpText } })
  const made = await createFloatingIp(rig.cloud, { network: rig.external, description: markText({ cluster: 'blue', kind: 'floating-ip', node: gone, subject: 'uid-x' }) })
  rig.run(t, { clusterName: 'blue' })
  await until('all leftovers are gone', () => [reserved, own, card].every(({ id }) => !isThere(rig, id)) && !rig.fake.cloud.floating.has(made.id))
  for (const { id, name } of [...kept, again, live.port, dead.port]) assert.ok(isThere(rig, id), name)
  assert.deepEqual(rig.fake.cloud.ports.get(dead.port.id)?.pairs.map(({ ip_address }) => ip_address), ['192.0.2.1'])
  assert.equal(rig.fake.cloud.floating.get(led.id)?.port, undefined)
  assert.ok(rig.fake.cloud.floating.has(led.id), 'a floating IP that somebody made stays his')
  // It was led nowhere before the address went.
  const log = rig.fake.requests.map(({ method, path }) => `${method} ${path}`)
  assert.ok(log.indexOf(`PUT /v2.0/floatingips/${led.id}`) < log.indexOf(`DELETE /v2.0/ports/${own.id}`))
}) // prettier-ignore

test('two looks; a dry run, a list without Nodes and a cluster without a name remove nothing; not more than the limit', async (t) => {
  const rig = await Rig.start(t)
  const gone = 'e6b7e0a4-0000-4000-8000-000000000001'
  const fixed = (n: number): Partial<NewPort> => ({ fixed_ips: [{ ip_address: `10.0.128.${n + 1}` as IpText }] })
  const left = await Promise.all([...Array(5).keys()].map((n) => port(rig, 'pod', gone, fixed(n))))
  const all = (): number => left.filter(({ id }) => isThere(rig, id)).length
  const rounds = (): number => rig.fake.requests.filter(({ method, path }) => method === 'GET' && path === '/v2.0/floatingips').length
  const turns = async (count: number): Promise<void> => {
    const until0 = rounds() + count
    await until(`${count} looks`, () => rounds() >= until0)
  }
  const none = rig.run(t, { clusterName: 'blue' })
  await turns(3)
  assert.equal(all(), 5, 'no Nodes')
  await none()
  await rig.node('a', '10.0.0.11')
  const dry = rig.run(t, { clusterName: 'blue', gcDryRun: true })
  await turns(3)
  assert.equal(all(), 5, 'dry run')
  await dry()
  // The first look of the next one only doubts; then two in each.
  const at = rounds()
  rig.run(t, { clusterName: 'blue', gcLimit: '2' })
  await until('all are gone', () => all() === 0)
  assert.ok(rounds() - at >= 4, `${rounds() - at} looks`)
}) // prettier-ignore

test('one that cannot be removed holds up no other, and goes in the end', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  const gone = 'e6b7e0a4-0000-4000-8000-000000000001'
  const at = (ip: string): Partial<NewPort> => ({ fixed_ips: [{ ip_address: ip as IpText }] })
  const [hard, easy] = [await port(rig, 'pod', gone, at('10.0.128.1')), await port(rig, 'pod', gone, at('10.0.128.2'))]
  const free = rig.fake.faults.inject({
    action: { kind: 'status', status: 409, body: { NeutronError: { type: 'InUse', message: 'in use', detail: '' } } },
    match: ({ method, path }) => method === 'DELETE' && path.endsWith(hard.id),
  })
  rig.run(t, { clusterName: 'blue' })
  await until('the other is gone', () => !isThere(rig, easy.id))
  await pause(200)
  assert.ok(isThere(rig, hard.id))
  free()
  await until('both are gone', () => !isThere(rig, hard.id))
})
