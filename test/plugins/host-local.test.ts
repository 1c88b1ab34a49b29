import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { hostLocal } from '#ipam/host-local/plugin.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { ipamHost, type IpamHost } from './ipam-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { reference, referenceMissing } from './reference.ts'

const conf = (ipam: object = {}, extra: object = {}) => ({
  name: 'net1',
  type: 'bridge',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.2.0/28' }]], ...ipam },
  ...extra,
})
const dual = conf({ ranges: [[{ subnet: '10.1.2.0/28' }], [{ subnet: 'fd00:1::/64' }]] })
const dir = (made: IpamHost): string => join(made.root, 'var/lib/cni/networks/net1')
const addresses = (made: IpamHost): string[] =>
  fs
    .readdirSync(dir(made))
    .filter((name) => /^[0-9a-f.:]+$/.test(name))
    .sort()
const put = (made: IpamHost, name: string, content: string): void => {
  fs.mkdirSync(dir(made), { recursive: true })
  fs.writeFileSync(join(dir(made), name), content)
}

test('ADD writes the reference format; DEL leaves nothing', async () => {
  using made = ipamHost()
  const result = await hostLocal.add(
    inputOf(conf({ ranges: dual.ipam.ranges, routes: [{ dst: '0.0.0.0/0' }] })),
    made.host,
  )
  assert.deepEqual(result, {
    interfaces: [],
    ips: [
      { address: '10.1.2.2/28', gateway: '10.1.2.1' },
      { address: 'fd00:1::2/64', gateway: 'fd00:1::1' },
    ],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: {},
  })
  assert.equal(fs.readFileSync(join(dir(made), '10.1.2.2'), 'utf8'), 'c1\r\neth0')
  assert.equal(fs.readFileSync(join(dir(made), 'fd00:1::2'), 'utf8'), 'c1\r\neth0')
  assert.equal(fs.statSync(join(dir(made), '10.1.2.2')).mode & 0o777, 0o600)
  assert.equal(fs.statSync(dir(made)).mode & 0o777, 0o755)
  assert.equal(fs.readFileSync(join(dir(made), 'last_reserved_ip.1'), 'utf8'), 'fd00:1::2')
  await hostLocal.check(inputOf(dual, { prevResult: result }), made.host)
  await hostLocal.del(inputOf(dual, { prevResult: result }), made.host)
  await hostLocal.del(inputOf(dual), made.host)
  assert.deepEqual(fs.readdirSync(dir(made)).sort(), ['last_reserved_ip.0', 'last_reserved_ip.1', 'lock'])
  const next = await hostLocal.add(inputOf(dual), made.host)
  assert.equal(next.ips[0]?.address, '10.1.2.3/28', 'a released address rests')
})

test('DEL before any ADD succeeds and creates nothing', async () => {
  using made = ipamHost()
  await hostLocal.del(inputOf(conf()), made.host)
  await hostLocal.gc(gcInputOf(conf(), []), made.host)
  assert.deepEqual(fs.readdirSync(made.root), [])
})

test('a second ADD is refused and keeps the first address', async () => {
  using made = ipamHost()
  await hostLocal.add(inputOf(dual), made.host)
  await assert.rejects(hostLocal.add(inputOf(dual), made.host), { code: 7, message: /duplicate allocation/ })
  assert.deepEqual(addresses(made), ['10.1.2.2', 'fd00:1::2'])
  await hostLocal.add(inputOf(dual, { ifname: 'net1' }), made.host)
  assert.equal(addresses(made).length, 4)
})

test('a full set: ADD code 11, STATUS code 50, nothing of the other set stays', async () => {
  using made = ipamHost()
  const small = conf({ ranges: [[{ subnet: 'fd00:1::/64' }], [{ subnet: '10.1.2.0/30' }]] })
  await hostLocal.status(inputOf(small), made.host)
  await hostLocal.add(inputOf(small), made.host)
  await assert.rejects(hostLocal.add(inputOf(small, { containerId: 'c2' }), made.host), {
    code: 11,
    message: /no IP addresses available in range set: 10\.1\.2\.1-10\.1\.2\.2/,
  })
  await assert.rejects(hostLocal.status(inputOf(small), made.host), { code: 50 })
  assert.deepEqual(addresses(made), ['10.1.2.2', 'fd00:1::2'])
  await hostLocal.del(inputOf(small), made.host)
  await hostLocal.status(inputOf(small), made.host)
})

