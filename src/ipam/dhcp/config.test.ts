import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseNetConf } from '#cni/config.ts'
import type { JsonObject } from '#cni/json.ts'
import { dhcpConf, socketPathOf } from './config.ts'

const configOf = (ipam: JsonObject) =>
  parseNetConf({ name: 'n', type: 'bridge', cniVersion: '1.1.0', ipam: { type: 'dhcp', ...ipam } })
const of = (ipam: JsonObject, args: Record<string, string> = {}) =>
  dhcpConf(configOf(ipam), new Map(Object.entries(args)))
const textsOf = (ipam: JsonObject, args: Record<string, string> = {}) =>
  Array.from(of(ipam, args).provided, ([code, value]) => `${code}=${Buffer.from(value).toString()}`)

test('defaults', () => {
  assert.deepEqual(of({}), {
    requested: new Set([121, 33, 3, 1]),
    provided: new Map(),
    priority: 0,
    families: new Set([4]),
    rapidCommit: false,
    clientId: 'text',
  })
  assert.equal(socketPathOf(configOf({})), '/run/cni/dhcp.sock')
  assert.equal(socketPathOf(configOf({ daemonSocketPath: '/x.sock' })), '/x.sock')
  // Go writes what is absent as null.
  assert.deepEqual(of({ request: null, provide: null, priority: null, daemonSocketPath: null }), of({}))
})

test('request adds to the default options, or replaces them', () => {
  assert.deepEqual([...of({ request: [{ option: '42' }, { option: 'host-name' }] }).requested], [121, 33, 3, 1, 42, 12])
  assert.deepEqual([...of({ request: [{ option: 'subnet-mask', skipDefault: true }] }).requested], [1])
  assert.deepEqual([...of({ request: [{ skipDefault: true }] }).requested], [])
})

test('provide: a value, or what CNI_ARGS holds, which wins; nothing where it holds nothing', () => {
  const provide = [
    { option: 'host-name', value: 'usual', fromArg: 'K8S_POD_NAME' },
    { option: '60', value: 'heddle' },
    { option: 'user-class', fromArg: 'NO_SUCH' },
  ]
  assert.deepEqual(textsOf({ provide }), ['12=usual', '60=heddle'])
  assert.deepEqual(textsOf({ provide }, { K8S_POD_NAME: 'web' }), ['12=web', '60=heddle'])
})

test('what is wrong is named, with its value and what would be right', () => {
  const table: [JsonObject, RegExp][] = [
    [{ request: [{ option: 'router' }] }, /request\.0\.option "router" is no DHCP option.*routers/],
    [{ request: [{ option: '' }] }, /request\.0\.option "" is no DHCP option/],
    [{ provide: [{ option: '300', value: 'x' }] }, /provide\.0\.option "300"/],
    [{ provide: [{ option: '53', value: 'x' }] }, /option 53 cannot be provided/],
    [{ provide: [{ option: '12', value: 'x'.repeat(256) }] }, /256 bytes.*at most 255/],
    [{ priority: -1 }, /priority/],
    [{ families: [] }, /families/],
    [{ families: ['ipx'] }, /families/],
    [{ clientID: 'mac' }, /clientID/],
    [{ request: {} }, /request/],
  ]
  for (const [ipam, message] of table) assert.throws(() => of(ipam), { code: 7, message }, JSON.stringify(ipam))
  assert.throws(() => socketPathOf(configOf({ daemonSocketPath: 'x.sock' })), { code: 7, message: /absolute path/ })
})
