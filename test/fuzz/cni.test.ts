/** Parsers of the CNI contract. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

import fc from 'fast-check'

import { decodeAnswer, decodeCall, encodeAnswer, encodeCall, frameLength, ProtocolError } from '#agent/cni/protocol.ts'
import { parseRecord } from '#cni/attachment/record.ts'
import { parseNetConf } from '#cni/config.ts'
import { parseCniArgs, readEnv, splitPath } from '#cni/env.ts'
import { CniError } from '#cni/errors.ts'
import { parseJsonObject } from '#cni/json.ts'
import { netnsIdentity } from '#cni/netns.ts'
import { decodePrevResult, parseResult } from '#cni/result/decode.ts'
import { cacheFile, listCache, readCachedResult } from '#cni/runtime/cache.ts'
import { findNetwork } from '#cni/runtime/confdir.ts'
import { parseConfList, parsePluginConf, parseSingleConf } from '#cni/runtime/conflist.ts'
import { compareVersions, parseVersion, specVersions } from '#cni/version.ts'
import { ownerOf } from '#ipam/host-local/index.ts'
import { parseRangeSets } from '#ipam/host-local/range.ts'
import { parseResolvConf } from '#ipam/resolv-conf.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import { bytes, damagedText, json, jsonText, mutated, survives, survivesLater, text } from './hostile.ts'

const folder = mkdtempSync(join(tmpdir(), 'heddle-fuzz-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const result = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', mac: '0a:00:00:00:00:01', sandbox: '/run/netns/x' }],
  ips: [{ interface: 0, address: '10.0.0.2/24', gateway: '10.0.0.1' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1', mtu: 1400 }],
  dns: { nameservers: ['10.0.0.1'], domain: 'a', search: ['a'], options: ['b'] },
}
const old = {
  cniVersion: '0.2.0',
  ip4: { ip: '10.0.0.2/24', gateway: '10.0.0.1', routes: [{ dst: '0.0.0.0/0' }] },
  ip6: { ip: 'fd00::2/64' },
  dns: {},
}
const conf = {
  cniVersion: '1.1.0',
  name: 'net',
  type: 'bridge',
  bridge: 'cni0',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.5', gateway: '10.0.0.1' }]] },
  dns: { nameservers: ['10.0.0.1'] },
  args: { cni: { ips: ['10.0.0.9'] } },
  runtimeConfig: { mac: '0a:00:00:00:00:01', portMappings: [{ hostPort: 1, containerPort: 2, protocol: 'tcp' }] },
  capabilities: { mac: true },
  prevResult: result,
}
const list = {
  cniVersion: '1.0.0',
  cniVersions: ['0.4.0'],
  name: 'net',
  disableCheck: false,
  plugins: [conf, { type: 'portmap' }],
}

const version = fc.oneof(fc.constantFrom(...specVersions), text)

test('configurations and lists of them', () => {
  fc.assert(fc.property(jsonText(conf), (it) => survives(() => parseNetConf(parseJsonObject(it, 'it')), CniError)))
  fc.assert(fc.property(jsonText(list), (it) => survives(() => parseConfList(it, 'it'), CniError)))
  fc.assert(fc.property(jsonText(conf), (it) => survives(() => parseSingleConf(it, 'it'), CniError)))
  fc.assert(fc.property(jsonText(conf), (it) => survives(() => parsePluginConf(it, 'it'), CniError)))
  fc.assert(fc.property(version, version, (a, b) => survives(() => [parseVersion(a), compareVersions(a, b)], CniError)))
})

test('results in every version', () => {
  const it = fc.tuple(jsonText(result, old), version)
  fc.assert(fc.property(it, ([stdout, asked]) => survives(() => parseResult(stdout, asked, 'it'), CniError)))
  const prev = fc.tuple(mutated([conf]), version)
  fc.assert(
    fc.property(prev, ([config, asked]) =>
      survives(() => decodePrevResult(parseJsonObject(JSON.stringify(config), 'it'), asked), CniError),
    ),
  )
})

test('the environment, and paths of namespaces', () => {
  const names = ['COMMAND', 'CONTAINERID', 'NETNS', 'IFNAME', 'ARGS', 'PATH', 'NETNS_OVERRIDE'].map(
    (name) => `CNI_${name}`,
  )
  const env = fc
    .tuple(
      fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION', 'add', ''),
      fc.array(fc.tuple(fc.constantFrom(...names), text), { maxLength: 7 }),
    )
    .map(([verb, others]) => ({ CNI_PATH: '/opt/cni/bin', ...Object.fromEntries(others), CNI_COMMAND: verb }))
  fc.assert(fc.property(env, (it) => survives(() => readEnv(it), CniError)))
  fc.assert(fc.property(text, (it) => survives(() => parseCniArgs(it), CniError)))
  fc.assert(fc.property(text, (it) => survives(() => [parseCniArgs(it, true), splitPath(it)])))
  fc.assert(fc.property(text, (it) => survives(() => netnsIdentity(it))))
})

test('frames between shim and agent', () => {
  const call = encodeCall({ env: { CNI_COMMAND: 'ADD', HEDDLE_TYPE: 'bridge' }, stdin: JSON.stringify(conf) })
  const answer = encodeAnswer({ exitCode: 1, stdout: '{}', stderr: 'x' })
  fc.assert(
    fc.property(bytes([call, answer]), (it) => {
      const frame = Buffer.from(it)
      survives(() => frameLength(frame), ProtocolError)
      survives(() => decodeCall(frame), ProtocolError)
      survives(() => decodeAnswer(frame), ProtocolError)
    }),
  )
})

test('files that runtimes and others keep: cache, configuration, addresses, subnet.env, resolv.conf, records', async () => {
  const key = { network: 'net', containerId: 'c', ifname: 'eth0' }
  const cached = {
    kind: 'cniCacheV1',
    containerId: 'c',
    config: Buffer.from(JSON.stringify(list)).toString('base64'),
    ifName: 'eth0',
    networkName: 'net',
    netns: '/run/netns/x',
    cniArgs: [['K', 'V']],
    capabilityArgs: { mac: 'x' },
    result,
  }
  const file = cacheFile(folder, key)
  mkdirSync(join(file, '..'), { recursive: true })
  await fc.assert(
    fc.asyncProperty(jsonText(cached, result), async (it) => {
      writeFileSync(file, it)
      await survivesLater(() => readCachedResult(folder, key, '1.0.0'), CniError)
      // One damaged file must not hide the others.
      await survivesLater(() => listCache(folder))
    }),
  )
  const confDir = join(folder, 'net.d')
  mkdirSync(confDir)
  await fc.assert(
    fc.asyncProperty(jsonText(list, conf), fc.constantFrom('conf', 'conflist', 'json'), async (it, extension) => {
      const path = join(confDir, `10-a.${extension}`)
      writeFileSync(path, it)
      await survivesLater(() => findNetwork(confDir, 'net'), CniError)
      rmSync(path)
    }),
  )
  fc.assert(fc.property(fc.oneof(damagedText(['c1\r\neth0']), text), (it) => survives(() => ownerOf(it))))
  fc.assert(
    fc.property(fc.oneof(json, mutated([conf.ipam.ranges])), (it) =>
      survives(() => parseRangeSets(it, 'ranges'), CniError),
    ),
  )
  const env =
    'FLANNEL_NETWORK=10.244.0.0/16,10.9.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_SUBNET=fd00::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
  fc.assert(fc.property(fc.oneof(damagedText([env]), text), (it) => survives(() => parseSubnetEnv(it))))
  const resolv = 'nameserver 10.0.0.1\nsearch a b\noptions ndots:5\ndomain x\n'
  fc.assert(fc.property(fc.oneof(damagedText([resolv]), text), (it) => survives(() => parseResolvConf(it))))
  fc.assert(fc.property(jsonText(cached, conf), (it) => survives(() => parseRecord(it))))
})
