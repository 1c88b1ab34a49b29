import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'

import { peerNode } from '#flannel/fixture.ts'
import { silentLog } from './log.ts'
import { readSnapshot, SnapshotWriter, type Snapshot } from './snapshot.ts'

const snapshot: Snapshot = {
  netConf: '{"Network":"10.0.0.0/8"}',
  macs: { 4: '02:00:00:00:00:01' },
  nodes: [peerNode(0), peerNode(1)],
}

test('what was written is read by the same node, and by no other', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'snapshot-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'var/lib/heddle/flannel.json')
  assert.equal(await readSnapshot(path, 'node-0', silentLog), undefined)
  {
    await using writer = new SnapshotWriter(path, 'node-0', () => snapshot, silentLog)
    writer.changed()
  }
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.deepEqual(await readSnapshot(path, 'node-0', silentLog), snapshot)
  assert.equal(await readSnapshot(path, 'node-1', silentLog), undefined)
})

test('damage of any kind is no snapshot, and no error', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'snapshot-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'f.json')
  {
    await using writer = new SnapshotWriter(path, 'node-0', () => snapshot, silentLog)
    writer.changed()
  }
  const whole = readFileSync(path, 'utf8')
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.string({ maxLength: 3 }), async (at, junk) => {
      writeFileSync(path, whole.slice(0, at) + junk)
      assert.equal(await readSnapshot(path, 'node-0', silentLog), undefined)
    }),
    { numRuns: 50 },
  )
  assert.equal(await readSnapshot(folder, 'node-0', silentLog), undefined, 'a directory')
})
