import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { HttpAnswer, HttpRequest, HttpSender } from '#openstack/transport.ts'
import { FencedSender } from './fenced-sender.ts'

class Wire implements HttpSender {
  readonly sent: string[] = []
  hang = false

  async send({ method, url, signal }: HttpRequest): Promise<HttpAnswer> {
    this.sent.push(`${method} ${url.pathname}`)
    if (this.hang) {
      const { promise, reject } = Promise.withResolvers<never>()
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      await promise
    }
    return { status: 200, headers: {}, text: '' }
  }

  [Symbol.dispose](): void {
    this.sent.push('closed')
  }
}

const request = (method: HttpRequest['method'], path: string): HttpRequest => ({
  method,
  url: new URL(`http://cloud${path}`),
  headers: {},
  signal: new AbortController().signal,
  object: `${method} ${path}`,
})

test('after its term a controller reads and renews its token, and changes nothing', async () => {
  const wire = new Wire()
  let left = 5_000
  using sender = new FencedSender(wire, { left: () => left })
  await sender.send(request('PUT', '/v2.0/routers/r/add_extraroutes'))
  left = 0
  for (const method of ['PUT', 'POST', 'DELETE'] as const)
    await assert.rejects(sender.send(request(method, '/v2.0/ports')), { code: 'aborted' })
  await sender.send(request('GET', '/v2.0/ports'))
  await sender.send(request('POST', '/v3/auth/tokens'))
  assert.deepEqual(wire.sent, ['PUT /v2.0/routers/r/add_extraroutes', 'GET /v2.0/ports', 'POST /v3/auth/tokens'])
})

test('a change that is under way when the term ends is given up soon after', async () => {
  const wire = new Wire()
  wire.hang = true
  using sender = new FencedSender(wire, { left: () => 10 })
  const started = performance.now()
  await assert.rejects(sender.send(request('PUT', '/v2.0/ports/p')))
  assert.ok(performance.now() - started >= 1_900)
})
