/** What becomes of addresses when the machine is started anew. */

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'

import fc from 'fast-check'

import { fakeHost } from '#cni/fake-host.ts'
import { recordFolder, writeRecord } from '#cni/attachment/record.ts'
import { cacheFile, writeCache } from '#cni/runtime/cache.ts'
import { earlierAddresses } from '#ipam/host-local/boot.ts'
import { AddressIndex } from '#ipam/host-local/index.ts'
import { releaseEarlierBoots } from '#ipam/host-local/plugin.ts'
import { ipText } from '#ip/address.ts'
import { bootId } from '#sys/bootid.ts'
import { ipamHost, type IpamHost } from './ipam-host.ts'
import { reference, referenceMissing } from './reference.ts'

const conf = (name = 'net1') => ({
  name,
  type: 'bridge',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.2.0/24' }]] },
})
const dirOf = (made: IpamHost, name = 'net1'): string => join(made.root, 'var/lib/cni/networks', name)
const addresses = (made: IpamHost, name?: string): string[] =>
  fs
    .readdirSync(dirOf(made, name))
    .filter((file) => /^[0-9.]+$/.test(file))
    .sort()
const noteOf = (made: IpamHost, name?: string): string =>
  fs.readFileSync(join(dirOf(made, name), 'lock'), 'utf8').trim()
const OTHER = '00000000-0000-4000-8000-000000000000'

/** The machine is started anew: a year has passed since each file was written, and /run is empty. */
function reboot(made: IpamHost, name = 'net1'): void {
  const folder = dirOf(made, name)
  const past = Date.now() / 1000 - 365 * 86_400
  fs.writeFileSync(join(folder, 'lock'), OTHER)
  for (const file of fs.readdirSync(folder)) fs.utimesSync(join(folder, file), past, past)
  fs.rmSync(join(made.root, 'run'), { recursive: true, force: true })
}

/** A process of its own, which has no index of the directory yet. */
async function addElsewhere(made: IpamHost, containerId: string, point = ''): Promise<NodeJS.Signals | null> {
  const program = new URL('./host-local-add.ts', import.meta.url)
  const child = fork(program, [made.root, JSON.stringify(conf()), containerId, point], { timeout: 30_000 })
  const [code, signal]: unknown[] = await once(child, 'exit')
  assert.ok(code === 0 || signal === 'SIGKILL', JSON.stringify(code))
  return signal === 'SIGKILL' ? 'SIGKILL' : null
}

