/** A cloud that is ill: pods are served from the pool, or told code 11; what it did without saying so is found; it gets well, and all goes on by itself. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { FaultAction } from '#openstack/fake/faults.ts'
import { FakeCloud } from '#openstack/fake/server.ts'
import { userOf } from '../openstack/target.ts'
import { TestNode, until } from './node.ts'

const API = { qps: 200, burst: 200, timeoutMs: 500, addDeadlineMs: 1_500 }

async function ill(run: (fake: FakeCloud, node: TestNode) => Promise<void>): Promise<void> {
  await using fake = await FakeCloud.start()
  fake.addUser('demo', 'dpass', 'demo')
  const cloud = userOf(fake.authUrl, 'demo', 'dpass', 'demo')
  const pool = { minimum: 0, warm: 2, batch: 2, cooldownSeconds: 0.1, settleSeconds: 0, idleReclaimSeconds: 3600 }
  await using node = await TestNode.make({ cloud, ipam: { api: API, pool } })
  await node.start()
  await until('the pool is full', () => node.journal().addresses.size >= 2)
  try {
    await run(fake, node)
  } finally {
    fake.faults.clear()
  }
}

const status = (code: number, more: object = {}): FaultAction => ({ kind: 'status', status: code, ...more })
const neutronError = (type: string): object => ({ NeutronError: { type, message: type, detail: '' } })

const faults: readonly (readonly [name: string, action: FaultAction])[] = [
  ['401', status(401, { body: { error: { title: 'Unauthorized', message: 'no' } } })],
  ['403', status(403, { body: neutronError('PolicyNotAuthorized') })],
  ['409', status(409, { body: neutronError('Conflict') })],
  ['409, a quota', status(409, { body: neutronError('OverQuota') })],
  ['412', status(412, { body: neutronError('RevisionNumberConstraintFailed') })],
  ['429 with Retry-After', status(429, { retryAfter: '1' })],
  ['500', status(500)],
  ['503 with Retry-After', status(503, { retryAfter: '1' })],
  ['500 after the work', status(500, { afterWork: true })],
  ['504 after the work', status(504, { afterWork: true })],
  ['a connection that breaks', { kind: 'drop' }],
  ['a connection that breaks after the work', { kind: 'drop', afterWork: true }],
  ['an answer that is none', { kind: 'garbage' }],
  ['slowness beyond all deadlines', { kind: 'slow', ms: 3_000 }],
]

for (const [name, action] of faults) {
  test(`${name}: pods live on the pool, then code 11; after it everything is as wanted`, async () => {
    await ill(async (fake, node) => {
      const own = (await node.ports.get(node.port)).fixed_ips.filter(({ ip_address: ip }) =>
        node.card.addresses.includes(ip),
      )
      fake.faults.inject({ action, match: ({ method, path }) => method === 'PUT' && /\/ports\/[^/]+$/.test(path) })
      const pods = new Map<string, string>()
      let refused = 0
      for (const pod of ['a', 'b', 'c', 'd', 'e', 'f']) {
        try {
          pods.set(pod, await node.address(pod))
        } catch (error) {
          assert.ok(error instanceof Error && 'code' in error && error.code === 11, String(error))
          refused += 1
          if (refused === 1) continue
          break
        }
      }
      assert.ok(pods.size >= 2, 'what was in the pool is given out')
      await node.del('a')
      pods.delete('a')
      fake.faults.clear()
      // A quota counts as full for minutes, a mistake of policy for half a minute: a new daemon asks at once.
      await node.stop()
      await node.start()
      for (const pod of ['g', 'h', 'i', 'j']) {
        await until(`${pod} has an address`, () =>
          node.address(pod).then(
            (ip) => (pods.set(pod, ip), true),
            () => false,
          ),
        )
      }
      assert.equal(new Set(pods.values()).size, pods.size, 'no address twice')
      const held = await node.held()
      for (const ip of [...pods.values(), ...own.map((one) => one.ip_address)])
        assert.ok(held.includes(ip as never), `${ip} is on the port`)
      const { addresses, foreign } = node.journal()
      assert.deepEqual(
        held.filter((ip) => !addresses.has(ip) && !foreign.has(ip)),
        own.map((one) => one.ip_address),
        'nothing on the port that nobody knows',
      )
      assert.equal(foreign.size, 0)
    })
  })
}

test('a cloud that is away: the pool serves without asking, a DEL needs nobody, the daemon starts without it and recovers by itself', async () => {
  await ill(async (fake, node) => {
    const back = fake.faults.inject({ action: { kind: 'drop' } })
    const a = await node.address('a')
    await node.address('b')
    await assert.rejects(node.add('c'), { code: 11 })
    await node.del('b')
    await node.stop()
    await node.start()
    assert.equal(await node.address('a'), a)
    await assert.rejects(node.add('more'), { code: 11 })
    assert.ok(node.service.engine.conditions().length > 0)
    await until('requests become fewer', () => node.service.engine.view().level < 2)
    back()
    await until(
      'it recovers',
      () =>
        node.address('c').then(
          () => true,
          () => false,
        ),
      60_000,
    )
    await until('nothing is wrong any more', () => node.service.engine.conditions().length === 0)
  })
})

test('a token that ends is replaced; a password that is refused is told', async () => {
  await using fake = await FakeCloud.start({ tokenMs: 1_500 })
  fake.addUser('demo', 'dpass', 'demo')
  const cloud = userOf(fake.authUrl, 'demo', 'dpass', 'demo')
  await using node = await TestNode.make({ cloud })
  await node.start()
  for (let n = 0; n < 8; n++) {
    await node.address(`p${n}`)
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  assert.ok(node.attempts.every(({ code }) => code === 'ok' || code === 'unauthorized'))
  await using other = await TestNode.beside(node)
  await other.start({ cloud: userOf(fake.authUrl, 'demo', 'wrong', 'demo') })
  await until('it says so', () => /401|password/.test(other.service.engine.conditions()[0]?.message ?? ''))
  assert.ok(!other.lines.some((line) => line.includes('wrong')), 'and not which')
})
