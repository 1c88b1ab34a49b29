import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { promisify } from 'node:util'

import { parseNetConf } from '#cni/config.ts'
import { CniError } from '#cni/errors.ts'
import { fakeHost, scriptedPlugin } from '#cni/fake-host.ts'
import { isObject, parseJsonObject, type JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { cacheFile, listCache } from '#cni/runtime/cache.ts'
import { parseConfList, type ConfList } from '#cni/runtime/conflist.ts'
import { pluginHost } from '#cni/runtime/delegate.ts'
import { execPlugin } from '#cni/runtime/exec.ts'
import type { PluginRegistry } from '#cni/runtime/find.ts'
import { createRuntime, type AttachmentRequest, type Runtime } from '#cni/runtime/runtime.ts'
// @ts-expect-error plain JavaScript without declarations
import { buildShim } from '../../native/shim/build.mjs'
import { installScripted, recordedCalls, recordedLines, type RecordedCall, type Step } from './scripted.ts'

let dir = ''
let log = ''
let bin = ''
let cacheDir = ''
let runtime: Runtime

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cni-runtime-'))
  log = join(dir, 'log')
  bin = join(dir, 'bin')
  cacheDir = join(dir, 'cache')
  await mkdir(bin)
  await installScripted(bin, ['one', 'two'])
  runtime = createRuntime({ path: ['/nonexistent', bin], cacheDir, env: { SCRIPT_LOG: log } })
})

afterEach(() => rm(dir, { recursive: true, force: true }))

type Script = Readonly<Record<string, Step>>

/** A list of the plugins `one` and `two`. */
function listOf(options: JsonObject = {}, one: Script = {}, two: Script = {}, more: JsonObject = {}): ConfList {
  const plugins = [
    { type: 'one', log, script: one, ...more },
    { type: 'two', log, script: two },
  ]
  return parseConfList(JSON.stringify({ name: 'net', cniVersion: '1.1.0', plugins, ...options }), 'test')
}

const at: AttachmentRequest = {
  containerId: 'c1',
  netns: '/var/run/netns/x',
  ifname: 'eth0',
  args: [
    ['A', 'b'],
    ['C', 'd'],
  ],
  capabilityArgs: { portMappings: [{ hostPort: 80 }], mac: 'x' },
}

const key = { network: 'net', containerId: 'c1', ifname: 'eth0' }
const resultOf = (address: string, cniVersion = '1.1.0'): string => JSON.stringify({ cniVersion, ips: [{ address }] })
const order = (calls: readonly RecordedCall[]): readonly string[] => calls.map(({ verb, type }) => `${verb} ${type}`)
const cached = async (): Promise<JsonObject> =>
  parseJsonObject(await readFile(cacheFile(cacheDir, key), 'utf8'), 'cache')

const hasError = (code: number, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CniError)
  assert.equal(error.code, code, error.message)
  assert.match(error.message, message)
  return true
}

test('ADD runs forward, hands each result on, and keeps the last in the cache', async () => {
  const list = listOf(
    {},
    { ADD: { stdout: resultOf('10.0.0.2/24') } },
    { ADD: { stdout: resultOf('10.0.0.3/24') } },
    { capabilities: { mac: true } },
  )
  const result = await runtime.add(list, at)
  assert.deepEqual(result, { cniVersion: '1.1.0', ips: [{ address: '10.0.0.3/24' }] })
  const calls = await recordedCalls(log)
  assert.deepEqual(order(calls), ['ADD one', 'ADD two'])
  assert.deepEqual(calls[0]?.env, {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/var/run/netns/x',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: 'A=b;C=d',
    CNI_PATH: `/nonexistent:${bin}`,
  })
  assert.deepEqual(
    [calls[0].config['name'], calls[0].config['cniVersion'], calls[0].config['prevResult']],
    ['net', '1.1.0', undefined],
  )
  assert.deepEqual([calls[0].config['runtimeConfig'], calls[1]?.config['runtimeConfig']], [{ mac: 'x' }, undefined])
  assert.deepEqual(calls[1]?.config['prevResult'], { cniVersion: '1.1.0', ips: [{ address: '10.0.0.2/24' }] })
  assert.deepEqual(await cached(), {
    kind: 'cniCacheV1',
    containerId: 'c1',
    config: Buffer.from(list.text).toString('base64'),
    ifName: 'eth0',
    networkName: 'net',
    netns: '/var/run/netns/x',
    cniArgs: at.args,
    capabilityArgs: at.capabilityArgs,
    result,
  })
  const file = await stat(cacheFile(cacheDir, key))
  const folder = await stat(join(cacheDir, 'results'))
  assert.deepEqual([file.mode & 0o777, folder.mode & 0o777], [0o600, 0o700])
  assert.deepEqual(await readdir(cacheDir), ['results'], 'no temporary file is left')
})

