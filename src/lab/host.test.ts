import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isNetnsMount, removeEmptyUpTo } from './host.ts'

test('/run/netns is told from the namespaces below it and from directories like it', () => {
  const line = (path: string): string => `36 35 98:0 / ${path} rw,noatime master:1 - ext4 /dev/root rw`
  assert.equal(isNetnsMount(`${line('/')}\n${line('/run/netns')}\n`), true)
  assert.equal(isNetnsMount(`${line('/')}\n${line('/run/netns/a')}\n${line('/run/netns2')}\n`), false)
  assert.equal(isNetnsMount(''), false)
})

test('empty directories go, up to the first that is used by somebody else, and never the stop', () => {
  const base = mkdtempSync(join(tmpdir(), 'hl-host-'))
  try {
    mkdirSync(join(base, 'heddle/lab'), { recursive: true })
    writeFileSync(join(base, 'heddle/cni.sock'), '')
    removeEmptyUpTo(join(base, 'heddle/lab'), base)
    assert.equal(existsSync(join(base, 'heddle/lab')), false)
    assert.equal(existsSync(join(base, 'heddle/cni.sock')), true)
    rmSync(join(base, 'heddle/cni.sock'))
    removeEmptyUpTo(join(base, 'heddle/lab'), base)
    assert.equal(existsSync(join(base, 'heddle')), false)
    assert.equal(existsSync(base), true)
  } finally {
    rmSync(base, { recursive: true, force: true })
  }
})
