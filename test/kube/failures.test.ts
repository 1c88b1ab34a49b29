import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import type { Node } from 'kubernetes-types/core/v1.js'
import { KubeClient } from '#kube/client.ts'
import { fileText } from '#kube/credentials.ts'
import { KubeError } from '#kube/errors.ts'
import { startInformer } from '#kube/informer.ts'
import type { Informer, InformerEvent } from '#kube/informer.ts'
import { runElected } from '#kube/lease-lock.ts'
import { listAll } from '#kube/list.ts'
import { leases, nodes } from '#kube/resources.ts'
import { startApiServer } from '#kube/server/server.ts'
import type { ApiServer, ApiServerOptions } from '#kube/server/server.ts'
import { plainConfig } from './target.ts'

// One folder for all: servers write into theirs until the very end of their test.
const root = mkdtempSync(join(tmpdir(), 'heddle-kube-'))
after(() => rmSync(root, { recursive: true, force: true }))

const FAST = { base: 20, cap: 200 }

async function server(t: TestContext, options: ApiServerOptions = {}): Promise<ApiServer> {
  const started = await startApiServer({ bookmarkInterval: 50, ...options })
  t.after(() => started.close())
  return started
}

const url = (of: ApiServer): string => of.urls[0] ?? ''

function client(t: TestContext, of: ApiServer | string, timeout = 2000): KubeClient {
  const made = new KubeClient(plainConfig(typeof of === 'string' ? of : url(of)), { timeout })
  t.after(() => made[Symbol.dispose]())
  return made
}

function addNode(of: ApiServer, name: string, labels: { readonly [key: string]: string } = {}): void {
  const type = of.api.registry.find('', 'v1', 'nodes')
  assert.ok(type)
  of.api.create({ type, namespace: undefined, name }, { metadata: { name, labels } })
}
function removeNode(of: ApiServer, name: string): void {
  const type = of.api.registry.find('', 'v1', 'nodes')
  assert.ok(type)
  of.api.delete({ type, namespace: undefined, name })
}

