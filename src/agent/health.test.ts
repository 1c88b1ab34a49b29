import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { HealthServer, parseListen } from './health-server.ts'
import { Health } from './health.ts'
import { Registry } from './metrics.ts'

test('required checks decide about readiness; since when is kept while nothing changes', () => {
  let now = Date.UTC(2026, 0, 1)
  const health = new Health(() => now)
  health.expect('path', 'required', 'not yet')
  health.expect('api', 'degraded', 'not asked')
  assert.deepEqual([health.readiness().ready, health.readiness().degraded], [false, true])
  health.pass('path')
  assert.deepEqual([health.readiness().ready, health.readiness().degraded], [true, true])
  now += 60_000
  health.fail('api', 'refused')
  assert.equal(health.readiness().checks[1]?.since, '2026-01-01T00:00:00.000Z', 'failing all the time')
  health.pass('api')
  assert.deepEqual(health.readiness().checks[1], {
    name: 'api',
    weight: 'degraded',
    ok: true,
    reason: '',
    since: '2026-01-01T00:01:00.000Z',
  })
  assert.equal(health.readiness().degraded, false)
})

const get = (
  socketPath: string,
  path: string,
  accept = '*/*',
  method = 'GET',
): Promise<{ status: number; type: string; body: string }> =>
  new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method, headers: { accept } }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body }),
      )
    })
    call.on('error', reject)
    call.end()
  })

test('the three endpoints on a unix socket that is only ours', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'health-'))
  const path = join(folder, 'h.sock')
  try {
    let now = 0
    const health = new Health(() => now)
    health.expect('path', 'required', 'not yet')
    const registry = new Registry()
    registry.counter({ name: 'x', help: 'X.' }).add()
    {
      await using _server = await HealthServer.listen({ kind: 'unix', path }, health, registry)
      assert.equal(statSync(path).mode & 0o777, 0o600)
      assert.equal((await get(path, '/healthz')).status, 200)
      const { status, body } = await get(path, '/readyz')
      assert.equal(status, 503)
      assert.match(body, /"reason": "not yet"/)
      health.pass('path')
      assert.equal((await get(path, '/readyz?verbose')).status, 200)
      assert.match((await get(path, '/metrics', 'application/openmetrics-text')).type, /openmetrics/)
      assert.match((await get(path, '/metrics')).type, /0\.0\.4/)
      assert.equal((await get(path, '/other')).status, 404)
      assert.equal((await get(path, '/metrics', '*/*', 'POST')).status, 405)
      now = 60_000
      assert.equal((await get(path, '/healthz')).status, 503, 'no sign of life for a minute')
    }
    assert.equal(statSync(path, { throwIfNoEntry: false }), undefined)
    writeFileSync(path, 'precious')
    await assert.rejects(HealthServer.listen({ kind: 'unix', path }, health, registry), /is no socket/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('addresses to listen on', () => {
  assert.deepEqual(parseListen('/run/x.sock'), { kind: 'unix', path: '/run/x.sock' })
  assert.deepEqual(parseListen(':8081'), { kind: 'tcp', host: '127.0.0.1', port: 8081 })
  assert.deepEqual(parseListen('[::1]:0'), { kind: 'tcp', host: '::1', port: 0 })
  for (const bad of ['', '8081', 'host:', 'host:99999', 'a:b:1']) assert.equal(parseListen(bad), undefined, bad)
})
