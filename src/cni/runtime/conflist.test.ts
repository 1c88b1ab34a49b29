import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

import fc from 'fast-check'

import { CniError } from '../errors.ts'
import { findNetwork, firstNetworks } from './confdir.ts'
import { parseConfList, parseSingleConf } from './conflist.ts'

const parse = (value: unknown) => parseConfList(JSON.stringify(value), 'x.conflist')
const one = [{ type: 'noop' }]

test('a list, its defaults and its plugins as they are written', () => {
  const list = parse({ name: 'n', plugins: [{ type: 'bridge', mtu: 1, __proto__: null }] })
  assert.deepEqual(
    [list.cniVersion, list.disableCheck, list.disableGc, list.loadOnlyInlinedPlugins],
    ['0.1.0', false, false, false],
  )
  assert.deepEqual(list.plugins, [{ type: 'bridge', raw: { type: 'bridge', mtu: 1 } }])
})

const versions: readonly [given: object, chosen: string][] = [
  [{ cniVersion: '0.4.0' }, '0.4.0'],
  [{ cniVersions: ['0.3.1', '1.1.0', '1.0.0'] }, '1.1.0'],
  [{ cniVersion: '1.1.0', cniVersions: ['0.4.0'] }, '1.1.0'],
  [{ cniVersion: '0.3.1', cniVersions: ['1.2.0', '0.4.0', '5.0.0'] }, '0.4.0'],
  [{ cniVersion: '2.0.0', cniVersions: ['3.0.0'] }, '2.0.0'],
  [{ cniVersions: [] }, '0.1.0'],
  [{ cniVersions: ['7.0.0'] }, '0.1.0'],
]
for (const [given, chosen] of versions) {
  test(`${JSON.stringify(given)} runs as ${chosen}`, () =>
    assert.equal(parse({ name: 'n', plugins: one, ...given }).cniVersion, chosen))
}

test('booleans may be written as text', () => {
  const list = parse({
    name: 'n',
    plugins: one,
    disableCheck: 'TRUE',
    disableGC: 'False',
    loadOnlyInlinedPlugins: true,
  })
  assert.deepEqual([list.disableCheck, list.disableGc, list.loadOnlyInlinedPlugins], [true, false, true])
})

const refused: readonly [why: string, value: object | string, message: RegExp][] = [
  ['no JSON', '{', /is not JSON/],
  ['no name', { plugins: one }, /no name/],
  ['a name that is no text', { name: 1, plugins: one }, /"name" is 1/],
  ['a name that leads elsewhere', { name: '../x', plugins: one }, /"name" is "\.\.\/x"/],
  ['no plugin in the list', { name: 'n', plugins: [] }, /no plugins in list/],
  ['plugins that are no list', { name: 'n', plugins: {} }, /"plugins" is {}/],
  ['a plugin that is no object', { name: 'n', plugins: [1] }, /plugins\[0\] of x\.conflist: missing "type"/],
  ['a plugin without type', { name: 'n', plugins: [...one, {}] }, /plugins\[1\] of x\.conflist: missing "type"/],
  ['a type that leads elsewhere', { name: 'n', plugins: [{ type: '../sh' }] }, /"type" is "\.\.\/sh"/],
  [
    'capabilities that are no booleans',
    { name: 'n', plugins: [{ type: 'a', capabilities: { mac: 'x' } }] },
    /"capabilities" is {"mac":"x"}/,
  ],
  ['inlined plugins only, and none', { name: 'n', loadOnlyInlinedPlugins: true }, /there is no "plugins"/],
  ['a boolean that is none', { name: 'n', plugins: one, disableGC: 'no' }, /"disableGC" is "no"/],
  ['a boolean that is null', { name: 'n', plugins: one, disableCheck: null }, /"disableCheck" is null/],
  ['a version that is no text', { name: 'n', plugins: one, cniVersion: 1 }, /"cniVersion" is 1/],
  ['versions that are no list', { name: 'n', plugins: one, cniVersions: '1.0.0' }, /"cniVersions" is "1\.0\.0"/],
  ['a version that is none', { name: 'n', plugins: one, cniVersions: ['1.0.0', 'x'] }, /"cniVersions" entry 1 is "x"/],
]
for (const [why, value, message] of refused) {
  test(`refuses ${why}`, () => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    assert.throws(
      () => parseConfList(text, 'x.conflist'),
      (error: unknown) =>
        error instanceof CniError && (error.code === 7 || error.code === 6) && message.test(error.message),
    )
  })
}