async function until(what: string, condition: () => boolean, ms = 20_000): Promise<void> {
  const end = performance.now() + ms
  while (!condition()) {
    assert.ok(performance.now() < end, `waited ${ms} ms in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

interface Watched {
  readonly informer: Informer<Node, string>
  readonly events: InformerEvent<string>[]
  readonly count: (type: InformerEvent<string>['type']) => number
}

function inform(
  t: TestContext,
  of: ApiServer | string,
  more: { readonly idleTimeout?: number; readonly timeoutSeconds?: number; readonly recheck?: typeof FAST } = {},
): Watched {
  const events: InformerEvent<string>[] = []
  const informer = startInformer<Node, string>({
    client: client(t, of, 500),
    resource: nodes,
    transform: (node) => {
      if (node.metadata.labels?.['bad'] === 'yes') throw new Error('a bad node')
      return `${node.metadata.name} ${node.metadata.labels?.['x'] ?? ''}`
    },
    on: (event) => events.push(event),
    backoff: FAST,
    ...more,
  })
  t.after(async () => {
    informer[Symbol.dispose]()
    await informer.done
  })
  return { informer, events, count: (type) => events.filter((event) => event.type === type).length }
}

describe('an informer', { timeout: 60_000 }, () => {
  it('mirrors a kind: added, updated, deleted, synced', async (t) => {
    const api = await server(t)
    addNode(api, 'a')
    const { informer, events } = inform(t, api)
    assert.ok(await informer.synced(2000))
    assert.deepEqual(
      events.map((event) => event.type),
      ['added', 'synced'],
    )
    const made = client(t, api)
    addNode(api, 'b')
    await made.patch(nodes, { name: 'b' }, { type: 'merge', body: { metadata: { labels: { x: '1' } } } })
    removeNode(api, 'a')
    await until('the deletion', () => informer.size === 1)
    assert.deepEqual(events.slice(2), [
      { type: 'added', key: 'b', object: 'b ' },
      { type: 'updated', key: 'b', object: 'b 1', previous: 'b ' },
      { type: 'deleted', key: 'a', previous: 'a ', suspicious: false },
    ])
    assert.equal(informer.get('b'), 'b 1')
    assert.deepEqual([...informer.entries()], [['b', 'b 1']])
  })

  it('waits for a server that is not there yet', async (t) => {
    const probe = createServer()
    const port = await new Promise<number>((resolve) => {
      probe.listen(0, '127.0.0.1', () => {
        const address = probe.address()
        resolve(typeof address === 'object' && address !== null ? address.port : 0)
      })
    })
    await new Promise((resolve) => probe.close(resolve))
    const { informer, events } = inform(t, `http://127.0.0.1:${port}`)
    await until('two failures', () => events.length >= 2)
    const [first] = events
    assert.ok(first?.type === 'failed' && first.error.code === 'unreachable')
    assert.match(first.error.message, /ECONNREFUSED.*check that the API server runs/)
    assert.equal(await informer.synced(1), false)
    const api = await server(t, { listen: [{ host: '127.0.0.1', port }] })
    addNode(api, 'a')
    assert.ok(await informer.synced(3000))
    assert.equal(informer.lastError, undefined)
  })

  it('outlives 5xx, garbage, resets and slowness of lists and watches', async (t) => {
    const api = await server(t)
    addNode(api, 'a')
    api.faults.inject({ action: { kind: 'status', code: 500 }, times: 1 })
    api.faults.inject({ action: { kind: 'garbage' }, times: 2 })
    api.faults.inject({ action: { kind: 'drop' }, times: 3 })
    api.faults.inject({ action: { kind: 'delay', ms: 30 }, times: 10 })
    const { informer, count, events } = inform(t, api)
    assert.ok(await informer.synced(5000))
    // The reset met a reused connection and was simply asked again.
    assert.ok(count('failed') >= 2, JSON.stringify(events))
    addNode(api, 'b')
    await until('b', () => informer.get('b') !== undefined)
    api.faults.inject({ action: { kind: 'status', code: 503 }, match: (request) => request.watch, times: 3 })
    await api.close()
    assert.equal(informer.size, 2)
  })

  it('keeps its cache while the server is away, and goes on from its version when it is back', async (t) => {
    const dir = mkdtempSync(join(root, 'kube-'))
    const snapshotFile = join(dir, 'state.json')
    const first = await server(t, { snapshotFile })
    addNode(first, 'a')
    const { informer, count, events } = inform(t, first)
    assert.ok(await informer.synced(2000))
    const port = Number(new URL(url(first)).port)
    const version = first.store.version
    await first.close()
    await until('a failure', () => count('failed') > 0)
    assert.equal(informer.size, 1)
    const second = await server(t, { snapshotFile, listen: [{ host: '127.0.0.1', port }] })
    assert.ok(second.store.version >= version)
    addNode(second, 'b')
    await until('b', () => informer.get('b') !== undefined)
    assert.equal(count('deleted'), 0)
    assert.equal(count('added'), 2, JSON.stringify(events))
  })

  it('notices a half-open connection by its silence, and loses nothing', async (t) => {
    const api = await server(t)
    addNode(api, 'a')
    const { informer, count } = inform(t, api, { idleTimeout: 200 })
    assert.ok(await informer.synced(2000))
    const heal = api.faults.inject({ action: { kind: 'silent' }, match: (request) => request.watch })
    addNode(api, 'b')
    await until('the silence is noticed', () => informer.lastError?.code === 'timeout', 3000)
    assert.match(informer.lastError?.message ?? '', /silent for 200 ms/)
    assert.equal(informer.get('b'), undefined)
    heal()
    await until('b', () => informer.get('b') !== undefined, 3000)
    assert.equal(count('synced'), 1, 'resumed without a new list')
  })

  it('does not wait for a request that never gets an answer', async (t) => {
    const api = await server(t)
    api.faults.inject({ action: { kind: 'silent' }, times: 1 })
    const { informer, events } = inform(t, api)
    assert.ok(await informer.synced(4000))
    const [first] = events
    assert.ok(first?.type === 'failed' && first.error.code === 'timeout')
  })

  it('lists anew after 410, and then tells only what is different', async (t) => {
    const api = await server(t)
    for (const name of ['a', 'b', 'c']) addNode(api, name)
    const { informer, events, count } = inform(t, api)
    assert.ok(await informer.synced(2000))
    const heal = api.faults.inject({ action: { kind: 'drop' }, match: (request) => request.watch })
    await api.close()
    removeNode(api, 'b')
    addNode(api, 'd')
    api.store.compact()
    heal()
    const before = events.length
    const again = await startApiServerOn(t, api)
    await until('a second sync', () => count('synced') === 2)
    const changes = events
      .slice(before)
      .filter((event) => event.type === 'added' || event.type === 'deleted' || event.type === 'updated')
    assert.deepEqual(
      changes.map((event) => `${event.type} ${event.key}`),
      ['deleted b', 'added d'],
    )
    assert.ok(again.store.version > 0)
  })

  it('marks an empty list after a full one, and asks again until it is full', async (t) => {
    const api = await server(t)
    for (const name of ['a', 'b', 'c']) addNode(api, name)
    const { informer, events, count } = inform(t, api, { recheck: FAST })
    assert.ok(await informer.synced(2000))
    const heal = api.faults.inject({ action: { kind: 'empty-list' } })
    api.faults.inject({
      action: { kind: 'status', code: 410, reason: 'Expired' },
      match: (request) => request.watch,
      times: 1,
    })
    addNode(api, 'd')
    api.endWatches()
    await until('the doubt', () => informer.suspicious)
    const deleted = events.filter((event) => event.type === 'deleted')
    assert.ok(deleted.length >= 3)
    assert.ok(deleted.every((event) => event.suspicious))
    assert.ok(events.some((event) => event.type === 'synced' && event.suspicious && event.count === 0))
    // One object that comes by watch says nothing about the others. What is added just before one of the empty lists does not come by watch.
    let added = 0
    const comes = async (): Promise<boolean> => {
      const name = `e${added++}`
      addNode(api, name)
      return until(name, () => informer.get(name) !== undefined, 500).then(
        () => true,
        () => false,
      )
    }
    while (!(await comes())) assert.ok(added < 40, 'none of 40 objects came by watch')
    heal()
    await until('all are back', () => informer.size === 4 + added)
    assert.equal(informer.suspicious, false)
    assert.ok(count('synced') >= 3)
  })

  it('takes an empty list at the beginning for what it is', async (t) => {
    const api = await server(t)
    const { informer, events } = inform(t, api)
    assert.ok(await informer.synced(2000))
    assert.deepEqual(events, [{ type: 'synced', count: 0, suspicious: false }])
  })

  it('tells duplicate events once', async (t) => {
    const api = await server(t)
    api.faults.inject({ action: { kind: 'duplicate' }, match: (request) => request.watch })
    const { informer, count } = inform(t, api)
    assert.ok(await informer.synced(2000))
    for (const name of ['a', 'b', 'c']) addNode(api, name)
    removeNode(api, 'b')
    await until('the deletion', () => count('deleted') > 0)
    addNode(api, 'z')
    await until('z', () => informer.get('z') !== undefined)
    assert.equal(count('added'), 4)
    assert.equal(count('deleted'), 1)
  })

  it('is harmed by a bad object in that object alone, which keeps its last good state', async (t) => {
    const api = await server(t)
    addNode(api, 'good')
    addNode(api, 'bad', { bad: 'yes' })
    addNode(api, 'turns', { x: '1' })
    const { informer, count } = inform(t, api)
    assert.ok(await informer.synced(2000))
    assert.equal(informer.size, 2)
    assert.equal(count('rejected'), 1)
    await client(t, api).patch(
      nodes,
      { name: 'turns' },
      { type: 'merge', body: { metadata: { labels: { bad: 'yes' } } } },
    )
    await until('the rejection', () => count('rejected') === 2)
    assert.equal(informer.get('turns'), 'turns 1')
  })

  it('outlives an owner that throws, and ends at once when told to', async (t) => {
    const api = await server(t)
    const errors: unknown[] = []
    const stop = new AbortController()
    const informer = startInformer<Node, string>({
      client: client(t, api),
      resource: nodes,
      transform: (node) => node.metadata.name,
      on: () => {
        throw new Error('the owner fails')
      },
      onHandlerError: (error) => errors.push(error),
      signal: stop.signal,
    })
    addNode(api, 'a')
    await until('the cache', () => informer.size === 1)
    assert.ok(errors.length > 0)
    stop.abort()
    await informer.done
    assert.equal(await informer.synced(1000), true)
  })

  it('does not hammer a server whose watches end at once', async (t) => {
    const api = await server(t)
    const { informer } = inform(t, api)
    assert.ok(await informer.synced(2000))
    let watches = 0
    api.faults.inject({
      action: { kind: 'status', code: 500 },
      match: (request) => {
        if (request.watch) watches += 1
        return request.watch
      },
    })
    api.endWatches()
    await new Promise((resolve) => setTimeout(resolve, 1000))
    assert.ok(watches >= 2 && watches < 40, `${watches} requests in a second`)
  })
})

