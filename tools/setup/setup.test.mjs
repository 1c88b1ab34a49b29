import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'

import { completed, missingEntries, platformOf } from '../lockfile.mjs'
import { missingOf } from './debian.mjs'
import { withLock } from './lock.mjs'
import { installedMatches } from './npm.mjs'
import { requirements } from './requirements.mjs'
import { capture } from './step.mjs'

const folder = mkdtempSync(join(tmpdir(), 'heddle-setup-'))
after(() => rmSync(folder, { recursive: true, force: true }))

describe('withLock', () => {
  it('lets one in at a time', async () => {
    const file = join(folder, 'one.lock')
    let inside = 0
    let most = 0
    const work = async () => {
      inside += 1
      most = Math.max(most, inside)
      await new Promise((resolve) => setTimeout(resolve, 20))
      inside -= 1
    }
    await Promise.all([1, 2, 3].map(() => withLock(file, work, { pollMs: 5 })))
    assert.equal(most, 1)
    assert.equal(existsSync(file), false)
  })

  it('takes over from the dead, and from a number that somebody else has now', async () => {
    const child = spawn('true')
    await new Promise((resolve) => child.on('close', resolve))
    for (const holder of [`${child.pid} 1`, `${process.pid} 1`]) {
      const file = join(folder, 'dead.lock')
      writeFileSync(file, holder)
      assert.equal(await withLock(file, () => Promise.resolve('in'), { timeoutMs: 1_000, pollMs: 5 }), 'in')
    }
  })

  it('gives up on a living holder after the deadline, and opens after a failure', async () => {
    const file = join(folder, 'held.lock')
    await withLock(file, async () => {
      await assert.rejects(
        withLock(file, async () => {}, { timeoutMs: 30, pollMs: 5 }),
        /still held by process/,
      )
    })
    await assert.rejects(
      withLock(file, () => Promise.reject(new Error('work failed'))),
      /work failed/,
    )
    assert.equal(existsSync(file), false)
  })
})

describe('npm packages', () => {
  const lock = {
    packages: {
      '': {},
      'node_modules/a': { version: '1.0.0' },
      'node_modules/b': { version: '2.0.0', optional: true },
    },
  }

  it('match with or without an optional package of another platform', () => {
    assert.equal(installedMatches(lock, { packages: { 'node_modules/a': { version: '1.0.0' } } }), true)
    assert.equal(
      installedMatches(lock, {
        packages: { 'node_modules/a': { version: '1.0.0' }, 'node_modules/b': { version: '2.0.0' } },
      }),
      true,
    )
  })

  it('do not match when one is missing, older, or no longer wanted', () => {
    assert.equal(installedMatches(lock, { packages: {} }), false)
    assert.equal(installedMatches(lock, { packages: { 'node_modules/a': { version: '0.9.0' } } }), false)
    assert.equal(
      installedMatches(lock, {
        packages: { 'node_modules/a': { version: '1.0.0' }, 'node_modules/c': { version: '1.0.0' } },
      }),
      false,
    )
  })
})

describe('the lock file', () => {
  it('tells a platform from a name', () => {
    assert.deepEqual(platformOf('@oxlint/binding-linux-x64-musl'), { os: ['linux'], cpu: ['x64'], libc: ['musl'] })
    assert.deepEqual(platformOf('@oxfmt/binding-linux-arm-gnueabihf'), { os: ['linux'], cpu: ['arm'], libc: ['glibc'] })
    assert.deepEqual(platformOf('@oxlint-tsgolint/win32-arm64'), { os: ['win32'], cpu: ['arm64'] })
    assert.equal(platformOf('fsevents'), undefined)
  })

  it('gets what it lacks, in order, and then lacks nothing', () => {
    const lock = {
      lockfileVersion: 3,
      packages: {
        '': {},
        'node_modules/tool': { version: '1.0.0', dev: true, optionalDependencies: { '@a/linux-x64': '1.0.0' } },
      },
    }
    const path = 'node_modules/@a/linux-x64'
    assert.deepEqual(missingEntries(lock), {
      [path]: { version: '1.0.0', dev: true, optional: true, os: ['linux'], cpu: ['x64'] },
    })
    assert.deepEqual(Object.keys(completed(lock).packages), ['', path, 'node_modules/tool'])
    assert.deepEqual(missingEntries(completed(lock)), {})
  })
})

describe('requirements', () => {
  it('are missing without their command or file, and met with them', () => {
    const requirement = { package: 'x', essential: true, why: 'test' }
    assert.equal(missingOf([{ ...requirement, commands: ['heddle-no-such-command'] }]).length, 1)
    assert.equal(missingOf([{ ...requirement, files: [join(folder, 'no-such-file')] }]).length, 1)
    assert.equal(missingOf([{ ...requirement, commands: ['sh'], files: [folder] }]).length, 0)
  })

  it('of the tests include those of the start', () => {
    for (const requirement of requirements.start) assert.ok(requirements.test.includes(requirement))
  })
})

describe('capture', () => {
  it('gives code and output, 127 for no program, 124 after the deadline', async () => {
    assert.deepEqual(await capture('printf', ['%s', 'a b']), { code: 0, output: 'a b' })
    assert.equal((await capture('heddle-no-such-command', [])).code, 127)
    assert.equal((await capture('sleep', ['10'], { timeoutMs: 50 })).code, 124)
  })
})
