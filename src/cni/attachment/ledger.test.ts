import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'

import fc from 'fast-check'

import { fakeHost, scriptedPlugin } from '../fake-host.ts'
import type { PluginHost } from '../plugin.ts'
import { emptyResult } from '../result.ts'
import { runPlugin } from '../shell.ts'
import { leftBehind, lockRecord } from './ledger.ts'
import { listRecords, parseRecord, recordFile, recordFolder, type AttachmentRecord, type RulesNote } from './record.ts'

let root = ''
let folder = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'hdle-ledger-'))
  folder = recordFolder(root)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const note: RulesNote = { family: 'inet', table: 't', elements: [{ set: 's', key: ['10.0.0.1', 80], data: ['x'] }] }
const host = (): PluginHost => ({ ...fakeHost(), records: folder, rules: [note] })
const conf = { cniVersion: '1.1.0', name: 'net', type: 'noop', ipam: { type: 'x' }, prevResult: { ips: [] } }
const env = (verb: string, change: Readonly<Record<string, string>> = {}): Record<string, string> => ({
  CNI_COMMAND: verb,
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/nonexistent/ns',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
  CNI_ARGS: 'IgnoreUnknown=1;K=V',
  ...change,
})
const call = (verb: string, change?: Readonly<Record<string, string>>, config: object = conf) => ({
  env: env(verb, change),
  stdin: () => JSON.stringify(config),
})
const only = (): AttachmentRecord => {
  const [record, ...more] = listRecords(folder)
  assert.ok(record !== undefined && more.length === 0)
  return record
}

describe('records of attachments', () => {
  test('ADD leaves one with all that DEL needs; DEL takes it', async () => {
    let during: AttachmentRecord | undefined
    const plugin = scriptedPlugin({ pause: async () => void (during = listRecords(folder)[0]) })
    assert.equal((await runPlugin(plugin, call('ADD'), host())).exitCode, 0)
    assert.deepEqual([during?.state, during?.rules], ['ready', []], 'before the first step of ADD')
    const { prevResult: _, ...raw } = conf
    const { id: _id, boot, since: _since, ...record } = only()
    assert.match(boot, /^[0-9a-f-]{36}$/)
    assert.deepEqual(record, {
      version: 1,
      state: 'ready',
      type: 'noop',
      network: 'net',
      containerId: 'c1',
      ifname: 'eth0',
      netns: '/nonexistent/ns',
      config: raw,
      args: [
        ['IgnoreUnknown', '1'],
        ['K', 'V'],
      ],
      path: ['/opt/cni/bin'],
      rules: [note],
    })
    await runPlugin(plugin, call('DEL', { CNI_NETNS: '' }), host())
    assert.equal(during?.state, 'leaving', 'before the first step of DEL')
    assert.deepEqual(readdirSync(folder), [], 'no lock, no temporary file')
  })

  test('a failed ADD takes its record along, unless something could not be undone', async () => {
    const failure = new Error('no')
    const plugin = scriptedPlugin({ fail: () => failure })
    assert.equal((await runPlugin(plugin, call('ADD'), host())).exitCode, 1)
    assert.deepEqual(listRecords(folder), [])
    leftBehind(failure)
    await runPlugin(plugin, call('ADD'), host())
    assert.equal(only().type, 'noop')
  })

  test('a second ADD that is refused leaves the record of the first', async () => {
    const at = { CNI_NETNS: '/proc/self/ns/mnt' }
    await runPlugin(scriptedPlugin(), call('ADD', at), host())
    const first = only()
    await runPlugin(scriptedPlugin({ fail: () => new Error('there is one') }), call('ADD', at), host())
    assert.deepEqual(only(), first)
    // The same container in another sandbox: what the first left is still to be removed.
    const other = { CNI_NETNS: '/proc/self/ns/uts' }
    await runPlugin(scriptedPlugin({ fail: () => new Error('its remains are in the way') }), call('ADD', other), host())
    assert.deepEqual(only(), first)
    await runPlugin(scriptedPlugin(), call('ADD', other), host())
    assert.notEqual(only().netnsId, first.netnsId)
  })

  test('a failed DEL keeps it, as leaving', async () => {
    await runPlugin(scriptedPlugin(), call('ADD'), host())
    await runPlugin(scriptedPlugin({ fail: () => new Error('later') }), call('DEL'), host())
    assert.equal(only().state, 'leaving')
  })

  test('GC takes those of its plugin and network that are not valid', async () => {
    const plugin = scriptedPlugin()
    for (const id of ['a', 'b']) await runPlugin(plugin, call('ADD', { CNI_CONTAINERID: id }), host())
    await runPlugin(plugin, call('ADD', {}, { ...conf, name: 'other' }), host())
    await runPlugin(scriptedPlugin({ type: 'second' }), call('ADD'), host())
    const valid = { ...conf, 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }
    assert.equal((await runPlugin(plugin, call('GC', {}, valid), host())).exitCode, 0)
    const left = listRecords(folder).map(({ type, network, containerId }) => `${type} ${network} ${containerId}`)
    assert.deepEqual(left.toSorted(), ['noop net b', 'noop other c1', 'second net c1'])
  })

  test('nothing is written for a plugin without state, nor where there is no folder', async () => {
    await runPlugin({ ...scriptedPlugin(), stateless: true }, call('ADD'), host())
    await runPlugin(scriptedPlugin(), call('ADD'), { ...fakeHost(), rules: [] })
    assert.deepEqual(listRecords(folder), [])
  })

  test('an ADD without a record is refused: what it made could not be found again', async () => {
    mkdirSync(join(root, 'run'))
    writeFileSync(join(root, 'run/heddle'), '')
    const plugin = scriptedPlugin()
    const answer = await runPlugin(plugin, call('ADD'), host())
    assert.equal(JSON.parse(answer.stdout).code, 5)
    assert.deepEqual(plugin.calls, [])
  })

  test('a result that cannot be told is undone', async () => {
    const plugin = scriptedPlugin({ result: emptyResult })
    const answer = await runPlugin(plugin, call('ADD', {}, { ...conf, cniVersion: '0.2.0', prevResult: null }), host())
    assert.equal(JSON.parse(answer.stdout).code, 1)
    assert.deepEqual(
      plugin.calls.map(({ verb }) => verb),
      ['ADD', 'DEL'],
    )
    assert.deepEqual(listRecords(folder), [])
  })

  test('works on one attachment come one after the other', async () => {
    const key = { type: 'noop', network: 'net', containerId: 'c1', ifname: 'eth0' }
    const plugin = scriptedPlugin()
    const lock = await lockRecord(folder, key)
    const adding = runPlugin(plugin, call('ADD'), host())
    await new Promise((resolve) => setTimeout(resolve, 30))
    assert.equal(plugin.calls.length, 0)
    lock[Symbol.dispose]()
    assert.equal((await adding).exitCode, 0)
  })
})

test('whatever lies in the folder is a record or left out', () => {
  mkdirSync(folder, { recursive: true })
  const key = { type: 't', network: 'n', containerId: 'c', ifname: 'e' }
  for (const text of ['', '{', '[]', '{"version":2}', '{"version":1,"id":7}', '\0\0']) {
    writeFileSync(recordFile(folder, key), text)
    assert.deepEqual(listRecords(folder), [], text)
  }
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.equal(parseRecord(JSON.stringify(value)), undefined)
    }),
  )
})