/** Starts another server with the content of one that was closed, on its address. */
async function startApiServerOn(t: TestContext, before: ApiServer): Promise<ApiServer> {
  const dir = mkdtempSync(join(root, 'kube-'))
  const snapshotFile = join(dir, 'state.json')
  writeFileSync(snapshotFile, JSON.stringify(before.store.snapshot()))
  return await server(t, { snapshotFile, listen: [{ host: '127.0.0.1', port: Number(new URL(url(before)).port) }] })
}

describe('a client', { timeout: 60_000 }, () => {
  it('names the remedy for 401, 403, timeouts and an absent server', async (t) => {
    const api = await server(t, { tokens: new Map([['secret', 'admin']]) })
    const cases: readonly (readonly [KubeClient, () => () => void, string, RegExp])[] = [
      [client(t, api), () => () => {}, 'unauthorized', /LIST nodes: Unauthorized.*check the token/],
      [
        client(t, api),
        () => api.faults.inject({ action: { kind: 'status', code: 403, reason: 'Forbidden' } }),
        'forbidden',
        /grant this verb/,
      ],
      [
        client(t, api, 100),
        () => api.faults.inject({ action: { kind: 'silent' } }),
        'timeout',
        /within 100 ms.*check its health/,
      ],
      [client(t, 'http://127.0.0.1:1'), () => () => {}, 'unreachable', /check that the API server runs/],
    ]
    for (const [made, inject, code, message] of cases) {
      const heal = inject()
      await assert.rejects(
        made.list(nodes),
        (error) => error instanceof KubeError && error.code === code && message.test(error.message),
      )
      heal()
    }
  })

  it('reads a rotated token again when the server refuses the old one', async (t) => {
    const dir = mkdtempSync(join(root, 'kube-'))
    const file = join(dir, 'token')
    writeFileSync(file, 'old')
    const tokens = new Map([['old', 'agent']])
    const api = await server(t, { tokens })
    using made = new KubeClient({ ...plainConfig(url(api)), token: fileText(file) })
    await made.list(nodes)
    tokens.clear()
    tokens.set('new', 'agent')
    await assert.rejects(made.list(nodes), { code: 'unauthorized' })
    writeFileSync(file, 'new')
    await made.list(nodes)
  })

  it('waits as long as a loaded server asks, and not beyond its deadline', async (t) => {
    const api = await server(t)
    api.faults.inject({ action: { kind: 'status', code: 429, retryAfter: 0 }, times: 2 })
    await client(t, api).list(nodes)
    api.faults.inject({ action: { kind: 'status', code: 429, retryAfter: 60 } })
    await assert.rejects(client(t, api, 100).list(nodes), { code: 'timeout' })
  })

  it('ends a request when it is told to', async (t) => {
    const api = await server(t)
    api.faults.inject({ action: { kind: 'silent' } })
    const stop = new AbortController()
    const request = client(t, api).list(nodes, { signal: stop.signal })
    setTimeout(() => stop.abort(), 20)
    await assert.rejects(request, { code: 'aborted' })
  })

  it('begins a list anew when it expires between two pages', async (t) => {
    const api = await server(t)
    for (let n = 0; n < 7; n += 1) addNode(api, `n${n}`)
    let lists = 0
    api.faults.inject({
      action: { kind: 'delay', ms: 0 },
      match: (request) => {
        if (request.query.has('continue') && lists++ === 1) {
          api.store.compact()
        }
        return false
      },
    })
    const listed = await listAll(client(t, api), nodes, (node) => node.metadata.name, { limit: 2 })
    assert.deepEqual(listed.items, ['n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6'])
    assert.ok(lists > 3, 'it began anew')
  })

  it('refuses answers that are no list', async (t) => {
    const api = await server(t)
    api.faults.inject({ action: { kind: 'garbage' } })
    await assert.rejects(client(t, api).list(nodes), { code: 'bad-response' })
  })
})

