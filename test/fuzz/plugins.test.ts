import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseJsonObject } from '#cni/json.ts'
import { needsRoot } from '../namespace.ts'
import { Machine } from '../runtimes/machine.ts'
import { slowness } from '../slow.ts'

const driver = new URL('./plugins-driver.ts', import.meta.url).pathname
const LIMIT_MS = 240_000 * slowness

test(
  'whatever a whole plugin is told: one JSON document or none, an error somebody thought of, in good time',
  { skip: needsRoot, timeout: LIMIT_MS + 10_000 },
  async (t) => {
    await using machine = await Machine.open()
    // Hostile paths and settings must not reach the machine that the tests run on.
    machine.exec('mount', '--bind', '/proc/sys', '/proc/sys')
    machine.exec('mount', '--bind', '/proc/sys/net', '/proc/sys/net')
    machine.exec('mount', '-o', 'remount,bind,ro', '/proc/sys')
    machine.exec('mount', '-o', 'remount,bind,ro', '/')
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    const order = JSON.stringify({ seed, each: 1_000 })
    const output = await machine.run([process.execPath, driver, order], undefined, {}, LIMIT_MS)
    const { failures, counts } = parseJsonObject(output, 'the report')
    t.diagnostic(`calls: ${JSON.stringify(counts)}`)
    assert.deepEqual(failures, [], `seed ${seed}`)
  },
)
