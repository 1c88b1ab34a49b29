/** What must hold for every plugin whose link lives in the pod alone. */

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import type { Plugin } from '#cni/plugin.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { specVersions } from '#cni/version.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { slowness } from '../slow.ts'
import { codeOf, difference, execIn, NetworkHost } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'

export interface Suite {
  readonly plugin: Plugin
  readonly conf: JsonObject
  /** The link's kind, as ip shows it. */
  readonly kind: string
  /** What the configuration of a second pod must differ in. */
  readonly second?: JsonObject
  readonly skip?: string | false
}

/** A host whose link `up0` leads to a machine with 10.88.0.1 and fd00:88::1, which answers pings. */
export class LanHost extends NetworkHost {
  readonly machine: string

  constructor() {
    super()
    this.machine = this.pod()
    this.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'lan0', 'netns', this.machine)
    this.exec('ip', 'link', 'set', 'up0', 'up')
    for (const address of ['10.88.0.1/24', 'fd00:88::1/64'])
      execIn(this.machine, 'ip', 'address', 'add', address, 'dev', 'lan0', ...(address.includes(':') ? ['nodad'] : []))
    execIn(this.machine, 'ip', 'link', 'set', 'lan0', 'up')
  }
}

export const lanIpam: JsonObject = {
  type: 'host-local',
  ranges: [[{ subnet: '10.88.0.0/24', rangeStart: '10.88.0.10' }]],
  routes: [{ dst: '0.0.0.0/0' }],
}

export const links = (netns: string, ...args: string[]): Record<string, unknown>[] =>
  JSON.parse(execIn(netns, 'ip', '-j', '-d', 'link', 'show', ...args))

/** What a link's kind has of its own. */
export function dataOf(netns: string, name = 'eth0'): Record<string, unknown> {
  const [link] = links(netns, name)
  const info = link?.['linkinfo'] as { info_data?: Record<string, unknown> } | undefined
  return info?.info_data ?? {}
}

const kindIn = (netns: string): unknown =>
  (links(netns, 'eth0')[0]?.['linkinfo'] as { info_kind?: string } | undefined)?.info_kind

/** What an attachment left behind; the address book's lock file stays by design, as in the reference. */
export const left = (baseline: string, made: NetworkHost): readonly string[] =>
  difference(baseline, made.dump()).filter((line) => !line.endsWith('/lock'))

const kept = ['ip', '-o', 'link'] as const

