import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { FlannelError } from '#flannel/errors.ts'
import type { Log } from './log.ts'
import { WireguardKeyFile, type KeyPlaces } from './wireguard-key-file.ts'

class Bench implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wgkey-'))
  readonly places: KeyPlaces = { own: join(this.folder, 'lib/wgkey'), flannel: join(this.folder, 'run/wgkey') }
  readonly said: string[] = []
  readonly kept: (string | undefined)[] = []

  async open(places: KeyPlaces = this.places): Promise<string> {
    const note = (...words: readonly unknown[]): void => void this.said.push(JSON.stringify(words))
    const log: Log = { debug: note, info: note, warn: note, error: note }
    await using file = await WireguardKeyFile.open({ places, log, onKept: (trouble) => void this.kept.push(trouble) })
    return file.identity.publicKey
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const modeOf = (path: string): number => statSync(path).mode & 0o777
const KEY = Buffer.alloc(32, 0x48).toString('base64')

test('a key is made once, kept for ourselves alone, and stays; flannel finds a copy', async () => {
  using bench = new Bench()
  const first = await bench.open()
  assert.equal(await bench.open(), first)
  assert.deepEqual([modeOf(bench.places.own), modeOf(bench.places.flannel)], [0o600, 0o400])
  const text = readFileSync(bench.places.own, 'utf8')
  assert.match(text, /^[A-Za-z0-9+/]{43}=$/)
  assert.equal(readFileSync(bench.places.flannel, 'utf8'), text)
  rmSync(bench.places.flannel)
  assert.equal(await bench.open(), first, 'a reboot empties /run')
  assert.deepEqual(bench.kept, [undefined, undefined, undefined])
  assert.ok(!bench.said.join().includes(text), 'nothing of it is logged')
})

test('flannel’s key is taken over', async () => {
  using bench = new Bench()
  mkdirSync(join(bench.folder, 'run'))
  writeFileSync(bench.places.flannel, KEY, { mode: 0o400 })
  await bench.open()
  assert.equal(readFileSync(bench.places.own, 'utf8'), KEY)
  assert.match(bench.said.join(), /took over/)
})

test('a file that the operator names is the only one; one that holds no key is refused, not overwritten', async () => {
  using bench = new Bench()
  const named = join(bench.folder, 'named')
  const first = await bench.open({ ...bench.places, named })
  assert.equal(await bench.open({ ...bench.places, named }), first)
  assert.deepEqual([existsSync(bench.places.own), existsSync(bench.places.flannel)], [false, false])
  for (const content of ['', 'kind: Pod\n', 'x'.repeat(5000)]) {
    writeFileSync(named, content)
    await assert.rejects(
      bench.open({ ...bench.places, named }),
      (error) =>
        error instanceof FlannelError && /named holds no WireGuard key; it must hold 32 bytes/.test(error.message),
    )
    assert.equal(readFileSync(named, 'utf8'), content)
  }
})

test('a damaged key of our own is replaced, and said', async () => {
  using bench = new Bench()
  mkdirSync(join(bench.folder, 'lib'))
  writeFileSync(bench.places.own, KEY.slice(0, 20))
  const made = await bench.open()
  assert.match(bench.said.join(), /is damaged: making another one/)
  assert.equal(await bench.open(), made)
})

test('what others could read is closed to them', async () => {
  using bench = new Bench()
  const first = await bench.open()
  chmodSync(bench.places.own, 0o644)
  assert.equal(await bench.open(), first)
  assert.equal(modeOf(bench.places.own), 0o600)
  assert.match(bench.said.join(), /others could read/)
})

test('where it cannot be written the network runs, and says what that means', async () => {
  using bench = new Bench()
  writeFileSync(join(bench.folder, 'lib'), 'a file where a folder should be')
  const places = { ...bench.places, own: join(bench.folder, 'lib', 'deep', 'wgkey') }
  await assert.rejects(bench.open(places), { code: 'ENOTDIR' })
  // Nobody can make a folder there, root neither.
  const readOnly = { ...bench.places, own: '/sys/heddle/wgkey' }
  assert.match(await bench.open(readOnly), /=$/)
  assert.match(bench.kept[0] ?? '', /cannot be written to .*: after a restart peers have to learn another one/)
})
