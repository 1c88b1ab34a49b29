/** Floating IPs of pods, whole: by annotation, as long as the pod lives, and never on another's address. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { IpText } from '#ip/address.ts'
import { pods } from '#kube/resources.ts'
import { createFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { pause, Rig, until } from './rig.ts'

const WISH = 'heddle.io/floating-ip'
const STATUS = 'heddle.io/floating-ip-status'

/** Where the floating IPs of the cloud lead, by their address. */
const leads = (rig: Rig): Readonly<Record<string, IpText | undefined>> =>
  Object.fromEntries([...rig.fake.cloud.floating.values()].map((one) => [one.address, one.fixed]))

const targets = (rig: Rig): readonly string[] => Object.values(leads(rig)).map(String).toSorted()

async function statusOf(rig: Rig, name: string): Promise<unknown> {
  const { metadata } = await rig.kube.get(pods, { name, namespace: 'default' })
  const text = metadata.annotations?.[STATUS]
  return text === undefined ? undefined : (JSON.parse(text) as unknown)
}

test('by name: led to the pod once it is ready, told, freed with it, and the next pod at its address has none', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11', ['10.0.128.1', '10.0.128.2'])
  const { floating_ip_address: ip, id } = await createFloatingIp(rig.cloud, {
    network: rig.external,
    description: 'of the shop',
  })
  const other = await createFloatingIp(rig.cloud, { network: rig.external })
  rig.run(t, { clusterName: 'blue', floatingIps: true })
  const uid = await rig.pod('one', 'a', '10.0.128.1', { [WISH]: ip })
  await until('it leads to the pod', () => leads(rig)[ip] === '10.0.128.1')
  await until('the pod is told', async () => (await statusOf(rig, 'one')) !== undefined)
  assert.deepEqual(await statusOf(rig, 'one'), { state: 'associated', address: ip })
  await until('an event', async () => (await rig.reasons()).includes('FloatingIPAssociated'))
  assert.deepEqual(rig.fake.cloud.floating.get(id)?.tags, ['heddle-cluster=blue', `heddle-pod=${uid}`])
  const before = rig.fake.requests.filter(({ method }) => method !== 'GET').length
  await pause(2_200)
  assert.equal(rig.fake.requests.filter(({ method }) => method !== 'GET').length, before, 'at rest nothing is written')

  await rig.remove('one')
  await rig.pod('next', 'a', '10.0.128.1')
  await until('it leads nowhere', () => leads(rig)[ip] === undefined)
  await until('it is free', () => rig.fake.cloud.floating.get(id)?.tags.length === 0)
  assert.equal(rig.fake.cloud.floating.get(id)?.description, 'of the shop')
  assert.equal(leads(rig)[other.floating_ip_address], undefined)
})

test('auto: made for the pod in one request, deleted with it; a pod that ran to its end has none either', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11', ['10.0.128.1', '10.0.128.2'])
  rig.run(t, { clusterName: 'blue', floatingIps: true, floatingNetwork: rig.external })
  await rig.pod('one', 'a', '10.0.128.1', { [WISH]: 'auto' })
  await rig.pod('two', 'a', '10.0.128.2', { [WISH]: `auto:${rig.external}` })
  await until('both have one', () => targets(rig).join() === '10.0.128.1,10.0.128.2')
  await rig.kube.patch(pods, { name: 'one', namespace: 'default' }, { type: 'merge', body: { status: { phase: 'Succeeded' } } }, { subresource: 'status' })
  await until('that of one is deleted', () => Object.values(leads(rig)).join() === '10.0.128.2')
  await rig.remove('two')
  await until('all are deleted', () => rig.fake.cloud.floating.size === 0)
}) // prettier-ignore

test('why a pod has none is told, and nothing is taken from others', async (t) => {
  const rig = await Rig.start(t)
  const { port } = await rig.node('a', '10.0.0.11', ['10.0.128.1', '10.0.128.2'])
  const used = await createFloatingIp(rig.cloud, {
    network: rig.external,
    target: { port: port.id, address: '10.0.0.11' as IpText },
  })
  rig.run(t, { clusterName: 'blue', floatingIps: true })
  const expected = [
    ['used', used.floating_ip_address, 'used-by-others'],
    ['none', '203.0.113.250', 'no-such-address'],
    ['word', 'please', 'unreadable'],
    ['auto', 'auto', 'no-network'],
  ] as const
  for (const [name, wish] of expected) await rig.pod(name, 'a', '10.0.128.1', { [WISH]: wish })
  for (const [name, , reason] of expected) {
    await until(`${name} is told`, async () => (await statusOf(rig, name)) !== undefined)
    assert.deepEqual(await statusOf(rig, name), { state: 'missing', reason })
  }
  assert.ok((await rig.reasons()).every((reason) => reason === 'FloatingIPMissing'))
  assert.equal(leads(rig)[used.floating_ip_address], '10.0.0.11')
})

test('a controller that died in between: the next frees what pods held that are gone', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11', ['10.0.128.1', '10.0.128.2'])
  const { floating_ip_address: ip, id } = await createFloatingIp(rig.cloud, { network: rig.external })
  const end = rig.run(t, { clusterName: 'blue', floatingIps: true, floatingNetwork: rig.external })
  await rig.pod('one', 'a', '10.0.128.1', { [WISH]: ip })
  await rig.pod('two', 'a', '10.0.128.2', { [WISH]: 'auto' })
  await until('both have one', () => targets(rig).join() === '10.0.128.1,10.0.128.2')
  await end()
  assert.equal(leads(rig)[ip], '10.0.128.1', 'it outlives the controller')
  await rig.remove('one')
  await rig.remove('two')
  // Another pod has the address of one: that alone is reason enough, without waiting.
  await rig.pod('next', 'a', '10.0.128.1')
  rig.run(t, { clusterName: 'blue', floatingIps: true })
  await until(
    'nothing is left',
    () => rig.fake.cloud.floating.size === 1 && rig.fake.cloud.floating.get(id)?.tags.length === 0,
  )
  assert.equal(leads(rig)[ip], undefined)
})

test('the quota is full: told, tried in regular rounds only, and made when there is room', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11', ['10.0.128.1', '10.0.128.2'])
  rig.fake.cloud.quotas.set('floatingip', 0)
  rig.run(t, { clusterName: 'blue', floatingIps: true, floatingNetwork: rig.external })
  await rig.pod('one', 'a', '10.0.128.1', { [WISH]: 'auto' })
  await until('the pod is told', async () => (await statusOf(rig, 'one')) !== undefined)
  assert.deepEqual(await statusOf(rig, 'one'), { state: 'missing', reason: 'refused' })
  rig.fake.cloud.quotas.delete('floatingip')
  await until('it has one', () => Object.values(leads(rig)).join() === '10.0.128.1')
  await until('the pod is told again', async () => JSON.stringify(await statusOf(rig, 'one')).includes('associated'))
})