test('requested addresses in all three ways', async () => {
  using made = ipamHost()
  const ask = async (id: string, extra: object, args = {}): Promise<readonly string[]> => {
    const result = await hostLocal.add(inputOf(conf(dual.ipam, extra), { containerId: id, args }), made.host)
    return result.ips.map((ip) => ip.address)
  }
  assert.deepEqual(await ask('a', {}, { IP: '10.1.2.9' }), ['10.1.2.9/28', 'fd00:1::2/64'])
  assert.deepEqual(await ask('b', { args: { cni: { ips: ['10.1.2.10/24', 'FD00:1::99'] } } }), [
    '10.1.2.10/28',
    'fd00:1::99/64',
  ])
  assert.deepEqual(await ask('c', { runtimeConfig: { ips: ['fd00:1::77'] } }), ['10.1.2.11/28', 'fd00:1::77/64'])
  await assert.rejects(ask('d', {}, { IP: '10.1.2.9' }), {
    code: 11,
    message: /10\.1\.2\.9 is not available.*container a/,
  })
  await assert.rejects(ask('d', {}, { IP: '10.1.2.1' }), { code: 7, message: /gateway/ })
  await assert.rejects(ask('d', {}, { IP: '10.9.9.9' }), { code: 7, message: /not in any free range set: 10\.9\.9\.9/ })
  await assert.rejects(ask('d', { runtimeConfig: { ips: ['10.1.2.12', '10.1.2.13'] } }), {
    code: 7,
    message: /10\.1\.2\.13/,
  })
  await assert.rejects(ask('d', {}, { IP: 'banana' }), { code: 4, message: /banana/ })
  assert.equal(addresses(made).length, 6)
})

test('the ipRanges capability comes first, then the single subnet, then ranges', async () => {
  using made = ipamHost()
  const input = inputOf(
    conf(
      { subnet: '10.2.0.0/24', gateway: '10.2.0.254', ranges: [[{ subnet: '10.3.0.0/24' }]] },
      { runtimeConfig: { ipRanges: [[{ subnet: '10.9.0.0/24', rangeStart: '10.9.0.7' }]] } },
    ),
  )
  const result = await hostLocal.add(input, made.host)
  assert.deepEqual(result.ips, [
    { address: '10.9.0.7/24', gateway: '10.9.0.1' },
    { address: '10.2.0.1/24', gateway: '10.2.0.254' },
    { address: '10.3.0.2/24', gateway: '10.3.0.1' },
  ])
})

test('bad configurations are refused with the field named, and touch nothing', async () => {
  using made = ipamHost()
  const bad: [object, RegExp][] = [
    [{ ranges: [] }, /no address ranges/],
    [{ ranges: 'all' }, /ipam\.ranges/],
    [{ routes: [{ dst: 'everywhere' }] }, /routes/],
    [{ dataDir: 5 }, /dataDir/],
    [{ ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.2.0/24' }]] }, /overlaps/],
    [{ subnet: '10.1.2.3/24' }, /ipam\[0\]\.subnet|ipam.*subnet.*host bits/],
  ]
  for (const [ipam, message] of bad)
    await assert.rejects(hostLocal.add(inputOf(conf(ipam)), made.host), { code: 7, message })
  const old = conf({ ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]] }, { cniVersion: '0.2.0' })
  await assert.rejects(hostLocal.add(inputOf(old), made.host), { code: 7, message: /0\.2\.0/ })
  await assert.rejects(hostLocal.add(inputOf(conf({ resolvConf: '/nonexistent' })), made.host), { code: 5 })
  assert.deepEqual(fs.readdirSync(made.root), [])
})

