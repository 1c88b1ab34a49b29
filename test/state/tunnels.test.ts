/** WireGuard and IP-in-IP in a real kernel: what their plans make, that nothing is done twice, and what is mended. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { backendOf } from '#flannel/backend/registry.ts'
import type { BackendConf } from '#flannel/backend-conf.ts'
import { localNode, peerNode } from '#flannel/fixture.ts'
import type { Local } from '#flannel/local.ts'
import { PeerTable } from '#flannel/peer-table.ts'
import { newPrivateKey, publicKeyOf } from '#netlink/wireguard-key.ts'
import { NetlinkKernel } from '#state/kernel-netlink.ts'
import { Reconciler } from '#state/reconciler.ts'
import { systemClock } from '#sys/clock.ts'
import { needsKernel } from '../kernel-features.ts'
import { needsProgram, TestNetns } from '../namespace.ts'
import { slowness } from '../slow.ts'

/** One node's plans in a namespace of its own. */
class Bench implements AsyncDisposable {
  readonly netns = new TestNetns('tunnels')
  readonly repaired: string[] = []
  readonly local: Local
  readonly table: PeerTable
  #reconciler: Reconciler

  constructor(local: Local) {
    this.local = local
    this.table = new PeerTable(local, backendOf(local.backend))
    this.netns.run('ip', 'link', 'set', 'lo', 'up')
    this.netns.run('ip', 'addr', 'add', '192.168.0.1/32', 'dev', 'lo')
    this.#reconciler = this.#open()
  }

  #open(): Reconciler {
    return Reconciler.open({
      kernel: new NetlinkKernel({ clock: systemClock, netns: this.netns.path }),
      clock: systemClock,
      onRepair: ({ entry }) => void this.repaired.push(entry.kind),
    })
  }

  /** Programs everything; returns what was done. */
  async sync(): Promise<string[]> {
    const backend = backendOf(this.local.backend)
    this.#reconciler.set('device', backend.devicePlan(this.local))
    for (const lease of this.table.leases()) this.#reconciler.set(lease.node, backend.peerPlan(this.local, lease))
    this.#reconciler.removeLeftovers()
    const { operations, failures } = await this.#reconciler.sync()
    assert.deepEqual(
      failures.map(({ error }) => error.message),
      [],
    )
    return operations.map(({ do: verb, entry }) => `${verb} ${entry.kind}`)
  }

  forget(node: string): void {
    this.table.remove(node)
    this.#reconciler.remove(node)
  }

  /** As after a restart of the agent. */
  async again(): Promise<string[]> {
    await this.#reconciler[Symbol.asyncDispose]()
    this.#reconciler = this.#open()
    return this.sync()
  }

  async until(what: string, isTrue: () => boolean): Promise<void> {
    const end = performance.now() + 2_000 * slowness
    const isSo = (): boolean => {
      try {
        return isTrue()
      } catch {
        // What is asked about is not there at the moment.
        return false
      }
    }
    while (!isSo()) {
      if (performance.now() > end) throw new Error(`not within ${2_000 * slowness} ms: ${what}`)
      await delay(20)
    }
  }

  async damage(what: string, isWhole: () => boolean, ...command: readonly [string, ...string[]]): Promise<void> {
    const before = this.repaired.length
    this.netns.run(...command)
    await this.until(`${what} is repaired`, isWhole)
    // What is taken away because nobody wants it was never in its place.
    if (!what.includes('foreign')) await this.until(`${what} is counted`, () => this.repaired.length > before)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reconciler[Symbol.asyncDispose]()
    this.netns[Symbol.dispose]()
  }
}

const PEERS = 400

const keyText = (i: number): string => {
  const key = Buffer.alloc(32, 1)
  key.writeUInt32BE(i, 0)
  return key.toString('base64')
}

