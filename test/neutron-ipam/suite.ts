/** neutron-ipam against a cloud, the fake one or a real Neutron: the same cases. */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { readFacts } from '#ipam/neutron/facts.ts'
import type { Target } from '../openstack/target.ts'
import { ipsOf, TestNode, until } from './node.ts'

type Run = (target: Target) => Promise<void>

const cases: readonly (readonly [title: string, run: Run])[] = [
  [
    'a pod gets an address of the VM’s port, without a request; the address rests after it and serves again',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member })
      const [own] = await node.held()
      await node.start()
      await until('the pool is full', () => node.journal().addresses.size >= 4)
      const before = node.attempts.length
      const result = await node.add('a')
      const [ip] = ipsOf(result)
      assert.equal(node.attempts.length, before, 'no request in an ADD')
      assert.match(result.ips[0]?.address ?? '', /^10\.77\.0\.\d+\/24$/)
      assert.equal(result.ips[0]?.gateway, '10.77.0.1')
      assert.deepEqual(result.routes, [{ dst: '0.0.0.0/0', gw: '10.77.0.1' }])
      assert.notEqual(ip, own)
      assert.ok(ip !== undefined && (await node.held()).includes(ip))
      assert.deepEqual(ipsOf(await node.add('a')), [ip], 'asked twice')
      await node.check('a', result)
      assert.notEqual(await node.address('b'), ip)
      const facts = readFacts(node.conf.factsFile)
      assert.deepEqual(
        [facts.node.port, facts.node.address, facts.subnets[0]?.mtu, facts.validity],
        [node.port, own, 1400, 'fixed_ips'],
      )
      await node.status()
      await node.del('a')
      await node.del('a')
      await assert.rejects(node.check('a', result), { code: 100 })
      const rests = node.service.engine.view().families.get(4)
      assert.equal(rests?.assigned, 1)
      await until(
        'it serves again',
        async () => (await node.address(`c${node.attempts.length}${Math.random()}`)) === ip,
      )
      assert.ok((await node.held()).includes(own ?? ip))
    },
  ],
  [
    'GC frees what no valid attachment holds; a daemon that comes back knows the others',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member })
      await node.start()
      const [a, b, c] = [await node.address('a'), await node.address('b'), await node.address('c')]
      assert.equal(new Set([a, b, c]).size, 3)
      await node.stop()
      await node.del('a')
      await node.start()
      await node.gc('b')
      assert.deepEqual(
        [...node.journal().addresses.values()].filter(({ owner }) => owner !== undefined).map(({ ip }) => ip),
        [b],
      )
      assert.equal(await node.address('b'), b)
    },
  ],
]

export function neutronSuite(name: string, start: () => Promise<Target>, skip: string | false = false): void {
  describe(`neutron-ipam: ${name}`, { skip }, () => {
    let target: Target | undefined
    before(async () => {
      target = await start()
    })
    after(async () => {
      await target?.[Symbol.asyncDispose]()
    })
    for (const [title, run] of cases)
      it(title, async () => {
        assert.ok(target !== undefined)
        await run(target)
      })
  })
}
