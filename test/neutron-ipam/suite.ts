/** neutron-ipam against a cloud, the fake one or a real Neutron: the same cases. */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { readFacts } from '#ipam/neutron/facts.ts'
import { openIpamService } from '#ipam/neutron/service.ts'
import { markOf } from '#openstack/mark.ts'
import { createFloatingIp, getFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { Site } from '../openstack/site.ts'
import { clientOf, type Target } from '../openstack/target.ts'
import { bePatient, cardOf, ipsOf, TestNode, until } from './node.ts'

type Run = (target: Target) => Promise<void>

/** Addresses that are given back as soon as nobody needs them, by a daemon that looks often. */
const EAGER = { minimum: 0, warm: 0, batch: 1, cooldownSeconds: 0, settleSeconds: 0, idleReclaimSeconds: 0 } as const

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
  [
    'what nobody needs goes back to Neutron, a floating IP is taken away before; the node’s own addresses stay',
    async ({ member, admin }) => {
      await using node = await TestNode.make({ cloud: member, ipam: { pool: EAGER } })
      const own = await node.held()
      await using outside = new Site(clientOf(admin, { timeoutMs: 120_000, attemptMs: 60_000 }))
      const external = await outside.network({ 'router:external': true })
      await outside.subnet(external, '192.0.2.0/28')
      await using inside = new Site(node.site.client)
      await inside.router(node.subnets[0] ?? '', { external_gateway_info: { network_id: external } })
      await node.start()
      const [a, b] = [await node.address('a'), await node.address('b')]
      const floating = await createFloatingIp(inside.client, {
        network: external,
        target: { port: node.port, address: a },
      })
      await node.del('a')
      await until('it is gone from the port', async () => !(await node.held()).includes(a), 60_000)
      const after = await getFloatingIp(inside.client, floating.id)
      assert.deepEqual([after.port_id, after.fixed_ip_address], [undefined, undefined])
      assert.equal(node.count('floating-ip-removed'), 1)
      assert.ok((await node.held()).includes(b))
      for (const ip of own) assert.ok((await node.held()).includes(ip))
      assert.equal(await node.address('b'), b)
      outside.client[Symbol.dispose]()
    },
  ],
  [
    'an operator takes addresses away and adds some; twelve write at once: pods keep theirs, nobody has another’s',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member, subnet: '10.77.0.0/24' })
      const own = await node.held()
      await node.start()
      const mine = [await node.address('a'), await node.address('b')]
      // A list from before the pods, with an address of the operator's.
      const [subnet_id = ''] = node.subnets
      const foreign = ipText('10.77.0.250')
      await node.ports.update(node.port, {
        fixed_ips: [...own.map((ip) => ({ subnet_id, ip_address: ip })), { subnet_id, ip_address: foreign }],
      })
      await node.stop()
      await node.start()
      await until(
        'pods have their addresses again',
        async () =>
          mine.every((ip) => node.journal().addresses.has(ip)) && (await node.held()).includes(mine[0] ?? foreign),
      )
      await until('the operator’s address is known as such', () => node.journal().foreign.has(foreign))
      const writers = Array.from({ length: 12 }, async (_, n) => {
        const port = await node.ports.get(node.port)
        const list = port.fixed_ips.map(({ subnet_id: id, ip_address }) => ({ subnet_id: id, ip_address }))
        const more = { subnet_id, ip_address: ipText(`10.77.0.${200 + n}`) }
        await node.ports
          .update(node.port, { fixed_ips: [...list, more] }, { revision: port.revision_number })
          .catch(() => undefined)
      })
      const pods = Array.from({ length: 6 }, (_, n) => node.address(`p${n}`))
      const all = [...mine, ...(await Promise.all(pods))]
      await Promise.all(writers)
      assert.equal(new Set(all).size, 8, 'no address is two pods’')
      assert.ok(!all.includes(foreign) && !own.some((ip) => all.includes(ip)))
      await node.stop()
      await node.start()
      await until('all of them are on the port', async () => {
        const held = await node.held()
        return [...all, ...own, foreign].every((ip) => held.includes(ip))
      })
    },
  ],
  [
    'prefixes: sixteen addresses by one port and one pair; the prefix goes when the last is idle',
    async ({ member }) => {
      await using node = await TestNode.make({
        cloud: member,
        subnet: '10.77.0.0/24',
        ipam: { validity: 'prefix', cluster: 'blue', node: 'n1', pool: { ...EAGER, idleReclaimSeconds: 1 } },
      })
      await node.start()
      const got = await Promise.all(Array.from({ length: 17 }, (_, n) => node.address(`p${n}`)))
      assert.equal(new Set(got).size, 17)
      const { allowed_address_pairs: pairs, fixed_ips: fixed } = await node.ports.get(node.port)
      assert.equal(pairs.length, 2)
      assert.equal(fixed.length, 1, 'the node’s own alone')
      const reserved = (await node.ports.list({ network: node.network })).filter(({ id }) => id !== node.port)
      assert.deepEqual(
        reserved.map((port) => [port.fixed_ips.length, port.admin_state_up, port.name, markOf(port)?.subject]),
        reserved.map(() => [16, false, `heddle:blue:prefix:n1:${node.port}`, node.port]),
      )
      assert.equal(reserved.length, 2)
      for (const port of reserved)
        assert.deepEqual(port.tags.toSorted(), [
          'heddle',
          'heddle-cluster=blue',
          'heddle-kind=prefix',
          'heddle-node=n1',
        ])
      for (let n = 0; n < 17; n++) await node.del(`p${n}`)
      await until(
        'all is given back',
        async () => (await node.ports.list({ network: node.network })).length === 1,
        60_000,
      )
      assert.deepEqual((await node.ports.get(node.port)).allowed_address_pairs, [])
    },
  ],
  [
    'address pairs, ten at most; then code 11',
    async ({ member }) => {
      await using node = await TestNode.make({
        cloud: member,
        ipam: {
          validity: 'address_pairs',
          pool: { ...EAGER, batch: 4 },
          api: { qps: 200, burst: 200, addDeadlineMs: 4_000 },
        },
      })
      await node.start()
      const got = []
      for (let n = 0; n < 10; n++) got.push(await node.address(`p${n}`))
      assert.equal(new Set(got).size, 10)
      await assert.rejects(node.add('more'), { code: 11 })
      await node.del('p3')
      await node.address('more')
      const pairs = (await node.ports.get(node.port)).allowed_address_pairs.map(({ ip_address: ip }) => ip)
      assert.deepEqual(new Set(pairs), new Set(got.map((ip) => `${ip}/32`)))
    },
  ],
  [
    'a port for each pod, on a host that has none itself',
    async ({ member }) => {
      await using node = await TestNode.make({
        cloud: member,
        ipam: { validity: 'port', portId: '', portLookup: ['mac'], pool: EAGER },
      })
      node.card = { ...node.card, mac: parseMac('02:00:00:00:00:01'), addresses: [ipText('198.51.100.7')] }
      await node.start()
      const [a, b] = [await node.address('a'), await node.address('b')]
      const ports = await node.ports.list({ network: node.network })
      assert.ok(
        [a, b].every((ip) =>
          ports.some(({ fixed_ips: fixed, id }) => id !== node.port && fixed.some((one) => one.ip_address === ip)),
        ),
      )
      await node.del('a')
      await until(
        'its port is gone',
        async () => (await node.ports.list({ ip: a, network: node.network })).length === 0,
        60_000,
      )
      assert.equal((await node.ports.list({ ip: b, network: node.network })).length, 1)
    },
  ],
  [
    'both families; a subnet that is full is told as code 11 and served again when there is room',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member, subnets: ['10.77.0.0/29', 'fd77::/64'] })
      await node.start()
      // Six, without the gateway and the node: four.
      const got = []
      for (let n = 0; n < 4; n++) got.push(ipsOf(await node.add(`p${n}`)))
      assert.deepEqual(
        got.map((ips) => ips.length),
        [2, 2, 2, 2],
      )
      assert.equal(new Set(got.flat()).size, 8)
      await assert.rejects(
        node.add('more'),
        (error: Error) => /No more IP|generat/i.test(error.message) && 'code' in error && error.code === 11,
      )
      await assert.rejects(node.status(), { code: 50 })
      assert.deepEqual(
        node.service.engine.conditions().map(({ reason }) => reason),
        ['AddressesExhausted'],
      )
      await node.del('p2')
      await until('there is room', () =>
        node.add('more').then(
          () => true,
          () => false,
        ),
      )
    },
  ],
  [
    'the VM gets another port: its pods keep their addresses, which move there',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member, ipam: { portId: '', portLookup: ['mac'] } })
      await node.start()
      const ips = [await node.address('a'), await node.address('b')]
      await node.ports.delete(node.port)
      const [subnet_id = ''] = node.subnets
      const next = await node.ports.create({
        network_id: node.network,
        fixed_ips: [{ subnet_id, ip_address: ipText('10.77.0.77') }],
      })
      node.port = next.id
      node.card = cardOf(next)
      // As a growth would, or the look of every minute.
      await Promise.allSettled(Array.from({ length: 12 }, (_, n) => node.add(`p${n}`)))
      await until(
        'they are on the other port',
        async () => (await node.held()).includes(ips[0] ?? ipText('::')),
        60_000,
      )
      assert.ok((await node.held()).includes(ips[1] ?? ipText('::')))
      assert.equal(node.count('port-replaced'), 1)
      assert.equal(readFacts(node.conf.factsFile).node.port, next.id)
    },
  ],
  [
    'a second daemon with another lock keeps away from the port; after a reboot the addresses of before serve again',
    async ({ member }) => {
      await using node = await TestNode.make({ cloud: member })
      await node.start()
      const a = await node.address('a')
      const held = await node.held()
      await using other = await TestNode.beside(node)
      await other.start()
      await until('it says why', () => other.service.engine.conditions()[0]?.reason === 'PortTaken')
      await assert.rejects(other.add('x'), { code: 11 })
      await assert.rejects(openIpamService({ conf: node.conf, cloud: member, card: () => node.card, log: () => {} }), {
        code: 11,
      })
      assert.deepEqual(await node.held(), held)
      await node.stop()
      // The machine starts anew, and has lost what it knew.
      other.boot = '11111111-2222-3333-4444-555555555555'
      await other.stop()
      await other.start()
      await until('it has found them', () => other.count('adopted') > 0)
      assert.ok(other.journal().addresses.has(a))
      assert.equal(other.journal().addresses.size, held.length - 1)
    },
  ],
]

/** Of those, what is also tried on a real Neutron, which takes its time: how the port's list behaves, and what Neutron refuses. */
const REAL: readonly RegExp[] = [/without a request/, /floating IP/, /operator/, /prefixes/]

export function neutronSuite(
  name: string,
  start: () => Promise<Target>,
  skip: string | false = false,
  isReal = false,
): void {
  describe(`neutron-ipam: ${name}`, { skip }, () => {
    let target: Target | undefined
    before(async () => {
      if (isReal) bePatient(6)
      target = await start()
    })
    after(async () => {
      await target?.[Symbol.asyncDispose]()
    })
    for (const [title, run] of cases.filter(([name]) => !isReal || REAL.some((one) => one.test(name))))
      it(title, async () => {
        assert.ok(target !== undefined)
        await run(target)
      })
  })
}
