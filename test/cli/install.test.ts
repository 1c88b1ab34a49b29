/** `heddle cni install` and `uninstall` on a machine of files, killed at every step. */

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, beforeEach, describe, test } from 'node:test'

import { recordFolder, writeRecord } from '#cni/attachment/record.ts'
import { netnsIdentity } from '#cni/netns.ts'
import { shimMarker } from '#cni/runtime/find.ts'
import { bootId } from '#sys/bootid.ts'

const heddle = join(import.meta.dirname, '../../bin/heddle')
let dir = ''
let root = ''
let build = ''

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'hdle-install-'))
  build = makeBuild('build', '1')
})
after(() => rmSync(dir, { recursive: true, force: true }))
beforeEach(() => {
  root = mkdtempSync(join(dir, 'root-'))
})

/** A build as small as can be. */
function makeBuild(name: string, version: string): string {
  const folder = join(dir, name)
  put(join(folder, 'lib/cni.mjs'), `program ${version}`)
  put(join(folder, 'lib/addon.node'), 'addon')
  put(join(folder, 'bin/node'), '#!/bin/sh\n')
  for (const type of ['bridge', 'portmap']) put(join(folder, 'cni', type), `${shimMarker} ${type} ${version}`)
  return folder
}

function put(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  chmodSync(path, mode)
}

interface Ran {
  readonly code: number | null
  readonly signal: string | null
  readonly out: string
  readonly err: string
}

function cni(args: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  const { status, signal, stdout, stderr } = spawnSync(heddle, ['cni', ...args, '--root', root], {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, LC_ALL: 'C', ...env },
  })
  return { code: status, signal, out: stdout, err: stderr }
}

const install = (...args: readonly string[]): Ran => cni(['install', '--from', build, ...args])
const uninstall = (...args: readonly string[]): Ran => cni(['uninstall', ...args])
const killedAt = (step: number): Readonly<Record<string, string>> => ({ HEDDLE_FAILPOINT: `install.${step}` })
const wasKilled = ({ code, signal }: Ran): boolean => signal === 'SIGKILL' || code === 137

/** Every file with its mode and content. */
function dump(): Readonly<Record<string, string>> {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return Object.fromEntries(
    files
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((path) => !path.endsWith('cni-install.json.lock'))
      .toSorted((a, b) => (a < b ? -1 : 1))
      .map((path) => [
        path.slice(root.length),
        `${(statSync(path).mode & 0o777).toString(8)} ${readFileSync(path, 'utf8')}`,
      ]),
  )
}

const bridge = '/opt/cni/bin/bridge'
const conflist = '/etc/cni/net.d/10-heddle.conflist'

