/** Packets through the kinds of links that not every kernel has: made by us, tried by ping. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import { addAddr } from '#netlink/addr.ts'
import { IPVLAN_MODE, type LinkInfo } from '#netlink/link-kinds.ts'
import {
  bridgeVlanMessage,
  changeLink,
  createLink,
  deleteLink,
  findLink,
  getLink,
  moveLink,
  setLink,
} from '#netlink/link.ts'
import { addRoute, getRoute, listRoutes } from '#netlink/route.ts'
import { listRules } from '#netlink/rule.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { openNetns } from '#sys/netns.ts'
import { needsKernel } from '../kernel-features.ts'
import { TestNetns } from '../namespace.ts'
import { slowness } from '../slow.ts'

/** A namespace with its socket. */
class Place implements Disposable {
  readonly netns = new TestNetns('vm')
  readonly socket: NetlinkSocket

  constructor() {
    this.socket = NetlinkSocket.open({ netns: this.netns.path })
    setLink(this.socket, 'lo', { up: true })
  }

  index(name: string): number {
    return getLink(this.socket, name).index
  }

  /** Sets a link up with an address. */
  up(name: string, address: string): void {
    setLink(this.socket, name, { up: true })
    addAddr(this.socket, { index: this.index(name), address: ipNetText(address), nodad: true })
  }

  /** Asks again until an answer comes: ping itself gives up when an earlier search for the neighbour comes to nothing. */
  reaches(address: string, ...options: readonly string[]): boolean {
    const end = performance.now() + 3000 * slowness
    while (performance.now() < end) if (this.#ping(address, '-W1', ...options)) return true
    return false
  }

  /** Asks once, and waits for longer than an answer takes even where everything is emulated. */
  isCutOffFrom(address: string, ...options: readonly string[]): boolean {
    return !this.#ping(address, '-W2', ...options)
  }

  #ping(address: string, ...options: readonly string[]): boolean {
    const args = ['ping', '-n', '-q', '-c1', ...options, address]
    return spawnSync('nsenter', [`--net=${this.netns.path}`, ...args], { stdio: 'ignore' }).status === 0
  }

  /** A veth pair from here to there. */
  wireTo(there: Place, here: string, name: string): void {
    withNetns(there, (netnsFd) =>
      createLink(this.socket, { name: here, up: true, info: { kind: 'veth', data: { peer: { name, netnsFd } } } }),
    )
    setLink(there.socket, name, { up: true })
  }

  [Symbol.dispose](): void {
    this.socket[Symbol.dispose]()
    this.netns[Symbol.dispose]()
  }
}

function withNetns<T>(place: Place, use: (netnsFd: number) => T): T {
  const netnsFd = openNetns(place.netns.path)
  try {
    return use(netnsFd)
  } finally {
    nativeSys().close(netnsFd)
  }
}

async function moveInto(host: Place, pod: Place, name: string, newName: string): Promise<void> {
  const netnsFd = openNetns(pod.netns.path)
  try {
    await moveLink(host.socket, host.index(name), netnsFd, newName)
  } finally {
    nativeSys().close(netnsFd)
  }
}

