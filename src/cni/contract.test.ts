import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseNetConf } from './config.ts'
import { deriveConfig } from './derive.ts'
import { formatCniArgs, parseCniArgs, refuseUnknownArgs } from './env.ts'
import { CniError, cniErrorCodes, joinErrors, messageOf, toCniError, tryAgain } from './errors.ts'
import { excerpt, parseJson } from './json.ts'
import { emptyResult } from './result.ts'
import { compareVersions, isAtLeast, parseVersion, versionsFrom } from './version.ts'

const hasCode = (code: number) => (error: unknown) => error instanceof CniError && error.code === code

test('versions compare by number', () => {
  assert.deepEqual(parseVersion('1'), [1, 0, 0])
  assert.deepEqual(parseVersion(''), [0, 1, 0])
  for (const bad of ['1.0.0.0', 'x', '1.', '-1.0.0', '1.0.0-rc1']) assert.equal(parseVersion(bad), undefined)
  assert.ok((compareVersions('0.10.0', '0.9.9') ?? 0) > 0)
  assert.equal(isAtLeast('0.3.1', '0.4.0'), false)
  assert.equal(isAtLeast('x', '0.4.0'), undefined)
  assert.deepEqual(versionsFrom('0.4.0'), ['0.4.0', '1.0.0', '1.1.0'])
})

test('the shared fields of a configuration and their defaults', () => {
  const bare = parseNetConf({ name: 'a' })
  assert.deepEqual(
    [bare.cniVersion, bare.type, bare.ipMasq, bare.ipam, bare.dns],
    ['0.1.0', '', false, { type: '', raw: {} }, {}],
  )
  const raw = {
    name: 'a',
    cniVersion: '1.0.0',
    type: 'bridge',
    ipMasq: true,
    ipam: { type: 'host-local', subnet: '10.0.0.0/24' },
    dns: { nameservers: null, search: ['x'] },
    runtimeConfig: { mac: 'y' },
    args: { cni: {} },
    capabilities: { mac: true },
    mtu: 9000,
  }
  const conf = parseNetConf(raw)
  assert.equal(conf.raw, raw)
  assert.deepEqual(conf.ipam, { type: 'host-local', raw: raw.ipam })
  assert.deepEqual(conf.dns, { search: ['x'] })
  assert.deepEqual(
    [conf.ipMasq, conf.runtimeConfig, conf.args, conf.capabilities],
    [true, { mac: 'y' }, { cni: {} }, { mac: true }],
  )
})