test('CHECK finds a missing file, a stolen address and an extra one', async () => {
  using made = ipamHost()
  const prevResult = await hostLocal.add(inputOf(dual), made.host)
  const check = (): Promise<void> => hostLocal.check(inputOf(dual, { prevResult }), made.host)
  await check()
  put(made, '10.1.2.7', 'c1\r\neth0')
  await assert.rejects(check(), { code: 100, message: /10\.1\.2\.7/ })
  fs.rmSync(join(dir(made), '10.1.2.7'))
  await check()
  fs.rmSync(join(dir(made), '10.1.2.2'))
  put(made, '10.1.2.2', 'other\r\neth0')
  await assert.rejects(check(), { code: 100, message: /10\.1\.2\.2 not reserved/ })
})

test('GC keeps the valid, drops the rest, and leaves what is none of its business', async () => {
  using made = ipamHost()
  for (const containerId of ['a', 'b', 'c']) await hostLocal.add(inputOf(dual, { containerId }), made.host)
  put(made, '10.1.2.10', 'old-style')
  put(made, '10.1.2.11', 'a')
  put(made, '10.1.2.12', '')
  fs.mkdirSync(join(dir(made), '10.1.2.13'))
  fs.writeFileSync(join(dir(made), 'note.txt'), 'x')
  await hostLocal.gc(gcInputOf(conf({}, { name: 'net2' }), []), made.host)
  assert.equal(addresses(made).length, 10, "another network's GC touches nothing")
  await hostLocal.gc(
    gcInputOf(conf(), [
      { containerId: 'a', ifname: 'eth0' },
      { containerId: 'z', ifname: 'eth0' },
    ]),
    made.host,
  )
  assert.deepEqual(
    addresses(made),
    ['10.1.2.11', '10.1.2.12', '10.1.2.13', '10.1.2.2', 'fd00:1::2'],
    'the torn file might be of z',
  )
  await hostLocal.gc(gcInputOf(conf(), [{ containerId: 'a', ifname: 'eth0' }]), made.host)
  assert.deepEqual(addresses(made), ['10.1.2.11', '10.1.2.13', '10.1.2.2', 'fd00:1::2'])
  assert.ok(fs.existsSync(join(dir(made), 'note.txt')))
  await hostLocal.gc(gcInputOf(conf(), []), made.host)
  assert.deepEqual(addresses(made), ['10.1.2.13'])
})

test('torn files of a power loss are used again when nothing else is free, and never before', async () => {
  using made = ipamHost()
  put(made, '10.1.2.2', '')
  put(made, '10.1.2.3', '\0\0\0\0')
  put(made, '10.1.2.4', 'reserved by hand')
  const given = new Set<string>()
  for (let i = 0; i < 12; i++) {
    const result = await hostLocal.add(inputOf(conf(), { containerId: `c${i}` }), made.host)
    given.add(result.ips[0]!.address)
  }
  assert.equal(given.size, 12)
  assert.ok(!given.has('10.1.2.4/28'))
  await assert.rejects(hostLocal.add(inputOf(conf(), { containerId: 'late' }), made.host), { code: 11 })
})

test('what other programs do to the directory between calls is seen', async () => {
  using made = ipamHost()
  await hostLocal.add(inputOf(conf()), made.host)
  fs.rmSync(join(dir(made), '10.1.2.2'))
  await hostLocal.add(inputOf(conf()), made.host)
  put(made, '10.1.2.4', 'foreign\r\neth0')
  const next = await hostLocal.add(inputOf(conf(), { containerId: 'c2' }), made.host)
  assert.equal(next.ips[0]?.address, '10.1.2.5/28')
  fs.rmSync(dir(made), { recursive: true })
  const fresh = await hostLocal.add(inputOf(conf()), made.host)
  assert.equal(fresh.ips[0]?.address, '10.1.2.2/28')
})

test('an error between two addresses gives both back', async () => {
  using made = ipamHost()
  let seen = 0
  made.atFailpoint = (name) => {
    if (name === 'host-local.reserve' && ++seen === 2) throw new Error('disk on fire')
  }
  await assert.rejects(hostLocal.add(inputOf(dual), made.host), { code: 5, message: /disk on fire/ })
  assert.deepEqual(addresses(made), [])
})