for (const mode of ['l2', 'l3', 'l3s'] as const) {
  test(
    `ipvlan in mode ${mode}: two pods reach each other and what is outside`,
    { skip: needsKernel('ipvlan') },
    async () => {
      using host = new Place()
      using outside = new Place()
      using a = new Place()
      using b = new Place()
      host.wireTo(outside, 'eth0', 'eth0')
      outside.up('eth0', '10.1.0.254/24')
      for (const [pod, address] of [
        [a, '10.1.0.1/24'],
        [b, '10.1.0.2/24'],
      ] as const) {
        const info = { kind: 'ipvlan', data: { mode: IPVLAN_MODE[mode] } } as const
        createLink(host.socket, { name: 'new', parent: host.index('eth0'), info })
        await moveInto(host, pod, 'new', 'eth0')
        pod.up('eth0', address)
        const [shown] = pod.netns.json('ip', 'link', 'show', 'eth0')
        assert.equal((shown as { linkinfo: { info_data: { mode: string } } }).linkinfo.info_data.mode, mode)
        assert.equal(getLink(pod.socket, 'eth0').mac, getLink(host.socket, 'eth0').mac, 'the parent’s MAC')
      }
      // In the modes of layer 3 nobody answers ARP for the pods: what is outside is told the way.
      if (mode !== 'l2') {
        const { mac } = getLink(host.socket, 'eth0')
        for (const ip of ['10.1.0.1', '10.1.0.2']) {
          outside.netns.run('ip', 'neigh', 'replace', ip, 'lladdr', String(mac), 'dev', 'eth0', 'nud', 'permanent')
        }
      }
      assert.ok(a.reaches('10.1.0.2'), 'pod to pod')
      assert.ok(a.reaches('10.1.0.254'), 'pod to outside')
      assert.ok(outside.reaches('10.1.0.2'), 'outside to pod')
      changeLink(b.socket, 'eth0', { kind: 'ipvlan', data: { mode: IPVLAN_MODE.l2 } })
      assert.equal(dataOf(b, 'eth0')['mode'], IPVLAN_MODE.l2, 'the mode is changed later')
      await deleteLink(b.socket, 'eth0')
      assert.equal(findLink(b.socket, 'eth0'), undefined)
    },
  )
}

const dataOf = (place: Place, name: string): Record<string, unknown> =>
  Object.fromEntries(Object.entries(getLink(place.socket, name).info?.data ?? {}))

test('vlan: the same tag meets, another one does not', { skip: needsKernel('vlan') }, () => {
  using a = new Place()
  using b = new Place()
  a.wireTo(b, 'eth0', 'eth0')
  for (const [place, last] of [
    [a, 1],
    [b, 2],
  ] as const) {
    createLink(place.socket, { name: 'v100', parent: place.index('eth0'), info: { kind: 'vlan', data: { id: 100 } } })
    place.up('v100', `10.1.0.${last}/24`)
    const id = last === 1 ? 200 : 201
    createLink(place.socket, { name: 'other', parent: place.index('eth0'), info: { kind: 'vlan', data: { id } } })
    place.up('other', `10.2.0.${last}/24`)
  }
  assert.ok(a.reaches('10.1.0.2'))
  assert.ok(a.isCutOffFrom('10.2.0.2'))
})

test('ipip: what is sent inside arrives, with what the tunnel takes of the MTU', { skip: needsKernel('ipip') }, () => {
  using a = new Place()
  using b = new Place()
  a.wireTo(b, 'eth0', 'eth0')
  for (const [place, mine, other] of [
    [a, 1, 2],
    [b, 2, 1],
  ] as const) {
    place.up('eth0', `192.0.2.${mine}/24`)
    const ends = { local: ipText(`192.0.2.${mine}`), remote: ipText(`192.0.2.${other}`) }
    createLink(place.socket, {
      name: 'tunl',
      info: { kind: 'ipip', data: { ...ends, ttl: 64, pathMtuDiscovery: true } },
    })
    place.up('tunl', `10.1.${mine}.1/32`)
    const oif = place.index('tunl')
    addRoute(place.socket, { dst: cidrText(`10.1.${other}.0/24`), oif, prefSrc: ipText(`10.1.${mine}.1`) })
  }
  assert.equal(getLink(a.socket, 'tunl').mtu, 1480)
  assert.ok(a.reaches('10.1.2.1', '-Mdo', '-s1452'), '1480 bytes fit')
  assert.ok(a.isCutOffFrom('10.1.2.1', '-Mdo', '-s1453'), '1481 do not')
  changeLink(a.socket, 'tunl', {
    kind: 'ipip',
    data: { local: ipText('192.0.2.1'), remote: ipText('192.0.2.9'), pathMtuDiscovery: true, ttl: 64 },
  })
  assert.equal(dataOf(a, 'tunl')['remote'], '192.0.2.9')
  assert.ok(a.isCutOffFrom('10.1.2.1'))
})

