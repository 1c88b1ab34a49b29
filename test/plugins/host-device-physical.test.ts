/** What the kernel alone decides: a physical device comes out of a namespace that ends, into the first one, under whatever name is free there. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { hostDevice } from '#plugins/host-device/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'
import { execIn, pluginHostAt } from './network-host.ts'
import { CARD, noCard } from './physical-card.ts'
import { gcInputOf, inputOf } from './input.ts'
import { links } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

/** The first namespace, where physical devices go back to. */
const FIRST = '/proc/1/ns/net'

const ip = (...args: readonly string[]): string => execFileSync('ip', args, { encoding: 'utf8' })

const skip = noCard
const conf: JsonObject = { name: 'net1', type: 'host-device', device: 'nic0' }

/** The link with that address; what the kernel calls it is what is asked here. */
const card = (): Record<string, unknown> | undefined =>
  (JSON.parse(ip('-j', '-d', 'link')) as Record<string, unknown>[]).find((link) => link['address'] === CARD)

/** The kernel takes namespaces down some time after their last user left. */
async function backAs(name: RegExp): Promise<void> {
  const deadline = Date.now() + 5000 * slowness
  while (!name.test(String(card()?.['ifname']))) {
    if (Date.now() > deadline) throw new Error(`the card is called ${String(card()?.['ifname'])}, not ${name}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

class Machine implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'heddle-physical-'))
  readonly host = pluginHostAt(FIRST, this.root, () => {})
  readonly pod = `/run/netns/physical-${process.pid}`

  constructor() {
    createNetns(this.pod)
    const name = String(card()?.['ifname'])
    ip('link', 'set', name, 'down')
    if (name !== 'nic0') ip('link', 'set', name, 'name', 'nic0')
    ip('link', 'set', 'nic0', 'mtu', '1450', 'alias', 'to the lan')
    ip('link', 'set', 'nic0', 'up')
  }

  /** The record goes as with a reboot: the alias is all there is. */
  forget(): void {
    rmSync(join(this.root, 'run'), { recursive: true })
  }

  assertAsBefore(how: string): void {
    const { ifname, mtu, ifalias, flags } = card() ?? {}
    assert.deepEqual([ifname, mtu, ifalias], ['nic0', 1450, 'to the lan'], how)
    assert.ok(JSON.stringify(flags).includes('"UP"'), how)
  }

  [Symbol.dispose](): void {
    this.host.netlink[Symbol.dispose]()
    deleteNetns(this.pod)
    rmSync(this.root, { recursive: true })
  }
}

after(() => {
  if (skip === false) ip('link', 'set', String(card()?.['ifname']), 'down')
})

test('DEL brings the card back as it was, and so do DEL and GC after its namespace ended', { skip }, async () => {
  using made = new Machine()
  const { host, pod } = made
  const call = { containerId: 'a', netns: pod }
  for (const how of [
    'DEL',
    'DEL after its end',
    'GC after its end',
    'DEL without a namespace after its end',
  ] as const) {
    const result = await hostDevice.add(inputOf(conf, call), host)
    assert.equal(result.interfaces[0]?.mac, CARD)
    assert.equal(links(pod, 'eth0')[0]?.['ifalias'], 'nic0')
    assert.equal(card(), undefined)
    if (how !== 'DEL') deleteNetns(pod)
    if (how.startsWith('GC')) await hostDevice.gc(gcInputOf(conf, []), host)
    else await hostDevice.del(inputOf(conf, how.includes('without') ? { containerId: 'a' } : call), host)
    made.assertAsBefore(how)
    if (how !== 'DEL') createNetns(pod)
  }
})

test('a pod’s name that the host has too: the card comes back as devN', { skip }, async () => {
  using made = new Machine()
  const { host, pod } = made
  const next = `${pod}-next`
  ip('link', 'add', 'name', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0-peer')
  try {
    const call = { containerId: 'a', netns: pod }
    await hostDevice.add(inputOf(conf, call), host)
    deleteNetns(pod)
    await backAs(/^dev\d+$/)
    // The next pod wants it, before anybody deleted the first. At another path: an inode may well be the former one's.
    createNetns(next)
    await hostDevice.add(inputOf(conf, { containerId: 'b', netns: next }), host)
    assert.equal(links(next, 'eth0')[0]?.['address'], CARD)
    await hostDevice.del(inputOf(conf, { containerId: 'b', netns: next }), host)
    made.assertAsBefore('the next ADD')
  } finally {
    ip('link', 'del', 'eth0')
    deleteNetns(next)
  }
})

test('without a record, after a reboot: by its alias, at DEL or at the next ADD', { skip }, async () => {
  using made = new Machine()
  const { host, pod } = made
  for (const how of ['DEL', 'ADD'] as const) {
    const call = { containerId: 'a', netns: pod }
    await hostDevice.add(inputOf(conf, call), host)
    made.forget()
    deleteNetns(pod)
    await backAs(/^eth0$/)
    createNetns(pod)
    if (how === 'DEL') {
      await hostDevice.del(inputOf(conf, { containerId: 'a', netns: '' }), host)
      assert.equal(card()?.['ifname'], 'nic0')
      assert.equal(card()?.['ifalias'], undefined)
    } else {
      await hostDevice.add(inputOf(conf, call), host)
      assert.equal(links(pod, 'eth0')[0]?.['address'], CARD)
      await hostDevice.del(inputOf(conf, call), host)
      assert.equal(card()?.['ifname'], 'nic0')
    }
    ip('link', 'set', 'nic0', 'mtu', '1450', 'alias', 'to the lan')
  }
  assert.equal(execIn(pod, 'ip', '-o', 'link').trim().split('\n').length, 1)
})

test(
  'what the reference plugin moved comes back when its namespace ends',
  { skip: skip || referenceMissing },
  async () => {
    using made = new Machine()
    const { host, pod } = made
    const shared = { ...conf, cniVersion: '1.0.0', ipam: { type: 'static', addresses: [{ address: '10.88.0.20/24' }] } }
    await reference('ADD', shared, { containerId: 'a', netns: pod })
    assert.equal(links(pod, 'eth0')[0]?.['address'], CARD)
    deleteNetns(pod)
    await backAs(/^eth0$/)
    await hostDevice.del(inputOf(shared, { containerId: 'a', netns: pod }), host)
    assert.equal(card()?.['ifname'], 'nic0')
  },
)
