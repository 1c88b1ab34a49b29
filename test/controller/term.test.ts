/** The end of a term: a leader whose API server falls silent has stopped before another begins. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'

import { KubeClient } from '#kube/client.ts'
import { runElected, type Term } from '#kube/lease-lock.ts'
import { leases } from '#kube/resources.ts'
import { startApiServer } from '#kube/server/server.ts'
import { plainConfig } from '../kube/target.ts'
import { slowness } from '../slow.ts'
import { until } from './rig.ts'

const UNIT = 1_000 * slowness

test('the API server falls silent for the leader alone: its term ends by its own clock, before another leads', async (t) => {
  const api = await startApiServer({ bookmarkInterval: 100 })
  t.after(() => api.close())
  const { hostname, port } = new URL(api.urls[0] ?? '')
  const sockets: Socket[] = []
  let isSilent = false
  // Between the first candidate and the server; silent, it takes everything and passes nothing on.
  const proxy = createServer((near) => {
    const far = connect(Number(port), hostname)
    sockets.push(near, far)
    near.on('data', (bytes) => void (isSilent || far.write(bytes)))
    far.on('data', (bytes) => void (isSilent || near.write(bytes)))
    for (const socket of [near, far]) socket.on('error', () => undefined)
    near.on('close', () => far.destroy())
    far.on('close', () => near.destroy())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.after(async () => {
    for (const socket of sockets) socket.destroy()
    proxy.close()
    await once(proxy, 'close')
  })
  const address = proxy.address()
  assert.ok(typeof address === 'object' && address !== null)

  const leading = new Map<string, Term>()
  const history: string[] = []
  const candidate = (identity: string, url: string): void => {
    const client = new KubeClient(plainConfig(url), { timeout: 60_000 })
    const stop = new AbortController()
    const done = runElected({
      client,
      namespace: 'kube-system',
      name: 'c',
      identity,
      signal: stop.signal,
      leaseDuration: 6 * UNIT,
      renewDeadline: 4 * UNIT,
      retryPeriod: UNIT / 2,
      lead: async (signal, term) => {
        assert.deepEqual([...leading.values()].map((one) => one.left()), [], 'two leaders')
        assert.ok(term.left() > 0)
        leading.set(identity, term)
        history.push(identity)
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
        assert.equal(term.left(), 0)
        leading.delete(identity)
      },
    }) // prettier-ignore
    t.after(async () => {
      stop.abort()
      await done
      client[Symbol.dispose]()
    })
  }
  candidate('one', `http://127.0.0.1:${address.port}`)
  await until('one leads', () => leading.has('one'))
  const kube = new KubeClient(plainConfig(api.urls[0] ?? ''))
  t.after(() => kube[Symbol.dispose]())
  // What an operator writes beside it stays.
  const ref = { namespace: 'kube-system', name: 'c' }
  await kube.patch(leases, ref, { type: 'merge', body: { metadata: { labels: { team: 'net' } } } })
  candidate('two', api.urls[0] ?? '')
  await new Promise((resolve) => void setTimeout(resolve, 7 * UNIT))
  assert.deepEqual(history, ['one'], 'while it renews, it leads')
  isSilent = true
  await until('two leads', () => leading.has('two'))
  assert.deepEqual(history, ['one', 'two'])
  assert.equal((await kube.get(leases, ref)).metadata.labels?.['team'], 'net')
})