test('ipip without a remote end: routes name it, one each', { skip: needsKernel('ipip') }, () => {
  using a = new Place()
  using b = new Place()
  a.wireTo(b, 'eth0', 'eth0')
  for (const [place, mine, other] of [
    [a, 1, 2],
    [b, 2, 1],
  ] as const) {
    place.up('eth0', `192.0.2.${mine}/24`)
    createLink(place.socket, { name: 'tunl', info: { kind: 'ipip', data: { local: ipText(`192.0.2.${mine}`) } } })
    place.up('tunl', `10.1.${mine}.1/32`)
    addRoute(place.socket, {
      dst: cidrText(`10.1.${other}.0/24`),
      gateway: ipText(`192.0.2.${other}`),
      oif: place.index('tunl'),
      onlink: true,
    })
  }
  assert.ok(a.reaches('10.1.2.1', '-I10.1.1.1'))
})

test('vrf: its ports have a table of their own', { skip: needsKernel('vrf') }, () => {
  using a = new Place()
  using b = new Place()
  a.wireTo(b, 'eth0', 'eth0')
  b.up('eth0', '10.1.0.2/24')
  createLink(a.socket, { name: 'red', up: true, info: { kind: 'vrf', data: { table: 1000 } } })
  setLink(a.socket, 'eth0', { master: a.index('red') })
  a.up('eth0', '10.1.0.1/24')
  assert.deepEqual(
    listRoutes(a.socket, { table: 1000, family: 4 })
      .filter(({ type }) => type === 'unicast')
      .map(({ dst }) => dst),
    ['10.1.0.0/24'],
  )
  assert.throws(() => getRoute(a.socket, ipText('10.1.0.2')), { code: 'ENETUNREACH' })
  assert.ok(a.reaches('10.1.0.2', '-Ired'), 'inside')
  assert.ok(a.isCutOffFrom('10.1.0.2'), 'outside')
  assert.ok(
    listRules(a.socket, 4).some(({ priority }) => priority === 1000),
    'the rule that leads into the tables of all of them',
  )
})

test('dummy: an address that lives without a wire', { skip: needsKernel('dummy') }, () => {
  using a = new Place()
  createLink(a.socket, { name: 'kube-ipvs0', info: { kind: 'dummy' } })
  a.up('kube-ipvs0', '10.96.0.1/32')
  assert.ok(a.reaches('10.96.0.1'))
  assert.equal(getLink(a.socket, 'kube-ipvs0').info?.kind, 'dummy')
})

test(
  'bridge VLAN filtering: ports of one VLAN meet, others do not',
  { skip: needsKernel('bridge VLAN filtering') },
  () => {
    using host = new Place()
    using a = new Place()
    using b = new Place()
    using c = new Place()
    const info: LinkInfo = { kind: 'bridge', data: { vlanFiltering: true, defaultPvid: 0 } }
    createLink(host.socket, { name: 'br0', up: true, info })
    for (const [pod, port, id] of [
      [a, 'a', 100],
      [b, 'b', 100],
      [c, 'c', 200],
    ] as const) {
      host.wireTo(pod, port, 'eth0')
      setLink(host.socket, port, { master: host.index('br0') })
      pod.up('eth0', `10.1.0.${port === 'a' ? 1 : port === 'b' ? 2 : 3}/24`)
      host.socket.request(bridgeVlanMessage('add', host.index(port), { id, pvid: true, untagged: true }))
    }
    assert.ok(a.reaches('10.1.0.2'))
    assert.ok(a.isCutOffFrom('10.1.0.3'))
    host.socket.request(bridgeVlanMessage('add', host.index('c'), { id: 100, pvid: true, untagged: true }))
    assert.ok(a.reaches('10.1.0.3'), 'moved into their VLAN')
  },
)
