import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { test } from 'node:test'

import { forward } from './forward.ts'
import { freePort } from './servers.ts'

test('requests and answers go through; only those that may change something are told, when they are answered', async (t) => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.end(`${request.method} ${request.url}`))
  })
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  const port = await freePort()
  let written = 0
  using _forward = await forward({ listen: [{ port }], to: address.port, onWritten: () => written++ })
  const ask = async (method: string): Promise<string> => {
    const body = method === 'PUT' ? { body: 'x'.repeat(200_000) } : {}
    return (
      await fetch(`http://127.0.0.1:${port}/ports`, { method, ...body, signal: AbortSignal.timeout(10_000) })
    ).text()
  }
  assert.equal(await ask('GET'), 'GET /ports')
  assert.equal(written, 0)
  assert.equal(await ask('PUT'), 'PUT /ports')
  assert.equal(written, 1)
  assert.equal(await ask('GET'), 'GET /ports')
  assert.equal(written, 1)
  await ask('DELETE')
  assert.equal(written, 2)
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
  await assert.rejects(ask('GET'), 'nobody listens there any more')
})