test('ADD stops at the first failure, with its code, and caches nothing', async () => {
  const list = listOf({}, { ADD: { exit: 1, stdout: '{"code":11,"msg":"later","details":"soon"}' } })
  await assert.rejects(runtime.add(list, at), hasError(11, /plugin type="one" failed \(add\): later: soon/))
  assert.deepEqual(order(await recordedCalls(log)), ['ADD one'])
  assert.deepEqual(await listCache(cacheDir), [])
})

const failures: readonly [what: string, step: Step, code: number, message: RegExp][] = [
  ['stderr only', { exit: 3, stderr: 'no such thing\n' }, 999, /netplugin failed: "no such thing".*exit status 3/],
  ['nothing at all', { exit: 2 }, 999, /netplugin failed with no error message.*exit status 2/],
  ['an error that is no JSON', { exit: 1, stdout: 'oops' }, 999, /error parsing its diagnostic message "oops"/],
  ['an error without code and msg', { exit: 1, stdout: '{"a":1}' }, 999, /error parsing its diagnostic message/],
  ['a result that is no JSON', { stdout: 'hello {}' }, 6, /the result of one is not JSON/],
  ['no result', { stdout: '' }, 6, /the result of one is empty/],
  ['a result of an unknown version', { stdout: '{"cniVersion":"9.0.0"}' }, 6, /unknown cniVersion/],
]
for (const [what, step, code, message] of failures) {
  test(`a plugin that answers ADD with ${what}`, async () => {
    await assert.rejects(runtime.add(listOf({}, { ADD: step }), at), hasError(code, message))
  })
}

test('a result without version is in that of the list; null is an empty one', async () => {
  const step = { ADD: { stdout: '{"ip4":{"ip":"10.0.0.2/24"}}' } }
  const result = await runtime.add(listOf({ cniVersion: '0.2.0' }, step), at)
  assert.deepEqual(result, { cniVersion: '0.2.0', ip4: { ip: '10.0.0.2/24' }, dns: {} })
  const empty = await runtime.add(listOf({}, { ADD: { stdout: 'null' } }), { ...at, containerId: 'c2' })
  assert.deepEqual(empty, { cniVersion: '1.1.0' })
})

