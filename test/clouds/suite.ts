/** What each cloud's client does together with the runner, against a server that does what the API's documentation says. */

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import type { CloudName, OpenCloud } from '#cloud/client.ts'
import { routeName } from '#cloud/gce.ts'
import { send } from '#cloud/http.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { told, type CloudRoute, type CloudServer, type Told } from './cloud-server.ts'
import { Bench, fastClock, nodeWith, SUBNET } from './harness.ts'

export interface CloudCase {
  readonly cloud: CloudName
  readonly open: OpenCloud
  readonly server: () => CloudServer
  /** The next hop of an instance. */
  readonly hop: (instance: string) => string
  readonly throttled: Told
  readonly list: string
  /** Does a route have a place for a mark? */
  readonly hasMarks: boolean
}

const OLD = '10.244.77.0/24'

export function cloudSuite({ cloud, open, server, hop, throttled, list, hasMarks }: CloudCase): void {
  const bench = async (): Promise<Bench> => new Bench(cloud, await server().listen(), open)
  const marked = (destination: string, nextHop: string): CloudRoute => ({
    destination,
    nextHop: hop(nextHop),
    description: 'heddle: pods of somebody',
    name: routeName(destination),
  })
  const foreign: CloudRoute[] = ['0.0.0.0/0', '100.64.0.0/10', '192.168.0.0/20', '10.9.0.0/16', '2001:db8::/64'].map(
    (destination) => ({
      destination,
      nextHop: hop('gateway'),
      description: 'the operator',
      name: `operator-${destination.length}`,
      isForeign: true,
    }),
  )

  test(`${cloud}: the own subnet leads to the own instance; nothing else is touched; a route that goes comes back`, async () => {
    await using b = await bench()
    b.server.routes = [...foreign]
    await using runner = await b.runner()
    assert.equal(runner.absent, undefined, 'nothing is known of this node yet')
    runner.setLocal(nodeWith(cloud))
    assert.match(runner.absent ?? '', /10\.244\.0\.0\/24/)
    await b.quiet()
    assert.equal(runner.absent, undefined)
    const [own] = b.server.routes.filter(({ destination }) => destination === SUBNET)
    assert.equal(own?.nextHop, hop('i-self'))
    assert.equal(own.description, hasMarks ? 'heddle: pods of node-0' : '')
    assert.deepEqual(
      b.server.routes.filter((route) => route !== own),
      foreign,
    )
    assert.deepEqual(b.changes, ['create'])

    b.server.routes = [...foreign]
    await b.until('the route is back', () => b.changes.length === 2)
    assert.equal(b.server.routes.length, foreign.length + 1)
    assert.deepEqual(b.changes, ['create', 'create'])
  })

  test(`${cloud}: throttling and server errors are waited out; the API's wish for a pause is heard`, async () => {
    await using b = await bench()
    b.server.orders.push(throttled, told('busy', 503), throttled, { ...throttled, headers: { 'retry-after': '3' } })
    await using runner = await b.runner()
    const begun = performance.now()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    // 3 s at fifty times the speed.
    assert.ok(performance.now() - begun > 3000 / 50, 'it has not waited')
    assert.equal(b.server.routes.length, 1)
  })

  test(`${cloud}: an API that is away for long is asked ever more rarely, and said so`, async () => {
    await using b = await bench()
    await using runner = await b.runner()
    b.server.orders.push(...Array.from({ length: 12 }, () => told('down', 500)))
    runner.setLocal(nodeWith(cloud))
    await b.until('trouble', () => b.troubles.length > 0)
    assert.match(b.troubles[0] ?? '', /status 500/)
    assert.notEqual(runner.absent, undefined)
    await b.quiet()
  })

  test(`${cloud}: keys that end are replaced; none of them is logged or written`, async () => {
    await using b = await bench()
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    b.server.generation = 2
    b.server.routes = []
    await b.until('the route is back', () => b.server.routes.length === 1)
    assert.doesNotMatch(b.logged + readFileSync(b.file, 'utf8'), /token-|secret-|STS\./)
  })

  test(`${cloud}: a full table is told, with what to do; room is used`, async () => {
    await using b = await bench()
    b.server.routes = [...foreign]
    b.server.limit = foreign.length
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.until('trouble', () => b.troubles.at(-1) !== undefined)
    assert.match(b.troubles.at(-1) ?? '', /quota/i)
    b.server.limit++
    await b.quiet()
    assert.equal(b.server.routes.length, foreign.length + 1)
  })

  test(`${cloud}: a full table has room once the own leftover is gone`, async () => {
    await using b = await bench()
    {
      await using runner = await b.runner()
      runner.setLocal(nodeWith(cloud, OLD))
      await b.quiet()
    }
    b.server.limit = 1
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    assert.deepEqual(
      b.server.routes.map(({ destination }) => destination),
      [SUBNET],
    )
  })

  test(`${cloud}: an operator's route to this subnet is left alone and told, and replaced by ours when it goes`, async () => {
    await using b = await bench()
    const theirs = { destination: SUBNET, nextHop: hop('firewall'), description: 'the operator', name: 'operator' }
    b.server.routes = [theirs]
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.until('the conflict', () => /somebody else's route/.test(b.troubles.at(-1) ?? ''))
    assert.deepEqual(b.server.routes, [theirs])
    b.server.routes = []
    await b.quiet()
    assert.equal(b.server.routes[0]?.nextHop, hop('i-self'))
  })

  test(`${cloud}: the route of the subnet's former node is replaced`, async () => {
    await using b = await bench()
    // Without a mark it has to be certain that it leads nowhere.
    b.server.routes = [{ ...marked(SUBNET, 'i-former'), isDead: !hasMarks }]
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    assert.deepEqual(
      b.server.routes.map(({ nextHop }) => nextHop),
      [hop('i-self')],
    )
    assert.deepEqual(b.changes, ['replace'])
  })

  test(`${cloud}: a changed podCIDR takes the old route along, across a restart too; others' stay`, async () => {
    await using b = await bench()
    b.server.routes = [marked('10.244.5.0/24', 'i-other')]
    {
      await using runner = await b.runner()
      runner.setLocal(nodeWith(cloud))
      await b.quiet()
    }
    // Without its mark, only the record knows whose it is.
    b.server.routes = b.server.routes.map((route) =>
      route.destination === SUBNET ? { ...route, description: '', name: 'other' } : route,
    )
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud, '10.244.9.0/24'))
    await b.quiet()
    assert.deepEqual(b.server.routes.map(({ destination }) => destination).toSorted(), [
      '10.244.5.0/24',
      '10.244.9.0/24',
    ])
  })

  test(`${cloud}: a list that tells the past makes no second route and ends nowhere`, async () => {
    await using b = await bench()
    b.server.freeze(6)
    await using runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    assert.equal(b.server.routes.length, 1)
    assert.deepEqual(b.changes, ['create'], 'what exists is not counted as made')
  })

  test(`${cloud}: an agent that restarts while the API is away holds up no pod; one that never saw its route does`, async () => {
    await using b = await bench()
    {
      await using runner = await b.runner()
      runner.setLocal(nodeWith(cloud))
      await b.quiet()
    }
    await using runner = await b.runner({ api: 'http://127.0.0.1:1' })
    runner.setLocal(nodeWith(cloud))
    await b.until('trouble', () => /nobody listens|refused|unavailable|bad port/.test(b.troubles.at(-1) ?? ''))
    assert.equal(runner.absent, undefined)
    runner.setLocal(nodeWith(cloud, '10.244.8.0/24'))
    assert.notEqual(runner.absent, undefined)
    assert.equal(b.server.routes.length, 1, 'the data path stays')
  })

  test(`${cloud}: answers of somebody else in between are no answers`, async () => {
    await using b = await bench()
    await using runner = await b.runner()
    const nonsense = [
      '<html>login</html>',
      '[]',
      '{"items":{},"RouteEntrys":{"RouteEntry":[{}]}}',
      'null',
      '{"__proto__":{"a":1}}',
    ]
    b.server.orders.push(...nonsense.map((text) => told(text)))
    runner.setLocal(nodeWith(cloud))
    await b.until('trouble', () => /as documented|not JSON|canIpForward/.test(b.troubles.at(-1) ?? ''))
    await b.quiet()
    assert.equal(b.server.routes.length, 1)
    assert.deepEqual(Object.keys(Object.prototype), [])
  })

  test(`${cloud}: a table of many pages is read to its end; IPv6 and other instances included or not, as asked`, async () => {
    await using there = await server().listen()
    const many = Array.from({ length: 7 }, (_, i) => marked(`10.244.${i}.0/24`, i === 6 ? 'i-self' : `i-${i}`))
    there.routes = [...foreign, ...many]
    const { signal } = new AbortController()
    const tables = await open(
      {
        send,
        clock: fastClock,
        random: Math.random,
        node: 'n',
        address: ipText('192.168.0.1'),
        metadata: there.url,
        api: there.url,
      },
      signal,
    )
    const listed = async (all: boolean): Promise<string[]> =>
      (await tables.list({ subnet: cidrText(SUBNET), all }, signal)).map(({ destination }) => destination)
    assert.deepEqual(
      (await listed(true)).toSorted(),
      there.routes
        .map(({ destination }) => destination)
        .filter((destination) => !destination.includes(':'))
        .toSorted(),
    )
    assert.deepEqual((await listed(false)).toSorted(), [SUBNET, '10.244.6.0/24'])
  })

  test(`${cloud}: without keys, without a metadata server: told and waited for`, async () => {
    const dead = await server().listen()
    const { url } = dead
    await dead[Symbol.asyncDispose]()
    await assert.rejects(
      open(
        {
          send,
          clock: fastClock,
          random: Math.random,
          node: 'n',
          address: ipText('10.0.0.1'),
          metadata: url,
          api: url,
        },
        new AbortController().signal,
      ),
      { name: 'CloudError', code: 'unavailable' },
    )
  })

  test(`${cloud}: disposing in the middle of a wait is quick, and leaves routes`, async () => {
    await using b = await bench()
    const runner = await b.runner()
    runner.setLocal(nodeWith(cloud))
    await b.quiet()
    b.server.orders.push({ ...throttled, headers: { 'retry-after': '20' } })
    runner.setLocal(nodeWith(cloud, '10.244.8.0/24'))
    await delay(20)
    const begun = performance.now()
    await runner[Symbol.asyncDispose]()
    assert.ok(performance.now() - begun < 200)
    assert.ok(b.server.routes.length >= 1)
    assert.ok(existsSync(b.file))
    assert.ok(b.server.actions.includes(list))
  })
}
