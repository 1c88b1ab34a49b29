import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import { nothingInstalled, type Manifest } from './manifest.ts'
import { planInstall, planUninstall, type InstallFacts, type SeenFile, type WantedFile } from './plan.ts'

const file = (path: string, kind: WantedFile['kind'], sha256 = `new ${path}`): WantedFile => ({
  path,
  kind,
  sha256,
  mode: 0o755,
  from: { text: '' },
})
const conf = file('/net.d/10-heddle.conflist', 'configuration')
const wanted = [conf, file('/bin/bridge', 'plugin'), file('/lib/cni.mjs', 'library')]
const plan = (there: Readonly<Record<string, string | SeenFile>>, more: Partial<InstallFacts> = {}) =>
  planInstall({
    heddle: '2',
    wanted,
    manifest: nothingInstalled,
    configurations: [],
    seen: (path) => {
      const seen = there[path]
      return typeof seen === 'string' ? { sha256: seen, isShim: false } : seen
    },
    ...more,
  })
const steps = ({ actions }: ReturnType<typeof plan>): readonly string[] =>
  actions.map((action) => `${action.do} ${'file' in action ? action.file.path : action.path}`)
const manifestOf = (...files: Manifest['files']): Manifest => ({ ...nothingInstalled, files })

describe('what an installation changes', () => {
  test('on an empty machine: all is new, the configuration last', () => {
    const made = plan({})
    assert.deepEqual(steps(made), ['create /lib/cni.mjs', 'create /bin/bridge', 'create /net.d/10-heddle.conflist'])
    assert.deepEqual([made.conflicts, made.manifest], [[], made.journal])
  })

  test('again: nothing', () => {
    const there = Object.fromEntries(wanted.map(({ path, sha256 }) => [path, sha256]))
    assert.ok(steps(plan(there, { manifest: plan({}).manifest })).every((step) => step.startsWith('keep ')))
  })

  test('a foreign plugin is a conflict; it goes to the backups', () => {
    const made = plan({ '/bin/bridge': 'go', '/net.d/10-heddle.conflist': 'mine' })
    assert.deepEqual(made.conflicts, [
      { why: 'foreign-file', path: '/bin/bridge' },
      { why: 'foreign-file', path: '/net.d/10-heddle.conflist' },
    ])
    assert.equal(made.journal.files.find(({ path }) => path === '/bin/bridge')?.backup, '%2Fbin%2Fbridge')
    assert.deepEqual(steps(made)[1], 'take-over /bin/bridge')
  })

  test('a shim of any version is ours, noted or not', () => {
    assert.deepEqual(plan({ '/bin/bridge': { sha256: 'old', isShim: true } }).conflicts, [])
  })

  test('an upgrade: what was noted may be replaced, what is wanted no more goes, backups are kept', () => {
    const manifest = manifestOf(
      { path: '/bin/bridge', sha256: 'old', former: [], backup: 'b' },
      { path: '/lib/cni.mjs', sha256: 'older', former: [] },
      { path: '/bin/gone', sha256: 'gone', former: [] },
    )
    const made = plan({ '/bin/bridge': 'old', '/lib/cni.mjs': 'changed', '/bin/gone': 'gone' }, { manifest })
    assert.deepEqual(steps(made), [
      'take-over /lib/cni.mjs',
      'replace /bin/bridge',
      'create /net.d/10-heddle.conflist',
      'remove /bin/gone',
    ])
    const bridge = (of: Manifest) => of.files.find(({ path }) => path === '/bin/bridge')
    assert.deepEqual(bridge(made.journal), {
      path: '/bin/bridge',
      sha256: 'new /bin/bridge',
      former: ['old'],
      backup: 'b',
    })
    assert.deepEqual(bridge(made.manifest)?.former, [])
    assert.deepEqual(
      [made.journal, made.manifest].map(({ files }) => files.some(({ path }) => path === '/bin/gone')),
      [true, false],
      'while it is under way, what goes is noted too',
    )
    // Killed in between: the old and the new are ours.
    for (const hash of ['old', 'new /bin/bridge'])
      assert.deepEqual(plan({ '/bin/bridge': hash }, { manifest: made.journal }).conflicts, [], hash)
  })

  test('configurations that runtimes would take before ours', () => {
    const made = plan({}, { configurations: ['05-a.conflist', '10-heddle.conf', '99-z.conf', '10-heddle.conflist'] })
    assert.deepEqual(
      made.conflicts.map(({ path }) => path),
      ['/net.d/05-a.conflist', '/net.d/10-heddle.conf'],
    )
    assert.deepEqual(steps(made).slice(2), [
      'disable /net.d/05-a.conflist',
      'disable /net.d/10-heddle.conf',
      'create /net.d/10-heddle.conflist',
    ])
    assert.equal(made.manifest.disabled.length, 2)
  })
})

test('what its removal changes: only what is as it was written, configurations first', () => {
  const manifest: Manifest = {
    ...manifestOf(
      { path: '/lib/cni.mjs', sha256: '1', former: ['0'] },
      { path: '/bin/bridge', sha256: '2', former: [], backup: 'b' },
      { path: '/bin/ptp', sha256: '3', former: [] },
      { path: '/net.d/x.conflist', sha256: '4', former: [] },
    ),
    disabled: [{ path: '/net.d/05', as: '/net.d/05.off' }],
  }
  const there: Record<string, string> = { '/lib/cni.mjs': '0', '/bin/bridge': '2', '/bin/ptp': 'changed' }
  const actions = planUninstall(manifest, (path) => {
    const sha256 = there[path]
    return sha256 === undefined ? undefined : { sha256, isShim: true }
  })
  assert.deepEqual(
    actions.map((action) => `${action.do} ${'path' in action ? action.path : ''}`),
    ['remove /net.d/x.conflist', 'leave /bin/ptp', 'restore /bin/bridge', 'remove /lib/cni.mjs', 'enable /net.d/05'],
  )
})
