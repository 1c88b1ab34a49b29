import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { CniError } from './errors.ts'
import { fakeHost, scriptedPlugin, type Script } from './fake-host.ts'
import { isObject, type JsonObject } from './json.ts'
import type { GcInput } from './plugin.ts'
import { decodeResult } from './result/decode.ts'
import { runPlugin, type Answer } from './shell.ts'
import { specVersions, versionsFrom } from './version.ts'

const baseEnv: Readonly<Record<string, string>> = {
  CNI_CONTAINERID: 'some-container-id',
  CNI_NETNS: '/some/netns/path',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1;A=b',
  CNI_PATH: '/some/cni/path:/another',
}

const config = { cniVersion: '1.1.0', name: 'skel-test', type: 'noop', some: 'config' }

interface Case {
  readonly it: string
  readonly verb?: string
  /** Changes to the environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly stdin?: string | object
  readonly plugin?: Script
  /** Absent: success. */
  readonly code?: number
  readonly msg?: string | RegExp
  readonly details?: RegExp
  /** Verbs the plugin must have been called with. */
  readonly calls?: readonly string[]
}

const needs = (verb: string, names: Readonly<Record<string, boolean>>): Case[] =>
  Object.entries(names).map(([name, isRequired]) => ({
    it: `${verb} ${isRequired ? 'needs' : 'does without'} ${name}`,
    verb,
    env: { [name]: undefined },
    ...(isRequired
      ? { code: 4, msg: `required env variables [${name}] missing`, calls: [] }
      : { calls: verb === 'VERSION' ? [] : [verb] }),
  }))

const badIfname = (ifname: string, msg: string): Case => ({
  it: `refuses the interface name ${JSON.stringify(ifname)}`,
  env: { CNI_IFNAME: ifname },
  code: 4,
  msg,
  calls: [],
})

const sinceCases = (verb: 'CHECK' | 'GC' | 'STATUS', since: string): Case[] => [
  {
    it: `${verb} with a configuration that is too old`,
    verb,
    stdin: { ...config, cniVersion: '0.3.0' },
    code: 1,
    msg: `config version does not allow ${verb}`,
    calls: [],
  },
  {
    it: `${verb} with a plugin that is too old`,
    verb,
    stdin: { ...config, cniVersion: since },
    plugin: { versions: ['0.1.0', '0.2.0', '0.3.0'] },
    code: 1,
    msg: `plugin version does not allow ${verb}`,
    calls: [],
  },
  { it: `${verb} with a version that is none`, verb, stdin: { ...config, cniVersion: 'adsfsadf' }, code: 6, calls: [] },
  { it: `${verb} with a network name that is none`, verb, stdin: { ...config, name: 'te%%st' }, code: 7, calls: [] },
  {
    it: `${verb} with a plugin whose version is none`,
    verb,
    stdin: { ...config, cniVersion: since },
    plugin: { versions: ['0.1.0', '0.2.0', 'adsfasdf'] },
    code: 6,
    calls: [],
  },
  {
    it: `${verb} reports all that is missing`,
    verb,
    env: { CNI_PATH: undefined, CNI_IFNAME: '' },
    code: 4,
    msg:
      verb === 'CHECK'
        ? 'required env variables [CNI_IFNAME,CNI_PATH] missing'
        : 'required env variables [CNI_PATH] missing',
    calls: [],
  },
  { it: `${verb} calls nothing but ${verb}`, verb, calls: [verb] },
]

