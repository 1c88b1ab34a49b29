import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Reservation } from './reservation.ts'

test('a file gets its names, but none that exists; a directory that is gone cannot be synced', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'heddle-reservation-'))
  try {
    const temporary = join(directory, '.new')
    using reservation = new Reservation(directory)
    reservation.write(temporary, 'c1\r\neth0')
    assert.equal(reservation.link(temporary, '10.0.0.2'), true)
    assert.equal(reservation.link(temporary, '10.0.0.2'), false)
    reservation.begin()
    await reservation.synced
    assert.deepEqual(readdirSync(directory).toSorted(), ['.new', '10.0.0.2'])
    assert.equal(readFileSync(join(directory, '10.0.0.2'), 'utf8'), 'c1\r\neth0')
    using late = new Reservation(join(directory, 'gone'))
    late.begin()
    await assert.rejects(late.synced, { code: 'ENOENT' })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