test('the keys of runtimeConfig may be spelt as containerd does', () => {
  const runtimeConfig = {
    portMappings: [
      { HostPort: 80, ContainerPort: 8080, Protocol: 'tcp', HostIP: '' },
      { hostPort: 1, HostPort: 2 },
    ],
    ipRanges: [[{ Subnet: '10.0.0.0/24', rangeStart: '10.0.0.9' }]],
    bandwidth: { IngressRate: 1, EGRESSBURST: 2 },
    dns: { Servers: ['1.1.1.1'] },
    'io.kubernetes.cri.pod-annotations': { HostPort: 'kept' },
    mac: 'x',
    __proto__x: { HostPort: 1 },
  }
  assert.deepEqual(parseNetConf({ name: 'a', runtimeConfig }).runtimeConfig, {
    portMappings: [
      { hostPort: 80, containerPort: 8080, protocol: 'tcp', hostIP: '' },
      { hostPort: 1, HostPort: 2 },
    ],
    ipRanges: [[{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.9' }]],
    bandwidth: { ingressRate: 1, egressBurst: 2 },
    dns: { servers: ['1.1.1.1'] },
    'io.kubernetes.cri.pod-annotations': { HostPort: 'kept' },
    mac: 'x',
    __proto__x: { HostPort: 1 },
  })
})

test('a plugin gets name, version, previous result and the capabilities it declares', () => {
  const plugin = { type: 'x', capabilities: { portMappings: true, mac: false, ips: true }, extra: [1] }
  const derived = deriveConfig(plugin, {
    name: 'net',
    cniVersion: '1.1.0',
    prevResult: emptyResult,
    capabilityArgs: { portMappings: [{ hostPort: 1 }], mac: 'm', bandwidth: {} },
  })
  assert.deepEqual(derived, {
    ...plugin,
    name: 'net',
    cniVersion: '1.1.0',
    prevResult: { cniVersion: '1.1.0' },
    runtimeConfig: { portMappings: [{ hostPort: 1 }] },
  })
  const none = deriveConfig(plugin, { name: 'net', cniVersion: '1.1.0', capabilityArgs: { mac: 'm' } })
  assert.deepEqual(none, { ...plugin, name: 'net', cniVersion: '1.1.0' })
})

test('GC gets the valid attachments under both keys, and none where there is no list', () => {
  const from = { name: 'n', cniVersion: '1.1.0' }
  const list = [{ containerID: 'a', ifname: 'eth0' }]
  const derived = deriveConfig({ type: 'x' }, { ...from, validAttachments: [{ containerId: 'a', ifname: 'eth0' }] })
  assert.deepEqual([derived['cni.dev/valid-attachments'], derived['cni.dev/attachments']], [list, list])
  assert.deepEqual(Object.keys(deriveConfig({ type: 'x' }, from)), ['type', 'name', 'cniVersion'])
})

test('CNI_ARGS: pairs, values with an equals sign, empty segments', () => {
  const args = parseCniArgs('A=1;B=x=y;;C=;')
  assert.deepEqual(
    [...args],
    [
      ['A', '1'],
      ['B', 'x=y'],
      ['C', ''],
    ],
  )
  assert.equal(formatCniArgs(args), 'A=1;B=x=y;C=')
  assert.throws(() => parseCniArgs('A=1;B'), hasCode(4))
  assert.throws(() => parseCniArgs('=1'), hasCode(4))
  assert.deepEqual([...parseCniArgs('A=1;B', true)], [['A', '1']])
})

test('unknown CNI_ARGS are refused unless IgnoreUnknown says otherwise', () => {
  refuseUnknownArgs(parseCniArgs('IP=10.0.0.1;K8S_POD_NAME=x'), ['IP'])
  refuseUnknownArgs(parseCniArgs('X=1;IgnoreUnknown=TRUE'), ['IP'])
  assert.throws(() => refuseUnknownArgs(parseCniArgs('X=1'), ['IP']), hasCode(4))
  assert.throws(() => refuseUnknownArgs(parseCniArgs('X=1;IgnoreUnknown=0'), ['IP']), hasCode(4))
  assert.throws(() => refuseUnknownArgs(parseCniArgs('IgnoreUnknown=maybe'), []), hasCode(4))
})

test('errors know their code and its meaning', () => {
  assert.equal(tryAgain('x').code, 11)
  assert.equal(tryAgain('x').kind, 'tryAgain')
  assert.equal(new CniError(123, 'x').kind, undefined)
  assert.deepEqual(JSON.parse(JSON.stringify(tryAgain('x', 'y'))), { code: 11, msg: 'x', details: 'y' })
  assert.deepEqual(JSON.parse(JSON.stringify(tryAgain('x'))), { code: 11, msg: 'x' })
  assert.equal(new Set(Object.values(cniErrorCodes)).size, Object.keys(cniErrorCodes).length)
  const cause = new TypeError('boom')
  assert.equal(toCniError(cause).code, 999)
  assert.equal(toCniError(cause).cause, cause)
  assert.equal(messageOf(new Error('a\n  b')), 'a b')
})

test('several errors become one with the first code', () => {
  assert.equal(joinErrors([]), undefined)
  const joined = joinErrors([tryAgain('a'), new Error('b')])
  assert.equal(joined?.code, 11)
  assert.equal(joined.msg, 'a; b')
})

test('JSON is bounded, and excerpts are short and on one line', () => {
  assert.throws(() => parseJson('['.repeat(257) + ']'.repeat(257), 'x'), hasCode(6))
  assert.deepEqual(parseJson(`"${'['.repeat(1000)}\\"["`, 'x'), `${'['.repeat(1000)}"[`)
  assert.ok(excerpt('\n\u001b[31m'.repeat(100)).length <= 64)
  assert.ok(!excerpt('\n\u001b').includes('\u001b'))
})