const cases: readonly Case[] = [
  { it: 'ADD calls ADD', calls: ['ADD'] },
  { it: 'DEL calls DEL', verb: 'DEL', calls: ['DEL'] },
  ...needs('ADD', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: true,
    CNI_NETNS: true,
    CNI_IFNAME: true,
    CNI_ARGS: false,
    CNI_PATH: true,
  }),
  ...needs('CHECK', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: true,
    CNI_NETNS: true,
    CNI_IFNAME: true,
    CNI_ARGS: false,
    CNI_PATH: true,
  }),
  ...needs('DEL', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: true,
    CNI_NETNS: false,
    CNI_IFNAME: true,
    CNI_ARGS: false,
    CNI_PATH: true,
  }),
  ...needs('GC', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: false,
    CNI_NETNS: false,
    CNI_IFNAME: false,
    CNI_ARGS: false,
    CNI_PATH: true,
  }),
  ...needs('STATUS', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: false,
    CNI_NETNS: false,
    CNI_IFNAME: false,
    CNI_ARGS: false,
    CNI_PATH: true,
  }),
  ...needs('VERSION', {
    CNI_COMMAND: true,
    CNI_CONTAINERID: false,
    CNI_NETNS: false,
    CNI_IFNAME: false,
    CNI_ARGS: false,
    CNI_PATH: false,
  }),
  {
    it: 'reports all missing variables at once',
    env: { CNI_NETNS: undefined, CNI_IFNAME: undefined, CNI_PATH: undefined },
    code: 4,
    msg: 'required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
    calls: [],
  },
  {
    it: 'refuses a container ID with other characters',
    env: { CNI_CONTAINERID: 'some-%%container-id' },
    code: 4,
    msg: 'invalid characters in containerID',
    details: /some-%%container-id/,
    calls: [],
  },
  {
    it: 'refuses a container ID with a slash',
    env: { CNI_CONTAINERID: '../../etc/passwd' },
    code: 4,
    msg: 'invalid characters in containerID',
    calls: [],
  },
  {
    it: 'looks at no container ID for GC',
    verb: 'GC',
    env: { CNI_CONTAINERID: '%%', CNI_IFNAME: 'a/b' },
    calls: ['GC'],
  },
  badIfname('1234567890123456', 'interface name is too long'),
  badIfname('ééééééèè', 'interface name is too long'),
  badIfname('.', 'interface name is . or ..'),
  badIfname('..', 'interface name is . or ..'),
  badIfname('test/test', 'interface name contains / or : or whitespace characters'),
  badIfname('test:test', 'interface name contains / or : or whitespace characters'),
  badIfname('test test', 'interface name contains / or : or whitespace characters'),
  badIfname('test\ttest', 'interface name contains / or : or whitespace characters'),
  { it: 'takes a name of 15 bytes', env: { CNI_IFNAME: '123456789012345' }, calls: ['ADD'] },
  {
    it: 'takes a configuration without a version for 0.1.0',
    stdin: { name: 'skel-test' },
    plugin: { versions: ['0.1.0'], result: decodeResult({ ip4: { ip: '10.0.0.2/24' } }, '0.1.0', 'test') },
    calls: ['ADD'],
  },
  {
    it: 'refuses a configuration without a version where the plugin has no 0.1.0',
    stdin: { name: 'skel-test' },
    plugin: { versions: ['4.3.2'] },
    code: 1,
    msg: 'incompatible CNI versions',
    details: /^config is "0\.1\.0", plugin supports \["4\.3\.2"\]$/,
    calls: [],
  },
  {
    it: 'refuses a version that the plugin does not list',
    stdin: { ...config, cniVersion: '0.2.0' },
    plugin: { versions: versionsFrom('0.3.0') },
    code: 1,
    msg: 'incompatible CNI versions',
    calls: [],
  },
  ...sinceCases('CHECK', '0.4.0'),
  ...sinceCases('GC', '1.1.0'),
  ...sinceCases('STATUS', '1.1.0'),
  { it: 'refuses an unknown verb', verb: 'NOPE', code: 4, msg: 'unknown CNI_COMMAND: NOPE', calls: [] },
  { it: 'refuses a verb in lower case', verb: 'add', code: 4, msg: 'unknown CNI_COMMAND: add', calls: [] },
  { it: 'refuses stdin that is empty', stdin: '', code: 6, calls: [] },
  { it: 'refuses stdin that is not JSON', stdin: '{"name": ', code: 6, calls: [] },
  { it: 'refuses stdin that is no object', stdin: '[1]', code: 6, calls: [] },
  {
    it: 'refuses JSON that is nested too deep',
    stdin: `{"name":"a","x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    code: 6,
    calls: [],
  },
  {
    it: 'refuses a missing network name',
    stdin: { cniVersion: '1.1.0' },
    code: 7,
    msg: 'missing network name',
    calls: [],
  },
  { it: 'refuses a network name with a slash', stdin: { ...config, name: '../x' }, code: 7, calls: [] },
  {
    it: 'refuses an IPAM type with a slash',
    stdin: { ...config, ipam: { type: '../../bin/sh' } },
    code: 7,
    msg: /ipam\.type "\.\.\/\.\.\/bin\/sh"/,
    calls: [],
  },
  {
    it: 'names key and value of a bad field',
    stdin: { ...config, ipMasq: 'yes' },
    code: 7,
    msg: /"ipMasq" is "yes": expected boolean/,
    calls: [],
  },
  {
    it: 'keeps __proto__ a harmless key',
    stdin: '{"cniVersion":"1.1.0","name":"a","__proto__":{"ipMasq":"x"},"capabilities":{"__proto__":true}}',
    calls: ['ADD'],
  },
  {
    it: 'refuses CNI_ARGS that are no pairs',
    env: { CNI_ARGS: 'some;extra;args' },
    code: 4,
    msg: /invalid pair "some"/,
    calls: [],
  },
  { it: 'gets a DEL through with such CNI_ARGS', verb: 'DEL', env: { CNI_ARGS: 'some;extra;args' }, calls: ['DEL'] },
  { it: 'refuses a prevResult that is none', stdin: { ...config, prevResult: [] }, code: 6, calls: [] },
  {
    it: 'names the bad key of a prevResult',
    stdin: { ...config, prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.0.0.300/24' }] } },
    code: 6,
    msg: /prevResult: "ips\.0\.address" is "10\.0\.0\.300\/24"/,
    calls: [],
  },
  { it: 'takes null for no prevResult', stdin: { ...config, prevResult: null }, calls: ['ADD'] },
  {
    it: 'gets a DEL through with a broken prevResult',
    verb: 'DEL',
    stdin: { ...config, prevResult: { ips: 7 } },
    calls: ['DEL'],
  },
  {
    it: 'passes a typed error on',
    plugin: { fail: () => new CniError(1234, 'insufficient something') },
    code: 1234,
    msg: 'insufficient something',
    calls: ['ADD'],
  },
  {
    it: 'gives an untyped error code 999',
    plugin: { fail: () => new Error('potato') },
    code: 999,
    msg: 'potato',
    calls: ['ADD'],
  },
  { it: 'survives a thrown string', plugin: { fail: () => 'potato' }, code: 999, msg: 'potato', calls: ['ADD'] },
  {
    it: 'refuses its own namespace for ADD before anything is done',
    env: { CNI_NETNS: '/proc/self/ns/net' },
    code: 8,
    calls: [],
  },
  { it: 'refuses its own namespace for DEL', verb: 'DEL', env: { CNI_NETNS: '/proc/self/ns/net' }, code: 8, calls: [] },
  {
    it: 'takes its own namespace where CNI_NETNS_OVERRIDE is 1',
    env: { CNI_NETNS: '/proc/self/ns/net', CNI_NETNS_OVERRIDE: '1' },
    calls: ['ADD'],
  },
  {
    it: 'takes its own namespace where CNI_NETNS_OVERRIDE is true',
    env: { CNI_NETNS: '/proc/self/ns/net', CNI_NETNS_OVERRIDE: 'true' },
    calls: ['ADD'],
  },
  {
    it: 'refuses valid attachments that are no list',
    verb: 'GC',
    stdin: { ...config, 'cni.dev/valid-attachments': {} },
    code: 7,
    calls: [],
  },
  {
    it: 'refuses a valid attachment without ifname',
    verb: 'GC',
    stdin: { ...config, 'cni.dev/valid-attachments': [{ containerID: 'a' }] },
    code: 7,
    msg: /valid-attachments\[0\]/,
    calls: [],
  },
  {
    it: 'cannot write an address-less result for 0.2.0',
    stdin: { ...config, cniVersion: '0.2.0' },
    code: 1,
    calls: ['ADD', 'DEL'],
  },
]

/** One JSON object or nothing; fails the test otherwise. */
function documentOf(answer: Answer): JsonObject | undefined {
  if (answer.stdout === '') return undefined
  const value: unknown = JSON.parse(answer.stdout)
  assert.ok(isObject(value))
  return value
}

const stringOf = (value: unknown): string => (typeof value === 'string' ? value : '')

for (const c of cases) {
  test(c.it, async () => {
    const plugin = scriptedPlugin(c.plugin)
    const stdin = typeof c.stdin === 'string' ? c.stdin : JSON.stringify(c.stdin ?? config)
    const env = { ...baseEnv, CNI_COMMAND: c.verb ?? 'ADD', ...c.env }
    const answer = await runPlugin(plugin, { env, stdin: () => stdin }, fakeHost())
    assert.deepEqual(
      plugin.calls.map(({ verb }) => verb),
      c.calls,
    )
    const document = documentOf(answer)
    if (c.code === undefined) {
      assert.equal(answer.exitCode, 0, answer.stdout)
      assert.equal(document !== undefined, (c.verb ?? 'ADD') === 'ADD' || c.verb === 'VERSION')
      return
    }
    assert.equal(answer.exitCode, 1)
    assert.equal(document?.['code'], c.code)
    const msg = stringOf(document['msg'])
    if (typeof c.msg === 'string') assert.equal(msg, c.msg)
    else if (c.msg !== undefined) assert.match(msg, c.msg)
    if (c.details !== undefined) assert.match(stringOf(document['details']), c.details)
    assert.ok(!answer.stdout.includes('    at '), 'no stack trace')
  })
}

test('hands environment and configuration to the plugin', async () => {
  const plugin = scriptedPlugin()
  await runPlugin(plugin, { env: { ...baseEnv, CNI_COMMAND: 'ADD' }, stdin: () => JSON.stringify(config) }, fakeHost())
  const input = plugin.calls[0]!.input
  assert.equal(input.containerId, 'some-container-id')
  assert.equal(input.netns, '/some/netns/path')
  assert.equal(input.ifname, 'eth0')
  assert.deepEqual(
    [...input.args],
    [
      ['IgnoreUnknown', '1'],
      ['A', 'b'],
    ],
  )
  assert.deepEqual(input.path, ['/some/cni/path', '/another'])
  assert.deepEqual(input.config.raw, config)
})

test('VERSION reads no stdin and lists what the plugin speaks', async () => {
  const plugin = scriptedPlugin({ versions: ['0.4.0', '1.0.0'] })
  const stdin = (): string => assert.fail('stdin was read')
  const answer = await runPlugin(plugin, { env: { CNI_COMMAND: 'VERSION' }, stdin }, fakeHost())
  assert.deepEqual(documentOf(answer), { cniVersion: '1.1.0', supportedVersions: ['0.4.0', '1.0.0'] })
})

test('prints what it is when run by hand, and fails without such a text', async () => {
  const plugin = scriptedPlugin({ versions: ['0.4.0', '1.0.0'] })
  const call = { env: {}, stdin: () => '' }
  const answer = await runPlugin(plugin, { ...call, about: 'A PLUGIN' }, fakeHost())
  assert.deepEqual(answer, {
    exitCode: 0,
    stdout: '',
    stderr: 'A PLUGIN\nCNI protocol versions supported: 0.4.0, 1.0.0\n',
  })
  const mute = await runPlugin(plugin, call, fakeHost())
  assert.equal(documentOf(mute)?.['msg'], 'required env variables [CNI_COMMAND] missing')
})

test('a stdin that cannot be read is an I/O failure', async () => {
  const stdin = (): Promise<string> => Promise.reject(new Error('banana'))
  const answer = await runPlugin(scriptedPlugin(), { env: { ...baseEnv, CNI_COMMAND: 'ADD' }, stdin }, fakeHost())
  assert.equal(documentOf(answer)?.['code'], 5)
  assert.equal(documentOf(answer)?.['msg'], 'error reading from stdin: banana')
})

test('GC hands over the valid attachments, under either key; none means an empty list', async () => {
  const valid = [{ containerID: 'a', ifname: 'eth0' }]
  const lists = [
    { 'cni.dev/valid-attachments': valid },
    { 'cni.dev/attachments': valid },
    {},
    { 'cni.dev/valid-attachments': null },
  ]
  const seen = await Promise.all(
    lists.map(async (list) => {
      const plugin = scriptedPlugin()
      const stdin = JSON.stringify({ ...config, ...list })
      await runPlugin(plugin, { env: { CNI_COMMAND: 'GC', CNI_PATH: '/x' }, stdin: () => stdin }, fakeHost())
      return (plugin.calls[0]!.input as GcInput).validAttachments
    }),
  )
  const one = [{ containerId: 'a', ifname: 'eth0' }]
  assert.deepEqual(seen, [one, one, [], []])
})

test('the plugin sees the path it can open, the runtime the one it gave', async () => {
  const plugin = scriptedPlugin()
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', sandbox: '/proc/self/fd/3' }, { name: 'veth1' }],
  }
  const stdin = JSON.stringify({ ...config, prevResult })
  const env = { ...baseEnv, CNI_COMMAND: 'ADD', CNI_NETNS: '/proc/self/fd/3' }
  const answer = await runPlugin(plugin, { env, stdin: () => stdin, netnsPath: '/proc/77/fd/3' }, fakeHost())
  const input = plugin.calls[0]!.input
  assert.equal(input.netns, '/proc/77/fd/3')
  assert.equal(input.prevResult?.interfaces[0]?.sandbox, '/proc/77/fd/3')
  assert.deepEqual(documentOf(answer), prevResult)
})

const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.json(),
  fc.json().map((json) => `{"name":"n","cniVersion":"1.1.0","prevResult":${json}}`),
  fc
    .dictionary(
      fc.constantFrom(
        'name',
        'cniVersion',
        'type',
        'ipam',
        'dns',
        'prevResult',
        'capabilities',
        'args',
        '__proto__',
        'cni.dev/valid-attachments',
      ),
      fc.jsonValue(),
    )
    .map((o) => JSON.stringify({ name: 'n', cniVersion: '1.1.0', ...o })),
)

test('whatever comes in: at most one JSON document, exit code 0 or an error with a code', async () => {
  const verb = fc.constantFrom('ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION', 'x')
  const word = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('a', 'eth0', '../a', ''))
  await fc.assert(
    fc.asyncProperty(verb, hostile, word, word, word, async (command, stdin, id, ifname, args) => {
      const env = { ...baseEnv, CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_IFNAME: ifname, CNI_ARGS: args }
      const answer = await runPlugin(scriptedPlugin(), { env, stdin: () => stdin }, fakeHost())
      const document = documentOf(answer)
      if (answer.exitCode === 0) return
      assert.equal(answer.exitCode, 1)
      assert.equal(typeof document?.['code'], 'number')
      assert.notEqual(document?.['code'], 999, `an uncoded error: ${answer.stdout}`)
      assert.ok(typeof document?.['msg'] === 'string' && document['msg'].length < 5000)
    }),
    { numRuns: 2000 },
  )
})

test('an answer is in the version of its configuration', async () => {
  const result = decodeResult({ ips: [{ address: '10.0.0.2/24' }] }, '1.1.0', 'test')
  for (const cniVersion of specVersions) {
    const stdin = JSON.stringify({ ...config, cniVersion })
    const answer = await runPlugin(
      scriptedPlugin({ result }),
      { env: { ...baseEnv, CNI_COMMAND: 'ADD' }, stdin: () => stdin },
      fakeHost(),
    )
    assert.equal(documentOf(answer)?.['cniVersion'], cniVersion)
  }
})