test('a plugin that is not there', async () => {
  const list = parseConfList('{"name":"net","plugins":[{"type":"absent"}]}', 'test')
  await assert.rejects(runtime.add(list, at), hasError(7, /failed to find plugin "absent" in path \[\/nonexistent /))
})

test('bad names are refused before anything runs', async () => {
  await assert.rejects(runtime.add(listOf(), { ...at, containerId: '../x' }), hasError(4, /containerID/))
  await assert.rejects(runtime.add(listOf(), { ...at, containerId: '' }), hasError(3, /containerID/))
  await assert.rejects(runtime.del(listOf(), { ...at, ifname: 'a/b' }), hasError(4, /interface name/))
  assert.deepEqual(await recordedCalls(log), [])
})

test('DEL runs backward with the final result, then forgets it', async () => {
  const list = listOf({}, {}, { ADD: { stdout: resultOf('10.0.0.3/24') } })
  await runtime.add(list, at)
  await runtime.del(list, at)
  const calls = (await recordedCalls(log)).slice(2)
  assert.deepEqual(order(calls), ['DEL two', 'DEL one'])
  for (const call of calls)
    assert.deepEqual(call.config['prevResult'], { cniVersion: '1.1.0', ips: [{ address: '10.0.0.3/24' }] })
  assert.deepEqual(await listCache(cacheDir), [])
  await runtime.del(list, at)
  assert.equal((await recordedCalls(log)).at(-1)?.config['prevResult'], undefined)
})

test('DEL before 0.4.0 gets no result', async () => {
  const list = listOf({ cniVersion: '0.3.1' })
  await runtime.add(list, at)
  await runtime.del(list, at)
  assert.equal((await recordedCalls(log)).at(-1)?.config['prevResult'], undefined)
})

test('DEL stops at the first failure and keeps the cache', async () => {
  const list = listOf({}, {}, { DEL: { exit: 1, stdout: '{"code":100,"msg":"no"}' } })
  await runtime.add(list, at)
  await assert.rejects(runtime.del(list, at), hasError(100, /plugin type="two" failed \(delete\): no/))
  assert.deepEqual(order(await recordedCalls(log)), ['ADD one', 'ADD two', 'DEL two'])
  assert.ok(existsSync(cacheFile(cacheDir, key)))
})

for (const broken of ['', '{', '{"kind":"cniCacheV1","result":7}', '{"kind":"other","cniVersion":"9.9.9"}']) {
  test(`a cache file of ${JSON.stringify(broken)} hinders CHECK but not DEL`, async () => {
    await mkdir(join(cacheDir, 'results'), { recursive: true })
    await writeFile(cacheFile(cacheDir, key), broken)
    await assert.rejects(runtime.check(listOf(), at), CniError)
    await runtime.del(listOf(), at)
    const calls = await recordedCalls(log)
    assert.deepEqual(order(calls), ['DEL two', 'DEL one'])
    assert.equal(calls[0]?.config['prevResult'], undefined)
    assert.ok(!existsSync(cacheFile(cacheDir, key)))
  })
}

test('a cache file from before the format had a kind is the result itself', async () => {
  await mkdir(join(cacheDir, 'results'), { recursive: true })
  await writeFile(
    cacheFile(cacheDir, key),
    '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.9/24"}],"dns":{}}',
  )
  await runtime.check(listOf(), at)
  assert.deepEqual((await recordedCalls(log))[0]?.config['prevResult'], {
    cniVersion: '1.1.0',
    ips: [{ address: '10.0.0.9/24' }],
  })
})

test('CHECK runs forward, every plugin with the final result', async () => {
  const list = listOf({}, { ADD: { stdout: resultOf('10.0.0.2/24') } }, { ADD: { stdout: resultOf('10.0.0.3/24') } })
  await runtime.add(list, at)
  await runtime.check(list, at)
  const calls = (await recordedCalls(log)).slice(2)
  assert.deepEqual(order(calls), ['CHECK one', 'CHECK two'])
  for (const { config } of calls)
    assert.deepEqual(config['prevResult'], { cniVersion: '1.1.0', ips: [{ address: '10.0.0.3/24' }] })
})

test('CHECK is refused before 0.4.0 and skipped where the list says so', async () => {
  await assert.rejects(
    runtime.check(listOf({ cniVersion: '0.3.1' }), at),
    hasError(1, /does not support the CHECK command/),
  )
  await runtime.check(listOf({ disableCheck: true }), at)
  assert.deepEqual(await recordedCalls(log), [])
})

test('STATUS runs forward and stops at the first error, with its code', async () => {
  await runtime.status(listOf({ cniVersion: '1.0.0' }))
  assert.deepEqual(await recordedCalls(log), [])
  await runtime.status(listOf())
  assert.deepEqual(order(await recordedCalls(log)), ['STATUS one', 'STATUS two'])
  const down = listOf({}, { STATUS: { exit: 1, stdout: '{"code":50,"msg":"down"}' } })
  await assert.rejects(runtime.status(down), hasError(50, /^down$/))
  assert.deepEqual(order(await recordedCalls(log)).slice(2), ['STATUS one'])
})

test('GC deletes what is cached and not valid, then asks every plugin', async () => {
  const list = listOf()
  for (const containerId of ['keep', 'drop']) await runtime.add(list, { ...at, containerId })
  await runtime.add({ ...list, name: 'other' }, { ...at, containerId: 'drop' })
  await rm(log)
  await runtime.gc(list, [{ containerId: 'keep', ifname: 'eth0' }])
  const calls = await recordedCalls(log)
  assert.deepEqual(order(calls), ['DEL two', 'DEL one', 'GC one', 'GC two'])
  assert.deepEqual([calls[0]?.env['CNI_CONTAINERID'], calls[0]?.env['CNI_ARGS']], ['drop', 'A=b;C=d'])
  for (const { config } of calls.slice(2)) {
    const valid = [{ containerID: 'keep', ifname: 'eth0' }]
    assert.deepEqual([config['cni.dev/valid-attachments'], config['cni.dev/attachments']], [valid, valid])
  }
  const left = (await listCache(cacheDir)).map(({ network, containerId }) => `${network} ${containerId}`)
  assert.deepEqual(left, ['net keep', 'other drop'])
})

test('GC goes on after errors and reports them all', async () => {
  const fail = { exit: 1, stdout: '{"code":101,"msg":"no"}' }
  const list = listOf({}, { GC: fail }, { DEL: fail })
  await runtime.add(list, at)
  await assert.rejects(runtime.gc(list), hasError(101, /stale attachment c1 eth0.*failed to GC plugin one: no/))
  assert.deepEqual(order(await recordedCalls(log)).slice(2), ['DEL two', 'GC one', 'GC two'])
})

test('GC before 1.1.0 only deletes; with disableGC it does nothing', async () => {
  const list = listOf({ cniVersion: '1.0.0' })
  await runtime.add(list, at)
  await runtime.gc({ ...list, disableGc: true })
  await runtime.gc(list)
  assert.deepEqual(order(await recordedCalls(log)).slice(2), ['DEL two', 'DEL one'])
})

test('VERSION, and a plugin that does not know it', async () => {
  assert.deepEqual(await runtime.versions('one'), ['1.0.0'])
  const text = `#!${process.execPath}\nconsole.log('{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'); process.exitCode = 1`
  await writeFile(join(bin, 'old'), text, { mode: 0o755 })
  assert.deepEqual(await runtime.versions('old'), ['0.1.0'])
})

/** A process that init has not reaped yet has ended too. */
async function hasEnded(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return status === '' || /\) [ZX] /.test(status)
}

