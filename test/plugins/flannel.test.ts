import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { emptyResult, type Result } from '#cni/result.ts'
import type { PluginHost, PluginInput } from '#cni/plugin.ts'
import { tryAgain } from '#cni/errors.ts'
import { flannel } from '#plugins/flannel/plugin.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import { ipamHost } from './ipam-host.ts'
import { NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'

const ENV = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
const SIX = 'FLANNEL_IPV6_NETWORK=fd00:10::/56\nFLANNEL_IPV6_SUBNET=fd00:10:0:1::1/64\n'
const DUAL = ENV.replace('FLANNEL_MTU', `${SIX}FLANNEL_MTU`)
const conf = (extra: JsonObject = {}): JsonObject => ({ name: 'cbr0', type: 'flannel', ...extra })

interface Delegated {
  readonly verb: string
  readonly type: string
  readonly input: PluginInput
}

/** A host whose delegates only record. */
function recording(env: string | undefined) {
  const made = ipamHost()
  const calls: Delegated[] = []
  const state: { fail: string | undefined } = { fail: undefined }
  const run = async (verb: string, type: string, input: PluginInput): Promise<never> => {
    calls.push({ verb, type, input })
    if (state.fail === verb) throw tryAgain(`${verb} failed on purpose`)
    return (verb === 'ADD' ? emptyResult : undefined) as never
  }
  const { root } = made
  const nothing = (): void => {}
  // A kernel without any link.
  const netlink = Object.assign(Object.create(null), { find: nothing })
  const host: PluginHost = { root, failpoint: nothing, log: nothing, netlink, delegate: run }
  const envFile = join(made.root, 'run/flannel/subnet.env')
  fs.mkdirSync(join(made.root, 'run/flannel'), { recursive: true })
  if (env !== undefined) fs.writeFileSync(envFile, env)
  const dataDir = join(made.root, 'var/lib/cni/flannel')
  const records = (): string[] => (fs.existsSync(dataDir) ? fs.readdirSync(dataDir).sort() : [])
  return { host, calls, state, envFile, dataDir, records, [Symbol.dispose]: () => made[Symbol.dispose]() }
}

test('the delegate gets the rendered configuration, which is on disk first', async () => {
  using made = recording(DUAL)
  const raw = conf({
    delegate: { hairpinMode: true, isDefaultGateway: true },
    ipam: { routes: [{ dst: '192.168.0.0/16' }], dataDir: '/x' },
    runtimeConfig: { portMappings: [] },
    cniVersion: '0.3.1',
  })
  await flannel.add(inputOf(raw), made.host)
  assert.deepEqual(made.calls[0]?.input.config.raw, {
    ipMasq: false,
    mtu: 1450,
    isGateway: true,
    hairpinMode: true,
    isDefaultGateway: true,
    type: 'bridge',
    name: 'cbr0',
    cniVersion: '0.3.1',
    runtimeConfig: { portMappings: [] },
    ipam: {
      type: 'host-local',
      dataDir: '/x',
      ranges: [[{ subnet: '10.244.1.0/24' }], [{ subnet: 'fd00:10:0:1::/64' }]],
      routes: [{ dst: '192.168.0.0/16' }, { dst: '10.244.0.0/16' }, { dst: 'fd00:10::/56' }],
    },
  })
  assert.deepEqual(made.records(), ['cbr0:c1:eth0'])
  assert.equal(fs.statSync(made.dataDir).mode & 0o777, 0o700)
  assert.equal(fs.statSync(join(made.dataDir, 'cbr0:c1:eth0')).mode & 0o777, 0o600)
  await flannel.add(inputOf(conf(), { ifname: 'net1' }), made.host)
  assert.equal(made.records().length, 2, 'a second attachment has a record of its own')
})

test('what the user says about the delegate wins over the defaults', async () => {
  using made = recording(ENV.replace('MASQ=true', 'MASQ=false'))
  await flannel.add(inputOf(conf({ delegate: { type: 'ptp', mtu: 1200 } })), made.host)
  const { raw } = made.calls[0]!.input.config
  assert.deepEqual([raw['type'], raw['mtu'], raw['ipMasq'], raw['isGateway']], ['ptp', 1200, true, undefined])
})

test('until subnet.env is complete: ADD says try again (11), STATUS not available (50)', async () => {
  for (const env of [undefined, '', 'FLANNEL_NETWORK=10.244.0.0/16\n', ENV.slice(0, -6), ENV.replace('1450', 'x')]) {
    using made = recording(env)
    await assert.rejects(flannel.add(inputOf(conf()), made.host), { code: 11, message: /subnet\.env.*agent/ })
    await assert.rejects(flannel.status(inputOf(conf()), made.host), { code: 50, message: /subnet\.env/ })
    assert.deepEqual(made.records(), [])
    await flannel.del(inputOf(conf()), made.host)
    assert.deepEqual(made.calls, [])
  }
})

test('subnet.env: IPv6 alone is enough, several networks are taken, half a family is not', () => {
  const six =
    'FLANNEL_IPV6_NETWORK=fd00:10::/56\nFLANNEL_IPV6_SUBNET=fd00:10::1/64\nFLANNEL_MTU=1400\nFLANNEL_IPMASQ=false\n'
  assert.deepEqual(parseSubnetEnv(six), {
    networks: ['fd00:10::/56'],
    subnets: ['fd00:10::/64'],
    mtu: 1400,
    ipMasq: false,
  })
  const several = parseSubnetEnv(ENV.replace('10.244.0.0/16', '10.244.0.0/16,10.245.0.0/16'))
  assert.ok(typeof several === 'object' && several.networks.length === 2)
  assert.equal(parseSubnetEnv(ENV.replace(/FLANNEL_SUBNET.*\n/, '')), 'FLANNEL_SUBNET is missing')
  assert.equal(typeof parseSubnetEnv(ENV.replace('10.244.1.1/24', 'banana')), 'string')
})

test('DEL: the record goes only after the delegate succeeded; no subnet.env is needed', async () => {
  using made = recording(ENV)
  await flannel.add(inputOf(conf()), made.host)
  fs.rmSync(made.envFile)
  made.state.fail = 'DEL'
  await assert.rejects(flannel.del(inputOf(conf()), made.host), /on purpose/)
  assert.deepEqual(made.records(), ['cbr0:c1:eth0'])
  made.state.fail = undefined
  await flannel.del(inputOf(conf()), made.host)
  assert.deepEqual(made.records(), [])
  assert.equal(made.calls.at(-1)?.input.config.raw['mtu'], 1450)
})

test('a failed ADD is undone; what cannot be undone stays on record', async () => {
  using made = recording(ENV)
  made.state.fail = 'ADD'
  await assert.rejects(flannel.add(inputOf(conf()), made.host), /on purpose/)
  assert.deepEqual(
    made.calls.map(({ verb }) => verb),
    ['ADD', 'DEL'],
  )
  assert.deepEqual(made.records(), [])
})

test('records of the reference plugin are read, of its network only; a torn one is rendered anew', async () => {
  using made = recording(ENV)
  fs.mkdirSync(made.dataDir, { recursive: true })
  fs.writeFileSync(join(made.dataDir, 'c1'), JSON.stringify({ name: 'cbr0', type: 'ptp', mtu: 99 }))
  await flannel.del(inputOf(conf({ name: 'other' })), made.host)
  assert.deepEqual(made.records(), ['c1'])
  await flannel.del(inputOf(conf()), made.host)
  assert.deepEqual([made.calls.at(-1)?.type, made.records()], ['ptp', []])
  fs.writeFileSync(join(made.dataDir, 'cbr0:c2:eth0'), '')
  await flannel.del(inputOf(conf(), { containerId: 'c2' }), made.host)
  assert.deepEqual([made.calls.at(-1)?.type, made.records()], ['bridge', []])
})

test('GC deletes recorded attachments that are not valid, then has the delegate collect; CHECK and STATUS are passed on', async () => {
  using made = recording(ENV)
  for (const containerId of ['a', 'b']) await flannel.add(inputOf(conf(), { containerId }), made.host)
  await flannel.gc(gcInputOf(conf(), [{ containerId: 'a', ifname: 'eth0' }]), made.host)
  assert.deepEqual(made.records(), ['cbr0:a:eth0'])
  assert.deepEqual(
    made.calls.slice(2).map(({ verb, input }) => [verb, input.containerId]),
    [
      ['DEL', 'b'],
      ['GC', ''],
    ],
  )
  const prevResult: Result = emptyResult
  await flannel.check(inputOf(conf(), { containerId: 'a', prevResult }), made.host)
  await flannel.status(inputOf(conf()), made.host)
  assert.deepEqual(
    made.calls.slice(-2).map(({ verb }) => verb),
    ['CHECK', 'STATUS'],
  )
})

test('bad configurations name the field', async () => {
  using made = recording(ENV)
  const bad: [JsonObject, RegExp][] = [
    [{ delegate: { name: 'x' } }, /name/],
    [{ delegate: { ipam: {} } }, /ipam/],
    [{ delegate: { type: '../sh' } }, /\.\.\/sh/],
    [{ delegate: 5 }, /delegate/],
    [{ subnetFile: 5 }, /subnetFile/],
    [{ ipam: { routes: 'all' } }, /routes/],
  ]
  for (const [extra, message] of bad)
    await assert.rejects(flannel.add(inputOf(conf(extra)), made.host), { code: 7, message })
})

test('with the real bridge: pods of a node reach each other', async () => {
  using made = new NetworkHost()
  fs.mkdirSync(join(made.root, 'run/flannel'), { recursive: true })
  fs.writeFileSync(join(made.root, 'run/flannel/subnet.env'), DUAL)
  const raw = conf({ delegate: { hairpinMode: true, isDefaultGateway: true } })
  const [a, b] = [made.pod(), made.pod()]
  const first = await flannel.add(inputOf(raw, { containerId: 'a', netns: a }), made.host)
  const second = await flannel.add(inputOf(raw, { containerId: 'b', netns: b }), made.host)
  assert.equal(first.ips[0]?.address, '10.244.1.2/24')
  assert.ok(await ping(b, '10.244.1.2'))
  assert.ok(await ping(b, 'fd00:10:0:1::2'))
  assert.equal(second.interfaces[2]?.mtu, 1450)
  await flannel.check(inputOf(raw, { containerId: 'a', netns: a, prevResult: first }), made.host)
  await flannel.del(inputOf(raw, { containerId: 'a' }), made.host)
  await flannel.gc(gcInputOf(raw, []), made.host)
  assert.doesNotMatch(made.exec('ip', 'link'), /veth/)
  assert.deepEqual(fs.readdirSync(join(made.root, 'var/lib/cni/flannel')), [])
})

test('the subnet of the node changes: while pods are connected ADD says what to do, afterwards it mends the bridge', async () => {
  using made = new NetworkHost()
  const write = (env: string): void => {
    fs.mkdirSync(join(made.root, 'run/flannel'), { recursive: true })
    fs.writeFileSync(join(made.root, 'run/flannel/subnet.env'), env)
  }
  const raw = conf({ delegate: { isDefaultGateway: true } })
  const bridgeAddresses = (): string => made.exec('ip', '-o', 'address', 'show', 'dev', 'cni0', 'scope', 'global')
  const pods = ['a', 'b', 'c'].map((containerId) => ({ containerId, netns: made.pod() }))
  const [a, b, c] = pods
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  write(DUAL)
  await flannel.add(inputOf(raw, a), made.host)
  // Another cluster: neither subnet is in the network that was.
  write(DUAL.replaceAll('10.244.', '10.42.').replaceAll('fd00:10:', 'fd00:42:'))
  await assert.rejects(flannel.add(inputOf(raw, b), made.host), {
    code: 11,
    message:
      /"cni0" already has an IP address different from 10\.42\.1\.1\/24.*10\.244\.1\.1\/24.* 1 pods.*ip link delete cni0/s,
  })
  assert.match(bridgeAddresses(), /10\.244\.1\.1\/24/)
  await flannel.del(inputOf(raw, { containerId: 'a' }), made.host)
  await flannel.add(inputOf(raw, b), made.host)
  await flannel.add(inputOf(raw, c), made.host)
  assert.ok(await ping(b.netns, '10.42.1.3'))
  assert.match(bridgeAddresses(), /10\.42\.1\.1\/24/)
  assert.doesNotMatch(bridgeAddresses(), /10\.244/)
})

test('an address that is no gateway of a subnet is somebody else’s: it stays, and the plugin bridge says so', async () => {
  using made = new NetworkHost()
  fs.mkdirSync(join(made.root, 'run/flannel'), { recursive: true })
  fs.writeFileSync(join(made.root, 'run/flannel/subnet.env'), ENV)
  made.exec('ip', 'link', 'add', 'cni0', 'type', 'bridge')
  made.exec('ip', 'address', 'add', '192.168.50.7/24', 'dev', 'cni0')
  await assert.rejects(flannel.add(inputOf(conf(), { netns: made.pod() }), made.host), {
    code: 7,
    message: /192\.168\.50\.7/,
  })
  assert.match(made.exec('ip', 'address', 'show', 'dev', 'cni0'), /192\.168\.50\.7/)
})