test('whatever a file holds: a list or a CniError', () => {
  const keys = fc.constantFrom(
    'name',
    'cniVersion',
    'cniVersions',
    'plugins',
    'disableGC',
    'loadOnlyInlinedPlugins',
    'type',
  )
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(keys, fc.jsonValue()).map((value) => JSON.stringify(value)),
  )
  fc.assert(
    fc.property(text, (file) => {
      for (const parser of [parseConfList, parseSingleConf]) {
        try {
          parser(file, 'x')
        } catch (error) {
          assert.ok(error instanceof CniError, String(error))
        }
      }
    }),
  )
})

const dirs: string[] = []
after(() => Promise.all(dirs.map((dir) => rm(dir, { recursive: true, force: true }))))

async function directory(files: Readonly<Record<string, unknown>>): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'cni-confdir-'))
  dirs.push(dir)
  for (const [name, value] of Object.entries(files)) {
    await mkdir(join(dir, name, '..'), { recursive: true })
    await writeFile(join(dir, name), typeof value === 'string' ? value : JSON.stringify(value))
  }
  return dir
}

const types = (list: { readonly plugins: readonly { readonly type: string }[] }): readonly string[] =>
  list.plugins.map(({ type }) => type)

test('finds the first list of a name, in order of file names', async () => {
  const dir = await directory({
    '20.conflist': { name: 'n', plugins: [{ type: 'second' }] },
    '10.conflist': { name: 'n', plugins: [{ type: 'first' }] },
    '05.conf': { name: 'n', type: 'single' },
    'sub/01.conflist': { name: 'n', plugins: [{ type: 'below' }] },
  })
  assert.deepEqual(types(await findNetwork(dir, 'n')), ['first'])
})

test('a malformed file before the match is an error, one behind it is not seen', async () => {
  const good = { name: 'n', plugins: one }
  await assert.rejects(
    findNetwork(await directory({ '1.conflist': '{', '2.conflist': good }), 'n'),
    /1\.conflist is not JSON/,
  )
  assert.deepEqual(types(await findNetwork(await directory({ '1.conflist': good, '2.conflist': '{' }), 'n')), ['noop'])
})

test('the side directory adds plugins, unless only inlined ones are wanted', async () => {
  const side = { 'n/2.conf': { type: 'two' }, 'n/1.conf': { type: 'one' }, 'n/3.json': { type: 'three' } }
  const dir = await directory({ '1.conflist': { name: 'n', plugins: one }, ...side })
  assert.deepEqual(types(await findNetwork(dir, 'n')), ['noop', 'one', 'two'])
  const bare = await directory({ '1.conflist': { name: 'n' }, ...side })
  assert.deepEqual(types(await findNetwork(bare, 'n')), ['one', 'two'])
  const only = await directory({ '1.conflist': { name: 'n', loadOnlyInlinedPlugins: 'true', plugins: one }, ...side })
  assert.deepEqual(types(await findNetwork(only, 'n')), ['noop'])
  await assert.rejects(findNetwork(await directory({ '1.conflist': { name: 'n' } }), 'n'), /no plugin configs found/)
})

test('a single-plugin file is a list of one; a list in a .conf is told what to do', async () => {
  const raw = { name: 'n', type: 'old', cniVersion: '0.2.0', x: 1 }
  const list = await findNetwork(await directory({ 'a.json': raw }), 'n')
  assert.deepEqual([list.plugins, list.cniVersion], [[{ type: 'old', raw }], '0.2.0'])
  assert.deepEqual(types(parseConfList(list.text, 'cached')), ['old'])
  await assert.rejects(
    findNetwork(await directory({ 'a.conf': { name: 'n', plugins: one } }), 'n'),
    /name the file \*\.conflist/,
  )
})

test('what is not there is said', async () => {
  await assert.rejects(findNetwork('/nonexistent', 'n'), /no net configurations found in \/nonexistent/)
  await assert.rejects(
    findNetwork(await directory({ 'a.conflist': { name: 'm', plugins: one } }), 'n'),
    /no net configuration with name "n"/,
  )
  await assert.rejects(firstNetworks(await directory({}), 1), /no net configurations found/)
})

test('the first files by name, as containerd takes them', async () => {
  const dir = await directory({
    'b.conflist': { name: 'b', plugins: one },
    'a.conf': { name: 'a', type: 'noop' },
    'c.conflist': '{',
  })
  assert.deepEqual(
    (await firstNetworks(dir, 2)).map(({ name }) => name),
    ['a', 'b'],
  )
  await assert.rejects(firstNetworks(dir, 3), /c\.conflist is not JSON/)
})
