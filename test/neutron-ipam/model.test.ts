/** Random pods, operators, failures and crashes against a model: which pod has which address. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { FakeCloud } from '#openstack/fake/server.ts'
import { userOf } from '../openstack/target.ts'
import { TestNode, until } from './node.ts'

const STEPS = ['intended', 'put', 'grown', 'had', 'assigned', 'freeing', 'freed', 'leaving', 'shrunk', 'left'] as const
const pod = fc.integer({ min: 0, max: 7 }).map((n) => `p${n}`)

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('add' as const), pod }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('del' as const), pod }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('gc' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash' as const), at: fc.constantFrom(...STEPS) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('operator' as const),
      n: fc.integer({ min: 0, max: 3 }),
      keeps: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('ill' as const), afterWork: fc.boolean() }) },
)

test('whatever happens, no address is two pods’, no pod’s address changes, and the port has them all in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25 }), async (steps) => {
      await using fake = await FakeCloud.start()
      fake.addUser('demo', 'dpass', 'demo')
      const cloud = userOf(fake.authUrl, 'demo', 'dpass', 'demo')
      const pool = { minimum: 0, warm: 1, batch: 2, cooldownSeconds: 0, settleSeconds: 0, idleReclaimSeconds: 0 }
      const api = { qps: 500, burst: 500, timeoutMs: 2_000, addDeadlineMs: 400 }
      await using node = await TestNode.make({ cloud, ipam: { pool, api } })
      const [subnet_id = ''] = node.subnets
      const own = await node.held()
      let crashAt = ''
      let crashed = Promise.resolve()
      const start = () =>
        node.start({
          failpoint: (name) => {
            if (name !== `neutron.${crashAt}`) return
            // From here on it does nothing more, as if it were dead.
            crashAt = ''
            crashed = node.stop()
            throw new Error('crash')
          },
        })
      await start()
      const pods = new Map<string, string>()
      for (const one of steps) {
        if (one.do === 'add') {
          const ip = await node.address(one.pod).catch(() => undefined)
          if (ip === undefined) continue
          const before = pods.get(one.pod)
          if (before !== undefined) assert.equal(ip, before, 'asked twice, told the same')
          for (const [other, theirs] of pods) if (other !== one.pod) assert.notEqual(ip, theirs, `${other} has it`)
          assert.ok(!own.includes(ip))
          pods.set(one.pod, ip)
        } else if (one.do === 'del') {
          // One that failed may have been done: its pod is gone either way.
          await node.del(one.pod).catch(() => undefined)
          if (!node.journal().heldBy({ network: 'pods', containerId: one.pod, ifname: 'eth0' }).length)
            pods.delete(one.pod)
        } else if (one.do === 'gc') await node.gc(...pods.keys()).catch(() => undefined)
        else if (one.do === 'crash') crashAt = one.at
        else if (one.do === 'restart') {
          crashAt = ''
          await crashed
          await node.stop()
          await start()
        } else if (one.do === 'ill') {
          const action = { kind: 'drop', afterWork: one.afterWork } as const
          fake.faults.inject({ action, times: 1, match: ({ method }) => method === 'PUT' })
        } else {
          const port = await node.ports.get(node.port)
          const kept = port.fixed_ips.filter(({ ip_address: ip }) => one.keeps || own.includes(ip))
          const list = kept.map((fixed) => ({ subnet_id: fixed.subnet_id, ip_address: fixed.ip_address }))
          const more = ipText(`10.77.0.${240 + one.n}`)
          const has = list.some(({ ip_address: ip }) => ip === more)
          await node.ports
            .update(node.port, { fixed_ips: has ? list : [...list, { subnet_id, ip_address: more }] })
            .catch(() => undefined)
        }
      }
      fake.faults.clear()
      crashAt = ''
      await crashed
      await node.stop()
      await start()
      await until('all pods’ addresses are on the port', async () => {
        const held = await node.held()
        return [...pods.values(), ...own].every((ip) => held.some((one) => one === ip))
      })
      for (const [name, ip] of pods) assert.equal(await node.address(name), ip)
    }),
    { numRuns: 12, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  )
})
