import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'

test('one JSON object per line on standard error, English keys, no secrets', () => {
  const program = `
    import { openLog } from '#agent/log.ts'
    const log = openLog('info', { node: 'n' })
    log.debug({}, 'not shown')
    log.info({ token: 'canary-1', user: { password: 'canary-2', 'client-key-data': 'canary-3' }, peer: 'x' }, 'said')
  `
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
    encoding: 'utf8',
    cwd: new URL('../..', import.meta.url),
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  })
  assert.equal(stdout, '')
  const lines = stderr.trim().split('\n')
  assert.equal(lines.length, 1, stderr)
  const line: Record<string, unknown> = JSON.parse(lines[0] ?? '')
  assert.deepEqual([line['level'], line['message'], line['node'], line['peer']], ['info', 'said', 'n', 'x'])
  assert.match(String(line['time']), /^\d{4}-\d\d-\d\dT/)
  assert.doesNotMatch(stderr, /canary/)
})