test('a plugin that hangs is killed with all that it started', async () => {
  const impatient = createRuntime({ path: [bin], cacheDir, deadlineMs: 1500 })
  await assert.rejects(
    impatient.add(listOf({}, { ADD: { hang: 60_000 } }), at),
    hasError(11, /did not answer within 1\.5 s/),
  )
  const pids = (await recordedLines(log)).map((line) => line['pid'] ?? line['child'])
  assert.equal(pids.length, 2)
  for (const pid of pids) {
    assert.ok(typeof pid === 'number')
    assert.ok(await hasEnded(pid), `process ${pid} still runs`)
  }
})

test('a plugin that does not read its stdin is no error', async () => {
  await writeFile(join(bin, 'deaf'), `#!${process.execPath}\nconsole.log('{"cniVersion":"1.1.0"}')`, { mode: 0o755 })
  const plugins = [{ type: 'deaf', filler: 'x'.repeat(1_000_000) }]
  const list = parseConfList(JSON.stringify({ name: 'net', cniVersion: '1.1.0', plugins }), 'test')
  assert.deepEqual(await runtime.add(list, at), { cniVersion: '1.1.0' })
})

async function installShim(type: string): Promise<string> {
  const built: unknown = buildShim()
  assert.ok(isObject(built) && typeof built['path'] === 'string')
  const file = join(bin, type)
  await copyFile(built['path'], file)
  await chmod(file, 0o755)
  return file
}

test('an executable that is being written is tried again', async () => {
  const file = await installShim('busy')
  const handle = await open(file, 'r+')
  setTimeout(() => void handle.close(), 300)
  const answer = await execPlugin({ file, env: {}, stdin: '', deadlineMs: 5000 })
  assert.match(answer.stderr, /^CNI plugin busy/)
})

test("Heddle's own plugins run in this process where CNI_PATH leads to a shim, foreign ones are executed", async () => {
  await rm(join(bin, 'one'))
  await installShim('one')
  const own = scriptedPlugin({ type: 'one' })
  const two = scriptedPlugin({ type: 'two' })
  const registry: PluginRegistry = new Map([
    ['one', own],
    ['two', two],
  ])
  const both = createRuntime({ path: [bin], cacheDir, inProcess: { registry, host: fakeHost } })
  await both.add(listOf(), at)
  assert.deepEqual(
    own.calls.map(({ verb, input }) => `${verb} ${input.containerId}`),
    ['ADD c1'],
  )
  assert.deepEqual(two.calls, [])
  assert.deepEqual(order(await recordedCalls(log)), ['ADD two'])
})

