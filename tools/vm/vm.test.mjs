import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'

import { pinnedNode, root } from '../paths.mjs'
import { capture } from '../setup/step.mjs'
import { filesForMachine, OUTSIDE } from './files.mjs'
import { cpio, inLoadingOrder } from './initrd.mjs'
import { compare } from './where.mjs'

const folder = mkdtempSync(join(tmpdir(), 'heddle-vm-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

describe('the first file system', () => {
  it('loads a module after what it needs, once, and leaves out what is built in', () => {
    const table = [
      'kernel/fs/fuse/fuse.ko:',
      'kernel/fs/fuse/virtiofs.ko.xz: kernel/fs/fuse/fuse.ko kernel/v/virtio.ko kernel/v/virtio_ring.ko',
      'kernel/v/virtio_ring.ko:',
      'kernel/v/virtio.ko: kernel/v/virtio_ring.ko',
      'kernel/v/virtio-pci.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko',
    ].join('\n')
    assert.deepEqual(inLoadingOrder(table, ['virtio_pci', 'no_such', 'virtiofs']), [
      'kernel/v/virtio_ring.ko',
      'kernel/v/virtio.ko',
      'kernel/v/virtio-pci.ko',
      'kernel/fs/fuse/fuse.ko',
      'kernel/fs/fuse/virtiofs.ko.xz',
    ])
  })

  it('is an archive that unpacks to its files', () => {
    const files = { init: 'first', 'bin/a/b': Buffer.from([1, 2, 3, 4, 5]), 'bin/empty': '' }
    const archive = cpio(files)
    const found = {}
    for (let at = 0; at < archive.length;) {
      assert.equal(archive.toString('latin1', at, at + 6), '070701')
      const field = (n) => Number.parseInt(archive.toString('latin1', at + 6 + n * 8, at + 14 + n * 8), 16)
      const name = archive.toString('utf8', at + 110, at + 110 + field(11) - 1)
      const body = (at + 110 + field(11) + 3) & ~3
      found[name] = field(1) >> 12 === 8 ? archive.subarray(body, body + field(6)).toString('latin1') : 'folder'
      at = (body + field(6) + 3) & ~3
    }
    assert.deepEqual(found, {
      bin: 'folder',
      'bin/a': 'folder',
      init: 'first',
      'bin/a/b': '\u0001\u0002\u0003\u0004\u0005',
      'bin/empty': '',
      'TRAILER!!!': 'folder',
    })
  })
})

describe('the files for the machine', () => {
  it('are those that ask for features, and some more; or those that were named', () => {
    const files = filesForMachine([])
    for (const file of ['test/netlink/objects.test.ts', 'test/vm/kinds.test.ts', 'test/state/reconciler.test.ts']) {
      assert.ok(files.includes(file), file)
    }
    assert.ok(!files.includes('test/netlink/socket.test.ts'))
    assert.deepEqual(filesForMachine(['test/netlink/socket']), ['test/netlink/socket.test.ts'])
  })

  it('include every file that says so in a skip', () => {
    const named = filesForMachine([], { slow: true })
    for (const file of filesForMachine(['test/'])) {
      const text = readFileSync(join(root, file), 'utf8')
      if (/needsKernel\(/.test(text)) assert.equal(named.includes(file), !OUTSIDE.includes(file), file)
    }
  })
})

describe('the reporter', () => {
  const run = async (text) => {
    const file = join(folder, 'a.test.mjs')
    writeFileSync(file, `import { test } from 'node:test'\n${text}`)
    const reporter = join(root, 'tools/vm/no-skips.mjs')
    // Not part of the run that this test belongs to.
    return capture(pinnedNode, ['--test', `--test-reporter=${reporter}`, file], {
      env: { NODE_TEST_CONTEXT: undefined },
    })
  }

  it('fails a run in which a test was skipped, and says which and why', async () => {
    const { code, output } = await run(`test('one', () => {}); test('two', { skip: 'kernel lacks x' }, () => {})`)
    assert.equal(code, 1)
    assert.match(output, /1 skipped[^]*two: kernel lacks x/)
    const inside = await run(`test('two', (t) => t.skip('too late'))`)
    assert.equal(inside.code, 1)
  })

  it('is silent where all ran', async () => {
    assert.deepEqual(await run(`test('one', () => {})`), { code: 0, output: '' })
  })
})

describe('what ran where', () => {
  const test = (name, outcome, reason) => ({ file: 'a.test.ts', name, outcome, ...(reason && { reason }) })

  it('is fine where every test ran somewhere, and says where and why not', () => {
    const { table, nowhere } = compare({
      here: [test('one', 'passed'), test('two', 'skipped', 'kernel lacks x'), test('three', 'failed')],
      vm: [test('one', 'passed'), test('two', 'passed')],
    })
    assert.deepEqual(nowhere, [])
    assert.deepEqual(table, [
      'all: 3 tests; 2 ran here, 2 ran vm',
      '  a.test.ts: 3 tests; 2 here, 2 vm (kernel lacks x)',
    ])
  })

  it('names what was skipped everywhere, or was skipped here and not met there', () => {
    const skipped = test('two', 'skipped', 'needs the program x')
    assert.deepEqual(compare({ here: [skipped], vm: [skipped] }).nowhere, ['a.test.ts: two: needs the program x'])
    assert.deepEqual(compare({ here: [skipped], vm: [] }).nowhere, ['a.test.ts: two: needs the program x'])
  })

  it('is read from a line of JSON a test', async () => {
    const file = join(folder, 'b.test.mjs')
    writeFileSync(
      file,
      `import { describe, test } from 'node:test'
       describe('suite', () => { test('one', () => {}); test('two', { skip: 'why' }, () => {}) })
       test('three', () => { throw new Error('no') })`,
    )
    const record = join(folder, 'record')
    const args = [
      '--test',
      `--test-reporter=${join(root, 'tools/vm/record.mjs')}`,
      `--test-reporter-destination=${record}`,
    ]
    await capture(pinnedNode, [...args, file], { env: { NODE_TEST_CONTEXT: undefined } })
    const lines = readFileSync(record, 'utf8').trim().split('\n')
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)).map(({ name, outcome, reason }) => [name, outcome, reason]),
      [
        ['one', 'passed', undefined],
        ['two', 'skipped', 'why'],
        ['three', 'failed', undefined],
      ],
    )
  })
})