test('any sequence of ADD, DEL and GC agrees with a model; no address is ever held twice', async () => {
  const step = fc.record({ verb: fc.constantFrom('add', 'add', 'add', 'del', 'gc', 'forget'), id: fc.nat(7) })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      using made = ipamHost()
      const held = new Map<string, readonly string[]>()
      for (const { verb, id } of steps) {
        const containerId = `c${id}`
        const config = conf({ ranges: [[{ subnet: '10.1.2.0/29' }], [{ subnet: 'fd00:1::/64' }]] })
        if (verb === 'add') {
          const result = await hostLocal.add(inputOf(config, { containerId }), made.host).catch(() => undefined)
          assert.equal(
            result === undefined,
            held.has(containerId) || held.size === 5,
            'refused exactly when held or full',
          )
          if (result !== undefined)
            held.set(
              containerId,
              result.ips.map((ip) => ip.address.split('/')[0]!),
            )
        } else if (verb === 'del') {
          await hostLocal.del(inputOf(config, { containerId }), made.host)
          held.delete(containerId)
        } else if (verb === 'gc') {
          const valid = [...held.keys()].slice(id % 3).map((c) => ({ containerId: c, ifname: 'eth0' }))
          await hostLocal.gc(gcInputOf(config, valid), made.host)
          for (const c of [...held.keys()].slice(0, id % 3)) held.delete(c)
        } else if (fs.existsSync(dir(made))) {
          // Another process changes the directory: the index has to be read again.
          fs.writeFileSync(join(dir(made), 'x'), '')
        }
        const expected = [...held.values()].flat().sort()
        assert.equal(new Set(expected).size, expected.length)
        if (fs.existsSync(dir(made))) assert.deepEqual(addresses(made), expected)
      }
    }),
    { numRuns: 40 },
  )
})

test('several processes at once never give an address twice', async () => {
  using made = ipamHost()
  const program = new URL('./host-local-storm.ts', import.meta.url).pathname
  const outcomes = await Promise.all(
    [0, 1, 2].map(async (worker) => {
      const child = fork(program, [made.root, `w${worker}`], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        timeout: 60_000,
      })
      const message = once(child, 'message').then(([given]) => given as string[])
      const exit = once(child, 'exit')
      const given = await message
      assert.equal((await exit)[0], 0)
      return given
    }),
  )
  const all = outcomes.flat()
  assert.equal(all.length, 3 * 30)
  assert.equal(new Set(all).size, all.length)
  assert.deepEqual(addresses(made).sort(), all.sort())
})

test('the reference and this plugin share one directory', { skip: referenceMissing }, async () => {
  using made = ipamHost()
  const shared = (id: string) => ({
    ours: () => hostLocal.add(inputOf(conf(), { containerId: id }), made.host),
    theirs: () =>
      reference(
        'ADD',
        { cniVersion: '0.4.0', ...conf({ dataDir: join(made.root, 'var/lib/cni/networks') }), type: 'host-local' },
        { containerId: id },
      ),
  })
  const theirConf = {
    cniVersion: '0.4.0',
    ...conf({ dataDir: join(made.root, 'var/lib/cni/networks') }),
    type: 'host-local',
  }
  const mixed: string[] = []
  for (let i = 0; i < 12; i++) {
    const { ours, theirs } = shared(`m${i}`)
    if (i % 3 === 0) mixed.push((await ours()).ips[0]!.address)
    else mixed.push(decodeResult(await theirs(), '0.4.0', 'the reference result').ips[0]!.address)
  }
  assert.equal(new Set(mixed).size, 12)
  assert.equal(mixed.at(-1), '10.1.2.13/28', 'both continue one round robin')
  // Each releases what the other gave, and checks it.
  await hostLocal.check(
    inputOf(conf(), {
      containerId: 'm1',
      prevResult: { interfaces: [], routes: [], dns: {}, ips: [{ address: mixed[1] as never }] },
    }),
    made.host,
  )
  await hostLocal.del(inputOf(conf(), { containerId: 'm1' }), made.host)
  await reference('DEL', theirConf, { containerId: 'm0' })
  await reference('DEL', theirConf, { containerId: 'm3' })
  assert.equal(addresses(made).length, 9)
  await hostLocal.gc(gcInputOf(conf(), [{ containerId: 'm5', ifname: 'eth0' }]), made.host)
  assert.deepEqual(addresses(made), ['10.1.2.7'])
})