describe('an election', { timeout: 60_000 }, () => {
  it('has one leader at a time, and a new one when the first ends or dies', async (t) => {
    const api = await server(t)
    const leading = new Set<string>()
    const history: string[] = []
    const candidate = (
      identity: string,
    ): { readonly stop: AbortController; readonly done: Promise<void>; readonly client: KubeClient } => {
      const stop = new AbortController()
      const own = client(t, api, 300)
      const done = runElected({
        client: own,
        namespace: 'kube-system',
        name: 'controller',
        identity,
        signal: stop.signal,
        leaseDuration: 1000,
        renewDeadline: 600,
        retryPeriod: 100,
        lead: async (signal) => {
          leading.add(identity)
          history.push(identity)
          assert.ok(leading.size === 1, `two leaders: ${[...leading].join(', ')}`)
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
          leading.delete(identity)
        },
      })
      t.after(async () => {
        stop.abort()
        await done
      })
      return { stop, done, client: own }
    }
    const one = candidate('one')
    await until('one leads', () => leading.has('one'))
    candidate('two')
    await new Promise((resolve) => setTimeout(resolve, 400))
    assert.deepEqual(history, ['one'])
    one.stop.abort()
    await one.done
    await until('two leads', () => leading.has('two'))
    // The second is cut off from the server: it must step down before a third can take over.
    const cut = api.faults.inject({ action: { kind: 'status', code: 500 } })
    await until('two steps down', () => leading.size === 0)
    cut()
    await until('someone leads again', () => leading.size === 1)
    const lease = await client(t, api).get(leases, { namespace: 'kube-system', name: 'controller' })
    assert.ok((lease.spec?.leaseTransitions ?? 0) >= 1)
  })
})