export function podLinkSuite({ plugin, conf, kind, second = {}, skip = false }: Suite): void {
  const { type } = plugin

  test(`${type}: ADD, CHECK, DEL, DEL again, DEL without anything; nothing stays`, { skip }, async () => {
    using made = new LanHost()
    const netns = made.pod()
    const baseline = made.dump()
    const inPod = execIn(netns, ...kept)
    const call = { containerId: 'a', netns }
    const result = await plugin.add(inputOf(conf, call), made.host)
    const [link] = links(netns, 'eth0')
    assert.deepEqual(result.interfaces, [{ name: 'eth0', mac: link?.['address'], mtu: link?.['mtu'], sandbox: netns }])
    assert.equal(kindIn(netns), kind)
    assert.deepEqual(
      result.ips.map((ip) => ip.interface),
      result.ips.map(() => 0),
    )
    await plugin.check(inputOf(conf, { ...call, prevResult: result }), made.host)
    await plugin.status(inputOf(conf), made.host)
    assert.equal(await codeOf(plugin.add(inputOf(conf, call), made.host)), 4)
    await plugin.check(inputOf(conf, { ...call, prevResult: result }), made.host)
    for (const gone of [{ ...call, prevResult: result }, call, { containerId: 'a' }, { containerId: 'never' }])
      await plugin.del(inputOf(conf, gone), made.host)
    assert.equal(execIn(netns, ...kept), inPod)
    assert.deepEqual(left(baseline, made), [])
  })

  test(`${type}: CHECK finds what is wrong`, { skip }, async () => {
    using made = new LanHost()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const add = () => plugin.add(inputOf(conf, call), made.host)
    let prevResult = await add()
    const check = () => codeOf(plugin.check(inputOf(conf, { ...call, prevResult }), made.host))
    assert.equal(await check(), undefined)
    execIn(netns, 'ip', 'link', 'set', 'eth0', 'down')
    assert.equal(await check(), 100)
    await plugin.del(inputOf(conf, call), made.host)
    assert.equal(await check(), 100)
    prevResult = await add()
    assert.equal(await check(), undefined)
    execIn(netns, 'ip', 'address', 'flush', 'dev', 'eth0')
    assert.equal(await check(), 100)
    await plugin.del(inputOf(conf, call), made.host)
    execIn(netns, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other')
    assert.equal(await check(), 100)
    // Not its kind, so not its own.
    await plugin.del(inputOf(conf, call), made.host)
    assert.match(execIn(netns, ...kept), /eth0/)
    assert.equal(await codeOf(plugin.check(inputOf(conf, call), made.host)), 7)
  })

  test(`${type}: an ADD that fails at any step undoes itself; DEL and GC clean up after a kill`, { skip }, async () => {
    using made = new LanHost()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const baseline = made.dump()
    const inPod = execIn(netns, ...kept)
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    await plugin.add(inputOf(conf, call), made.host)
    const ofAdd = points.splice(0)
    await plugin.del(inputOf(conf, call), made.host)
    assert.ok(ofAdd.length >= 3, ofAdd.join())
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(plugin.add(inputOf(conf, call), made.host), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.equal(execIn(netns, ...kept), inPod, point)
      assert.deepEqual(left(baseline, made), [], point)
    }
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    // Starting a process takes half a minute where every instruction is emulated; what is different from kind to kind is one step.
    const killAt = slowness > 1 ? ofAdd.filter((point) => point === `${type}.linked`) : ofAdd
    for (const [i, point] of killAt.entries()) {
      const how = ways[i % ways.length] ?? 'GC'
      await killedAt(made, { verb: 'ADD', conf, call, point })
      if (how === 'GC') await plugin.gc(gcInputOf(conf, []), made.host)
      else await plugin.del(inputOf(conf, how === 'DEL' ? call : { containerId: 'a' }), made.host)
      assert.equal(execIn(netns, ...kept), inPod, `${point}, then ${how}`)
      assert.deepEqual(left(baseline, made), [], `${point}, then ${how}`)
    }
    await plugin.add(inputOf(conf, call), made.host)
    await killedAt(made, { verb: 'DEL', conf, call, point: `${type}.unlinked` })
    await plugin.del(inputOf(conf, call), made.host)
    assert.deepEqual(left(baseline, made), [])
  })

  test(
    `${type}: GC spares valid attachments and other networks; DEL spares another attachment's link`,
    { skip },
    async () => {
      using made = new LanHost()
      const [a, b] = [made.pod(), made.pod()]
      const confB = { ...conf, ...second }
      const other = { ...conf, name: 'other' }
      await plugin.add(inputOf(conf, { containerId: 'a', netns: a }), made.host)
      const prevResult = await plugin.add(inputOf(confB, { containerId: 'b', netns: b, ifname: 'net1' }), made.host)
      await plugin.gc(gcInputOf(other, []), made.host)
      await plugin.del(inputOf(other, { containerId: 'b', netns: b, ifname: 'net1' }), made.host)
      await plugin.gc(gcInputOf(conf, [{ containerId: 'b', ifname: 'net1' }]), made.host)
      assert.doesNotMatch(execIn(a, ...kept), /eth0/)
      await plugin.check(inputOf(confB, { containerId: 'b', netns: b, ifname: 'net1', prevResult }), made.host)
      await plugin.gc(gcInputOf(conf, []), made.host)
      assert.doesNotMatch(execIn(b, ...kept), /net1/)
      assert.deepEqual(readdirSync(join(made.root, 'run/heddle/links')), [])
    },
  )

  test(`${type}: DEL after the namespace vanished, or another came in its place`, { skip }, async () => {
    using made = new LanHost()
    const netns = made.pod()
    const baseline = made.dump()
    const call = { containerId: 'a', netns }
    const prevResult = await plugin.add(inputOf(conf, call), made.host)
    deleteNetns(netns)
    await plugin.del(inputOf(conf, { ...call, prevResult }), made.host)
    await gone(() => assert.deepEqual(left(baseline, made), []))
    createNetns(netns)
    await plugin.add(inputOf(conf, call), made.host)
    deleteNetns(netns)
    createNetns(netns)
    execIn(netns, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other')
    await plugin.gc(gcInputOf(conf, []), made.host)
    assert.match(execIn(netns, ...kept), /eth0/)
  })

  test(`${type}: a result in every version`, { skip }, async () => {
    using made = new LanHost()
    assert.deepEqual(plugin.versions, specVersions)
    for (const cniVersion of plugin.versions) {
      const call = { containerId: 'a', netns: made.pod() }
      const result = await plugin.add(inputOf({ ...conf, cniVersion }, call), made.host)
      assert.equal(encodeResult(result, cniVersion)['cniVersion'], cniVersion)
      await plugin.del(inputOf({ ...conf, cniVersion }, call), made.host)
    }
  })
}

/** The kernel takes namespaces down some time after their last user left. */
async function gone(assertion: () => void): Promise<void> {
  const deadline = Date.now() + 5000
  for (;;) {
    try {
      return assertion()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