describe('after a reboot', () => {
  test('the first call of any program releases what is of the boot before, and only then', async () => {
    using made = ipamHost()
    for (const id of ['a', 'b']) await addElsewhere(made, id)
    assert.equal(noteOf(made), bootId())
    await addElsewhere(made, 'c')
    assert.deepEqual(addresses(made), ['10.1.2.2', '10.1.2.3', '10.1.2.4'], 'the same boot: nothing is released')
    reboot(made)
    await addElsewhere(made, 'a')
    assert.deepEqual(addresses(made), ['10.1.2.5'], 'also for a container of the same name')
    assert.equal(noteOf(made), bootId())
    await addElsewhere(made, 'd')
    assert.equal(addresses(made).length, 2)
  })

  test('the agent does it when it starts, where Heddle has worked before', async () => {
    using made = ipamHost()
    await addElsewhere(made, 'a')
    reboot(made)
    const foreign = dirOf(made, 'foreign')
    fs.mkdirSync(foreign)
    fs.writeFileSync(join(foreign, '10.9.0.2'), 'x\r\neth0')
    fs.utimesSync(join(foreign, '10.9.0.2'), 1, 1)
    await releaseEarlierBoots(made.host)
    assert.deepEqual([addresses(made), addresses(made, 'foreign')], [[], ['10.9.0.2']])
  })

  test('what lives stays: young files, records of this boot, results with a living namespace', async () => {
    using made = ipamHost()
    const host = { ...fakeHost(), root: made.root, records: recordFolder(made.root) }
    for (const id of ['stale', 'young', 'recorded', 'cached', 'gone', 'earlier']) await addElsewhere(made, id)
    reboot(made)
    fs.utimesSync(join(dirOf(made), '10.1.2.3'), Date.now() / 1000, Date.now() / 1000)
    const record = { version: 1, id: 'x', state: 'ready', type: 'bridge', network: 'net1', ifname: 'eth0' } as const
    const more = { netns: '/x', since: 1, config: {}, args: [], path: [], rules: [] }
    writeRecord(host.records, { ...record, ...more, containerId: 'recorded', boot: bootId() })
    writeRecord(host.records, { ...record, ...more, containerId: 'earlier', boot: OTHER })
    const cacheDir = join(made.root, 'var/lib/cni')
    for (const [containerId, netns] of [
      ['cached', '/proc/self/ns/net'],
      ['gone', '/nonexistent'],
    ] as const) {
      const key = { network: 'net1', containerId, ifname: 'eth0' }
      await writeCache(cacheDir, { ...key, netns, args: [], capabilityArgs: undefined, config: '{}', result: {} })
      fs.utimesSync(cacheFile(cacheDir, key), 1, 1)
    }
    await releaseEarlierBoots(host)
    assert.deepEqual(addresses(made), ['10.1.2.3', '10.1.2.4', '10.1.2.5'])
    assert.deepEqual(fs.readdirSync(join(cacheDir, 'results')), ['net1-cached-eth0'])
  })

  test('killed anywhere in between, the next call goes on', async () => {
    using made = ipamHost()
    for (const id of ['a', 'b', 'c']) await addElsewhere(made, id)
    for (const point of ['host-local.reserve', 'host-local.reserved', 'host-local.sync']) {
      reboot(made)
      assert.equal(await addElsewhere(made, 'x', point), 'SIGKILL')
      // Released and noted before anything else; x's own address is of this boot.
      assert.equal(noteOf(made), bootId())
      await addElsewhere(made, `after-${point}`)
      assert.ok(addresses(made).length <= 2, addresses(made).join())
    }
    // Between releasing and noting: everything is looked at again.
    reboot(made)
    fs.rmSync(join(dirOf(made), addresses(made)[0] ?? ''))
    await addElsewhere(made, 'z')
    assert.equal(addresses(made).length, 1)
  })

  test('programs at once: every one gets an address of its own, none loses it', async () => {
    using made = ipamHost()
    for (const id of ['a', 'b', 'c']) await addElsewhere(made, id)
    reboot(made)
    await Promise.all(Array.from({ length: 6 }, (_, i) => addElsewhere(made, `n${i}`)))
    const owners = addresses(made).map((file) => fs.readFileSync(join(dirOf(made), file), 'utf8').split('\r\n')[0])
    assert.deepEqual(new Set(owners), new Set(['n0', 'n1', 'n2', 'n3', 'n4', 'n5']))
    assert.equal(owners.length, 6)
  })

  test('a directory that Heddle has never given from is taken over as it is', async () => {
    using made = ipamHost()
    fs.mkdirSync(dirOf(made), { recursive: true })
    fs.writeFileSync(join(dirOf(made), '10.1.2.2'), 'running\r\neth0')
    fs.utimesSync(join(dirOf(made), '10.1.2.2'), 1, 1)
    fs.writeFileSync(join(dirOf(made), 'lock'), '')
    await addElsewhere(made, 'a')
    assert.deepEqual(addresses(made), ['10.1.2.2', '10.1.2.3'])
    assert.equal(noteOf(made), bootId())
  })

  test('the reference plugin on the same directory', { skip: referenceMissing }, async () => {
    using made = ipamHost()
    await addElsewhere(made, 'ours')
    const ipam = { ...conf().ipam, dataDir: join(made.root, 'var/lib/cni/networks') }
    const theirs = async (verb: 'ADD' | 'DEL', containerId: string): Promise<void> =>
      void (await reference(verb, { ...conf(), type: 'host-local', cniVersion: '1.0.0', ipam }, { containerId }))
    await theirs('ADD', 'theirs')
    assert.equal(noteOf(made), bootId(), 'it leaves the note alone')
    reboot(made)
    await theirs('ADD', 'early')
    await addElsewhere(made, 'late')
    assert.deepEqual(addresses(made), ['10.1.2.4', '10.1.2.5'], 'what it gave in this boot stays')
    await theirs('DEL', 'late')
    assert.deepEqual(addresses(made), ['10.1.2.4'])
  })
})

test('never an address of somebody who lives, nor a file of this boot', () => {
  const id = fc.constantFrom('a', 'b', 'c', 'd')
  fc.assert(
    fc.property(
      fc.array(fc.record({ last: fc.integer({ min: 1, max: 250 }), id, age: fc.integer({ min: -100, max: 100 }) })),
      fc.array(id),
      (files, living) => {
        const index = new AddressIndex()
        const ages = new Map<string, number>()
        for (const { last, id: containerId, age } of files) {
          const ip = ipText(`10.0.0.${last}`)
          index.set(ip, ip, { containerId, ifname: 'eth0' })
          ages.set(ip, age * 1000)
        }
        const attachments = living.map((containerId) => ({ containerId, ifname: 'eth0' }))
        const released = earlierAddresses(index.entries(), { since: 0, attachments }, (file) => ages.get(file) ?? 0)
        for (const [ip, { state }] of index.entries()) {
          const lives = typeof state === 'object' && living.some((one) => one === state.containerId)
          assert.equal(released.includes(ip), !lives && (ages.get(ip) ?? 0) < -5000)
        }
      },
    ),
  )
})