function inputOf(config: JsonObject): PluginInput {
  return {
    ...at,
    args: new Map([['A', 'b']]),
    path: [bin],
    config: parseNetConf({ name: 'net', cniVersion: '1.1.0', log, ...config }),
  }
}

test("a delegate gets the whole configuration and the caller's environment", async () => {
  const host = pluginHost(fakeHost(), { registry: new Map(), env: { CNI_NETNS_OVERRIDE: '1' }, deadlineMs: 5000 })
  const script = { ADD: { stdout: resultOf('10.0.0.2/24'), stderr: 'a log line' } }
  const result = await host.delegate('ADD', 'one', inputOf({ type: 'main', ipam: { type: 'one' }, script }))
  assert.equal(result.ips[0]?.address, '10.0.0.2/24')
  const [call] = await recordedCalls(log)
  assert.deepEqual(call?.config, { name: 'net', cniVersion: '1.1.0', log, type: 'main', ipam: { type: 'one' }, script })
  assert.deepEqual([call.env['CNI_COMMAND'], call.env['CNI_NETNS_OVERRIDE'], call.env['CNI_ARGS']], ['ADD', '1', 'A=b'])
})

test('a delegate whose ADD fails is undone', async () => {
  const host = pluginHost(fakeHost(), { registry: new Map(), env: {}, deadlineMs: 5000 })
  const script = { ADD: { exit: 1, stdout: '{"code":11,"msg":"full"}' } }
  await assert.rejects(host.delegate('ADD', 'one', inputOf({ script })), hasError(11, /full/))
  assert.deepEqual(order(await recordedCalls(log)), ['ADD one', 'DEL one'])
})

test('a delegate of ours runs in this process, with its version checked', async () => {
  const own = scriptedPlugin({ type: 'ours', versions: ['1.1.0'] })
  const host = pluginHost(fakeHost(), { registry: new Map([['ours', own]]), env: {}, deadlineMs: 5000 })
  await host.delegate('CHECK', 'ours', inputOf({}))
  await assert.rejects(
    host.delegate('ADD', 'ours', inputOf({ cniVersion: '1.0.0' })),
    hasError(1, /incompatible CNI versions/),
  )
  await assert.rejects(host.delegate('GC', 'ours', inputOf({})), hasError(999, /without validAttachments/))
  await assert.rejects(host.delegate('ADD', '../one', inputOf({})), hasError(7, /invalid plugin type/))
  assert.deepEqual(
    own.calls.map(({ verb }) => verb),
    ['CHECK'],
  )
})

test('heddle cni: the result on stdout, errors on stderr with exit code 1', async () => {
  const netDir = join(dir, 'net.d')
  await mkdir(netDir)
  await writeFile(join(netDir, 'a.conflist'), listOf({}, { ADD: { stdout: resultOf('10.0.0.2/24') } }).text)
  const heddle = join(import.meta.dirname, '..', '..', 'bin', 'heddle')
  const env = {
    PATH: process.env['PATH'],
    CNI_PATH: bin,
    NETCONFPATH: netDir,
    CNI_ARGS: 'K=v',
    CAP_ARGS: '{"mac":"x"}',
  }
  const run = (...args: string[]) => promisify(execFile)(heddle, ['cni', ...args, '--cache-dir', cacheDir], { env })
  const { stdout } = await run('add', 'net', '/var/run/netns/x', '-i', 'net7')
  assert.deepEqual(JSON.parse(stdout), { cniVersion: '1.1.0', ips: [{ address: '10.0.0.2/24' }] })
  const [call] = await recordedCalls(log)
  // printf /var/run/netns/x | sha512sum
  assert.deepEqual(
    [call?.env['CNI_CONTAINERID'], call?.env['CNI_IFNAME'], call?.env['CNI_ARGS']],
    ['cnitool-4acf487154af9777be71', 'net7', 'K=v'],
  )
  await run('check', 'net', '/var/run/netns/x', '-i', 'net7')
  await run('gc', 'net')
  assert.deepEqual(await listCache(cacheDir), [])
  const versions = await run('version', 'net')
  assert.deepEqual(JSON.parse(versions.stdout), { one: ['1.0.0'], two: ['1.0.0'] })
  await assert.rejects(run('add', 'absent', '/x'), {
    code: 1,
    stdout: '',
    stderr: /no net configuration with name "absent"/,
  })
})