describe('heddle cni install', () => {
  test('puts all in its place, twice the same, and takes it back', () => {
    assert.equal(install('--dry-run').code, 0)
    assert.deepEqual(dump(), {}, 'a dry run changes nothing')
    const made = install()
    assert.equal(made.code, 0, made.err)
    assert.match(made.out, /new +\/opt\/cni\/bin\/bridge\n/)
    const files = dump()
    assert.deepEqual(Object.keys(files), [
      conflist,
      bridge,
      '/opt/cni/bin/portmap',
      '/usr/lib/heddle/bin/node',
      '/usr/lib/heddle/lib/addon.node',
      '/usr/lib/heddle/lib/cni.mjs',
      '/var/lib/heddle/cni-install.json',
    ])
    assert.match(files[bridge] ?? '', /^755 /, 'whatever mode the build had')
    const list: unknown = JSON.parse(files[conflist]?.slice(4) ?? '')
    assert.ok(JSON.stringify(list).includes('"type":"flannel"'))
    const again = install()
    assert.match(again.out, /up to date/)
    assert.deepEqual(dump(), files)
    assert.equal(uninstall().code, 0)
    assert.deepEqual(dump(), {})
    assert.deepEqual(uninstall(), { code: 0, signal: null, out: 'nothing is installed\n', err: '' })
  })

  test('refuses what is not ours; --force keeps it, and uninstall brings it back', () => {
    put(join(root, bridge), 'reference', 0o750)
    put(join(root, '/etc/cni/net.d/05-other.conflist'), '{}')
    put(join(root, '/etc/cni/net.d/99-last.conflist'), '{}')
    const before = dump()
    const refused = install()
    assert.equal(refused.code, 1)
    assert.match(refused.out, /\/opt\/cni\/bin\/bridge is not from Heddle/)
    assert.match(refused.out, /05-other\.conflist comes before ours/)
    assert.match(refused.err, /--force/)
    assert.deepEqual(dump(), before, 'nothing was changed')
    assert.equal(install('--force').code, 0)
    assert.match(dump()[bridge] ?? '', /heddle-cni-shim/)
    assert.deepEqual(
      readdirSync(join(root, '/etc/cni/net.d')).toSorted((a, b) => (a < b ? -1 : 1)),
      ['05-other.conflist.heddle-disabled', '10-heddle.conflist', '99-last.conflist'],
    )
    assert.equal(install().code, 0, 'again, without --force')
    assert.equal(uninstall().code, 0)
    assert.deepEqual(dump(), before)
  })

  test('an upgrade replaces its own, and leaves what somebody changed', () => {
    put(join(root, bridge), 'reference', 0o755)
    const before = dump()
    install('--force')
    const newer = makeBuild('newer', '2')
    rmSync(join(newer, 'cni/portmap'))
    const upgraded = cni(['install', '--from', newer])
    assert.equal(upgraded.code, 0, upgraded.out)
    assert.match(dump()[bridge] ?? '', / 2$/)
    assert.equal(dump()['/opt/cni/bin/portmap'], undefined, 'this version has none')
    writeFileSync(join(root, conflist), '{"mine":1}')
    const refused = install()
    assert.equal(refused.code, 1, 'a changed configuration is not overwritten')
    assert.equal(uninstall().code, 0)
    assert.deepEqual(dump(), { ...before, [conflist]: '644 {"mine":1}' })
  })

  test('killed at any step: install again completes it, uninstall brings everything back', () => {
    const originals = (): void => {
      put(join(root, bridge), 'reference', 0o755)
      put(join(root, '/etc/cni/net.d/05-other.conflist'), '{}')
    }
    originals()
    const before = dump()
    assert.equal(install('--force').code, 0)
    const complete = dump()
    let step = 0
    for (; ; step++) {
      rmSync(root, { recursive: true })
      originals()
      const died = cni(['install', '--from', build, '--force'], killedAt(step))
      // A runtime never sees a configuration whose plugins are not there, nor half a file.
      if (existsSync(join(root, conflist))) assert.equal(dump()[bridge], complete[bridge], `step ${step}`)
      for (const [path, text] of Object.entries(dump()))
        if (!path.includes('.heddle-tmp') && !path.includes('/var/'))
          assert.ok([before[path], complete[path]].includes(text), `${path} after step ${step}`)
      if (step % 2 === 0) {
        assert.equal(uninstall().code, 0)
        assert.deepEqual(withoutTemporary(dump()), before, `uninstall after step ${step}`)
      } else {
        const again = install('--force')
        assert.equal(again.code, 0, again.err)
        assert.deepEqual(dump(), complete, `install after step ${step}`)
      }
      if (!wasKilled(died)) break
    }
    assert.ok(step > 15, `${step} steps`)
  })

  test('killed at any step of uninstall: uninstall again ends it', () => {
    put(join(root, bridge), 'reference', 0o755)
    put(join(root, '/etc/cni/net.d/05-other.conflist'), '{}')
    const before = dump()
    install('--force')
    const installed = join(dir, 'installed')
    cpSync(root, installed, { recursive: true })
    let step = 0
    for (; ; step++) {
      rmSync(root, { recursive: true, force: true })
      cpSync(installed, root, { recursive: true })
      const died = cni(['uninstall'], killedAt(step))
      assert.equal(uninstall().code, 0)
      assert.deepEqual(dump(), before, `step ${step}`)
      if (!wasKilled(died)) break
    }
    assert.ok(step > 7, `${step} steps`)
  })

  test('a running plugin is replaced under a running process, never written to', async () => {
    put(join(root, bridge), '')
    rmSync(join(root, bridge))
    cpSync('/bin/sleep', join(root, bridge))
    const running = spawn(join(root, bridge), ['30'], { stdio: 'ignore' })
    try {
      assert.equal(install().code, 1, 'it is not ours')
      assert.equal(install('--force').code, 0)
      await sleep(50)
      assert.equal(running.exitCode, null)
    } finally {
      running.kill()
    }
  })

  test('who watches the folder hears of a rename to the name, after all plugins are there', async () => {
    const folder = join(root, '/etc/cni/net.d')
    mkdirSync(folder, { recursive: true })
    const events: string[] = []
    const watcher = watch(folder, (event, name) => {
      if (name === '10-heddle.conflist') events.push(`${event} ${existsSync(join(root, bridge))}`)
    })
    const child = spawn(heddle, ['cni', 'install', '--from', build, '--root', root], { stdio: 'ignore' })
    await new Promise((resolve) => child.once('exit', resolve))
    await sleep(100)
    watcher.close()
    assert.deepEqual(events, ['rename true'])
  })

  test('uninstall refuses while a pod lives that was made with the plugins', () => {
    install()
    writeRecord(recordFolder(root), {
      version: 1,
      id: 'x',
      state: 'ready',
      type: 'bridge',
      network: 'n',
      containerId: 'c',
      ifname: 'eth0',
      netns: `/proc/${process.pid}/ns/net`,
      netnsId: netnsIdentity('/proc/self/ns/net') ?? '',
      pidns: netnsIdentity('/proc/self/ns/pid') ?? '',
      boot: bootId(),
      since: 1,
      config: {},
      args: [],
      path: [],
      rules: [],
    })
    const before = dump()
    const refused = uninstall()
    assert.equal(refused.code, 1)
    assert.match(refused.err, /1 attachments of living pods/)
    assert.deepEqual(dump(), before)
    assert.equal(uninstall('--force').code, 0)
  })

  test('machine-readable, in Chinese, and wrong command lines', () => {
    const told: unknown = JSON.parse(install('--json', '--no-conf', '--no-standalone').out)
    assert.deepEqual(told, {
      actions: ['bridge', 'portmap'].map((type) => ({ do: 'create', path: `/opt/cni/bin/${type}` })),
      conflicts: [],
      applied: true,
    })
    assert.match(install('--lang', 'zh').out, /新增 +\/etc\/cni\/net\.d/)
    assert.equal(install('--lib', '/elsewhere').code, 2)
    assert.equal(install('--conf-name', '../x.conflist').code, 2)
    assert.equal(install('--conf-name', 'x.conf').code, 2)
    assert.equal(cni(['install', '--from', root]).code, 1)
    put(join(dir, 'bad.conflist'), '{"name":"x","plugins":[]}')
    assert.match(install('--conflist', join(dir, 'bad.conflist')).err, /no plugins/)
    writeFileSync(join(root, '/var/lib/heddle/cni-install.json'), '{')
    assert.match(uninstall().err, /not what this version writes/)
  })
})

test('the real build, installed elsewhere, serves a call without an agent', () => {
  const real = join(import.meta.dirname, '../../dist')
  const made = cni(['install', '--from', real, '--bin', '/opt/cni/bin', '--lib', '/opt/cni', '--no-conf'])
  assert.equal(made.code, 0, made.err)
  const out = execFileSync(join(root, '/opt/cni/bin/static'), {
    encoding: 'utf8',
    input: JSON.stringify({
      cniVersion: '1.1.0',
      name: 'n',
      ipam: { type: 'static', addresses: [{ address: '10.0.0.5/24' }] },
    }),
    env: {
      HEDDLE_SOCKET: join(root, 'absent.sock'),
      HEDDLE_ROOT: root,
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: '/nonexistent',
      CNI_IFNAME: 'eth0',
      CNI_PATH: join(root, '/opt/cni/bin'),
    },
  })
  assert.match(out, /10\.0\.0\.5\/24/)
  assert.equal(uninstall().code, 0)
  assert.deepEqual(
    Object.keys(dump()).filter((path) => path.startsWith('/opt')),
    [],
  )
})

/** What a kill leaves half-written goes with the next installation. */
function withoutTemporary(files: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(files).filter(([path]) => !path.endsWith('.heddle-tmp')))
}