test(
  'wireguard: four hundred peers, a second start that does nothing, and what outsiders change',
  { skip: needsProgram('wg', 'wireguard-tools') || needsKernel('wireguard') },
  async (t) => {
    const conf: BackendConf = {
      type: 'wireguard',
      listenPort: 51_820,
      listenPortV6: 51_821,
      keepalive: 0,
      mode: 'separate',
    }
    const privateKey = newPrivateKey((size) => new Uint8Array(size).fill(7))
    const publicKey = publicKeyOf(privateKey)
    await using bench = new Bench({
      ...localNode({ conf }),
      identity: { kind: 'wireguard', privateKey, publicKey },
    })
    const { netns, table } = bench
    for (let i = 1; i <= PEERS; i++)
      table.update(
        peerNode(i, { backendType: 'wireguard', backendData: JSON.stringify({ PublicKey: keyText(i), Port: 51_820 }) }),
      )
    const done = await bench.sync()
    assert.equal(done.filter((line) => line === 'add wgpeer').length, PEERS)
    const dump = (): string =>
      netns
        .run('wg', 'show', 'flannel-wg', 'dump')
        .trim()
        .split('\n')
        .map((line) => line.split('\t'))
        .map((words, i) => (i === 0 ? words.slice(1, 3) : [...words.slice(0, 4), words[7]]).join(' '))
        .toSorted()
        .join('\n')
    const whole = dump()
    assert.equal(whole.split('\n').length, PEERS + 1)
    assert.ok(whole.includes(`${publicKey} 51820`))
    assert.ok(whole.includes(`${keyText(7)} (none) 192.168.0.8:51820 10.244.7.0/24 off`))
    assert.deepEqual(await bench.again(), [], 'a listing in many messages is read as it was written')

    const route = (): string => netns.run('ip', 'route', 'show', '10.0.0.0/8')
    const isWhole = (): boolean =>
      dump() === whole &&
      /dev flannel-wg .*scope link/.test(route()) &&
      /[<,]UP[,>].* mtu 1420 /.test(netns.run('ip', 'link', 'show', 'flannel-wg')) &&
      netns.run('ip', '-4', 'addr', 'show', 'dev', 'flannel-wg').includes('10.244.0.0/32')
    assert.ok(isWhole())
    const wg = ['wg', 'set', 'flannel-wg'] as const
    const damages: readonly (readonly [string, readonly [string, ...string[]]])[] = [
      ['a peer', [...wg, 'peer', keyText(7), 'remove']],
      ['the same peer again', [...wg, 'peer', keyText(7), 'remove']],
      ['an endpoint', [...wg, 'peer', keyText(7), 'endpoint', '192.0.2.99:51820']],
      ['what a peer may send', [...wg, 'peer', keyText(7), 'allowed-ips', '10.244.7.0/25']],
      ['what another peer took', [...wg, 'peer', keyText(8), 'allowed-ips', '10.244.7.0/24,10.244.8.0/24']],
      ['a keepalive', [...wg, 'peer', keyText(7), 'persistent-keepalive', '9']],
      ['a foreign peer', [...wg, 'peer', keyText(99_999), 'allowed-ips', '10.245.0.0/16']],
      ['the port', [...wg, 'listen-port', '4000']],
      ['the key', [...wg, 'private-key', '/dev/null']],
      ['the device', ['ip', 'link', 'del', 'flannel-wg']],
      ['the device down', ['ip', 'link', 'set', 'flannel-wg', 'down']],
      ['its MTU', ['ip', 'link', 'set', 'flannel-wg', 'mtu', '1300']],
      ['the route', ['ip', 'route', 'del', '10.0.0.0/8']],
      ['the address', ['ip', 'addr', 'del', '10.244.0.0/32', 'dev', 'flannel-wg']],
    ]
    for (const [what, command] of damages) await t.test(what, () => bench.damage(what, isWhole, ...command))

    bench.forget('node-9')
    table.update(peerNode(8, { backendType: 'wireguard', backendData: JSON.stringify({ PublicKey: keyText(88_888) }) }))
    await bench.sync()
    await bench.until('who goes and what was changed leave nothing', () => {
      const now = dump()
      return (
        !now.includes(keyText(9)) &&
        !now.includes(`${keyText(8)} `) &&
        now.includes(`${keyText(88_888)} (none) 192.168.0.9:51820 10.244.8.0/24 off`)
      )
    })
  },
)

test('ipip: a second start that does nothing, and what outsiders change', { skip: needsKernel('ipip') }, async (t) => {
  await using bench = new Bench(localNode({ conf: { type: 'ipip', directRouting: false } }))
  const { netns, table } = bench
  for (let i = 1; i <= 3; i++) table.update(peerNode(i, { backendType: 'ipip', backendData: 'null' }))
  assert.deepEqual(await bench.sync(), ['add link', 'add address', 'add route', 'add route', 'add route'])
  assert.deepEqual(await bench.again(), [])
  const isWhole = (): boolean => {
    const link = netns.run('ip', '-d', 'link', 'show', 'flannel.ipip')
    return (
      /[<,]UP[,>].* mtu 1480 /.test(link) &&
      /ipip (ipip )?remote any local 192\.168\.0\.1 .*nopmtudisc/.test(link) &&
      /via 192\.168\.0\.3 dev flannel\.ipip .*onlink/.test(netns.run('ip', 'route', 'show', '10.244.2.0/24')) &&
      netns.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.ipip').includes('10.244.0.0/32')
    )
  }
  assert.ok(isWhole(), netns.run('ip', '-d', 'link', 'show', 'flannel.ipip'))
  const change = ['ip', 'link', 'change', 'flannel.ipip', 'type', 'ipip'] as const
  const damages: readonly (readonly [string, readonly [string, ...string[]]])[] = [
    ['a route', ['ip', 'route', 'del', '10.244.2.0/24']],
    ['a route, led elsewhere', ['ip', 'route', 'replace', '10.244.2.0/24', 'dev', 'lo']],
    ['the local end', [...change, 'local', '192.168.0.77', 'remote', 'any', 'nopmtudisc']],
    ['the path MTU discovery', [...change, 'local', '192.168.0.1', 'remote', 'any', 'pmtudisc']],
    ['the MTU', ['ip', 'link', 'set', 'flannel.ipip', 'mtu', '1300']],
    ['the device down', ['ip', 'link', 'set', 'flannel.ipip', 'down']],
    ['the device', ['ip', 'link', 'del', 'flannel.ipip']],
    ['the address', ['ip', 'addr', 'del', '10.244.0.0/32', 'dev', 'flannel.ipip']],
  ]
  for (const [what, command] of damages) await t.test(what, () => bench.damage(what, isWhole, ...command))
})
