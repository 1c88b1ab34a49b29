/** Every kernel object, made by us and read by iproute2, made by iproute2 and read by us. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import { addAddr, deleteAddr, listAddrs, replaceAddr } from '#netlink/addr.ts'
import { addFdb, appendFdb, deleteFdb, listFdb, replaceFdb } from '#netlink/fdb.ts'
import { IPVLAN_MODE, MACVLAN_MODE, type LinkInfo } from '#netlink/link-kinds.ts'
import {
  bridgeVlanMessage,
  changeLink,
  createLink,
  deleteLink,
  findLink,
  getLink,
  listBridgeVlans,
  listLinks,
  moveLink,
  setBridgePort,
  setLink,
} from '#netlink/link.ts'
import { addNeigh, deleteNeigh, listNeighs, replaceNeigh } from '#netlink/neigh.ts'
import { addRoute, appendRoute, deleteRoute, getRoute, listRoutes, replaceRoute } from '#netlink/route.ts'
import { addRule, deleteRule, listRules } from '#netlink/rule.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { openNetns } from '#sys/netns.ts'
import { needsKernel, type KernelFeature } from '../kernel-features.ts'
import { needsRoot, TestNetns } from '../namespace.ts'

const options = { skip: needsRoot }
const MAC = parseMac('02:00:00:00:00:01')

/** The fields of an object that a test names. */
const pick = (object: Record<string, unknown> | undefined, ...keys: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(keys.map((key) => [key, object?.[key]]))

/** `ip -d -j link`'s linkinfo.info_data. */
const infoData = (link: Record<string, unknown> | undefined): Record<string, unknown> =>
  (link as { linkinfo: { info_data: Record<string, unknown> } }).linkinfo.info_data

test('a bridge: made, read, changed, deleted', options, async () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, {
    name: 'br0',
    up: true,
    mtu: 1400,
    mac: MAC,
    alias: 'heddle:test',
    txQueueLength: 500,
    info: { kind: 'bridge', data: { forwardDelay: 300, multicastSnooping: false } },
  })
  const [shown] = netns.json('ip', 'link', 'show', 'br0')
  assert.deepEqual(pick(shown, 'ifname', 'mtu', 'address', 'ifalias', 'txqlen'), {
    ifname: 'br0',
    mtu: 1400,
    address: MAC,
    ifalias: 'heddle:test',
    txqlen: 500,
  })
  const link = getLink(socket, 'br0')
  assert.equal(link.up && link.alias, 'heddle:test')
  assert.ok(
    link.info?.kind === 'bridge' && link.info.data?.forwardDelay === 300 && link.info.data.multicastSnooping === false,
  )

  // A kernel before 6.2 renames no link that is up, also where the same message takes it down.
  setLink(socket, link.index, { up: false })
  setLink(socket, link.index, { name: 'br1', mtu: 1300, up: false, alias: '', promisc: true, arp: false })
  changeLink(socket, 'br1', { kind: 'bridge', data: { ageingTime: 100 } })
  const changed = getLink(socket, link.index)
  assert.deepEqual([changed.name, changed.mtu, changed.up, changed.alias], ['br1', 1300, false, undefined])
  assert.ok(changed.info?.kind === 'bridge' && changed.info.data?.ageingTime === 100)
  assert.equal((changed.flags & 0x180) === 0x180, true, 'promisc and noarp')
  assert.deepEqual(
    listLinks(socket, { kind: 'bridge' }).map((l) => l.name),
    ['br1'],
  )
  assert.deepEqual(listLinks(socket, { kind: 'vxlan' }), [])

  await deleteLink(socket, 'br1')
  assert.equal(findLink(socket, 'br1'), undefined)
  await assert.rejects(deleteLink(socket, 'br1'), { code: 'ENODEV', op: 'link delete br1' })
})

test(
  'a veth pair: the peer is born in the pod under its name; port flags; one goes with the other',
  options,
  async () => {
    using netns = new TestNetns('netlink')
    using pod = new TestNetns('netlink')
    using socket = NetlinkSocket.open({ netns: netns.path })
    using inside = NetlinkSocket.open({ netns: pod.path })
    createLink(socket, { name: 'br0', up: true, info: { kind: 'bridge' } })
    const bridge = getLink(socket, 'br0')
    const netnsFd = openNetns(pod.path)
    try {
      createLink(socket, {
        name: 'veth0',
        up: true,
        master: bridge.index,
        mtu: 1400,
        info: { kind: 'veth', data: { peer: { name: 'eth0', netnsFd, mac: MAC, mtu: 1400 } } },
      })
    } finally {
      nativeSys().close(netnsFd)
    }
    const peer = getLink(inside, 'eth0')
    const host = getLink(socket, 'veth0')
    assert.deepEqual([peer.mac, peer.mtu, peer.info?.kind, peer.parent], [MAC, 1400, 'veth', host.index])
    assert.equal(host.master, bridge.index)
    setLink(inside, 'eth0', { up: true })
    assert.equal(getLink(socket, 'veth0').carrier, true)

    setBridgePort(socket, 'veth0', { hairpin: true, isolated: true, learning: false })
    const [port] = netns.json('bridge', 'link', 'show', 'dev', 'veth0')
    assert.deepEqual(pick(port, 'hairpin', 'isolated', 'learning'), { hairpin: true, isolated: true, learning: false })
    assert.deepEqual(pick({ ...getLink(socket, 'veth0').port }, 'hairpin', 'isolated', 'learning', 'flood'), {
      hairpin: true,
      isolated: true,
      learning: false,
      flood: true,
    })
    assert.deepEqual(
      listLinks(socket, { master: bridge.index }).map((l) => l.name),
      ['veth0'],
    )

    await deleteLink(inside, 'eth0')
    assert.equal(findLink(socket, 'veth0'), undefined)
  },
)

test('moving a link to another namespace, with a new name', options, async () => {
  using netns = new TestNetns('netlink')
  using pod = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, { name: 'a', info: { kind: 'veth', data: { peer: { name: 'b' } } } })
  const netnsFd = openNetns(pod.path)
  await moveLink(socket, getLink(socket, 'b').index, netnsFd, 'eth0')
  nativeSys().close(netnsFd)
  using inside = NetlinkSocket.open({ netns: pod.path })
  assert.equal(getLink(inside, 'eth0').info?.kind, 'veth')
})

test('a VXLAN device with every field that flannel sets', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, { name: 'under', up: true, info: { kind: 'bridge' } })
  const link = getLink(socket, 'under').index
  createLink(socket, {
    name: 'flannel.1',
    mtu: 1450,
    mac: MAC,
    info: {
      kind: 'vxlan',
      data: {
        id: 1,
        link,
        local: ipText('10.0.0.1'),
        port: 8472,
        learning: false,
        gbp: true,
        ttl: 9,
        df: 1,
        ageing: 77,
      },
    },
  })
  const [shown] = netns.json('ip', 'link', 'show', 'flannel.1')
  const data = infoData(shown)
  assert.deepEqual(pick(data, 'id', 'link', 'local', 'port', 'learning', 'gbp', 'ttl', 'df', 'ageing'), {
    id: 1,
    link: 'under',
    local: '10.0.0.1',
    port: 8472,
    learning: false,
    gbp: true,
    ttl: 9,
    df: 'set',
    ageing: 77,
  })
  const seen = getLink(socket, 'flannel.1')
  assert.ok(seen.info?.kind === 'vxlan')
  assert.deepEqual(
    pick({ ...seen.info.data }, 'id', 'link', 'local', 'port', 'learning', 'gbp', 'ttl', 'df', 'ageing'),
    {
      id: 1,
      link,
      local: '10.0.0.1',
      port: 8472,
      learning: false,
      gbp: true,
      ttl: 9,
      df: 1,
      ageing: 77,
    },
  )
  assert.throws(() => createLink(socket, { name: 'v2', info: { kind: 'vxlan', data: { id: 1 << 24 } } }), {
    code: /ERANGE|EINVAL/,
  })

  createLink(socket, { name: 'v6', info: { kind: 'vxlan', data: { id: 2, local: ipText('fd00::1'), port: 4789 } } })
  const [six] = netns.json('ip', 'link', 'show', 'v6')
  assert.equal(infoData(six)['local6'], 'fd00::1')
})

test('VLANs of a bridge and its port', { skip: needsKernel('bridge VLAN filtering') }, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, { name: 'br0', info: { kind: 'bridge', data: { vlanFiltering: true } } })
  const bridge = getLink(socket, 'br0').index
  createLink(socket, { name: 'p0', master: bridge, info: { kind: 'veth', data: { peer: { name: 'p1' } } } })
  const port = getLink(socket, 'p0').index
  const vlan = { id: 100, pvid: true, untagged: true }
  socket.request(bridgeVlanMessage('add', port, vlan))
  socket.request(bridgeVlanMessage('add', bridge, { id: 100, pvid: false, untagged: false }, true))
  assert.deepEqual(
    listBridgeVlans(socket)
      .get(port)
      ?.find((seen) => seen.id === 100),
    vlan,
  )
  const shown = netns.json('bridge', 'vlan', 'show', 'dev', 'p0')[0] as { vlans: Record<string, unknown>[] }
  assert.ok(shown.vlans.some((seen) => seen['vlan'] === 100))
  socket.request(bridgeVlanMessage('delete', port, vlan))
  assert.equal(
    listBridgeVlans(socket)
      .get(port)
      ?.some((seen) => seen.id === 100),
    false,
  )
})

/** Their bytes are tested beside the code. */
for (const info of [
  { kind: 'dummy' },
  { kind: 'ipip', data: { local: ipText('10.0.0.1'), ttl: 64, pathMtuDiscovery: true } },
  { kind: 'macvlan', data: { mode: MACVLAN_MODE.bridge } },
  { kind: 'ipvlan', data: { mode: IPVLAN_MODE.l3s } },
  { kind: 'vlan', data: { id: 100 } },
  { kind: 'vrf', data: { table: 1000 } },
] satisfies (LinkInfo & { kind: KernelFeature })[]) {
  test(`a link of kind ${info.kind}`, { skip: needsKernel(info.kind) }, async () => {
    using netns = new TestNetns('netlink')
    using socket = NetlinkSocket.open({ netns: netns.path })
    createLink(socket, { name: 'under', up: true, info: { kind: 'veth', data: { peer: { name: 'other' } } } })
    const stacked = info.kind === 'macvlan' || info.kind === 'ipvlan' || info.kind === 'vlan'
    const parent = stacked ? getLink(socket, 'under').index : undefined
    createLink(socket, { name: 'x0', info, parent })
    const seen = getLink(socket, 'x0')
    assert.equal(seen.info?.kind, info.kind)
    assert.equal(seen.parent, parent ?? seen.parent)
    const data: Record<string, unknown> = 'data' in info ? { ...info.data } : {}
    assert.deepEqual(pick({ ...seen.info?.data }, ...Object.keys(data)), data)
    await deleteLink(socket, 'x0')
  })
}

test('addresses of both families, their flags, and what replacing does', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, { name: 'd0', up: true, info: { kind: 'bridge' } })
  const { index } = getLink(socket, 'd0')
  const v4 = {
    index,
    address: ipNetText('10.1.0.1/24'),
    broadcast: ipText('10.1.0.255'),
    label: 'd0:x',
    noPrefixRoute: true,
  }
  addAddr(socket, v4)
  assert.throws(() => addAddr(socket, v4), { code: 'EEXIST' })
  addAddr(socket, { index, address: ipNetText('fd00::1/64'), nodad: true, protocol: 72, metric: 50 })
  addAddr(socket, { index, address: ipNetText('10.9.0.1/32'), peer: ipText('10.9.0.2'), scope: 'link' })

  const [shown] = netns.json('ip', 'address', 'show', 'dev', 'd0')
  const infos = shown?.['addr_info'] as Record<string, unknown>[]
  const first = infos.find((info) => info['local'] === '10.1.0.1')
  assert.deepEqual(pick(first, 'prefixlen', 'broadcast', 'label', 'noprefixroute'), {
    prefixlen: 24,
    broadcast: '10.1.0.255',
    label: 'd0:x',
    noprefixroute: true,
  })
  const seen = listAddrs(socket, { index })
  assert.deepEqual(
    seen.find((addr) => addr.address === '10.1.0.1/24'),
    { ...v4, scope: 'global', flags: 0x280 },
  )
  const pointToPoint = seen.find((addr) => addr.address === '10.9.0.1/32')
  assert.deepEqual([pointToPoint?.peer, pointToPoint?.scope], ['10.9.0.2', 'link'])
  const v6 = listAddrs(socket, { family: 6 }).find((addr) => addr.address === 'fd00::1/64')
  assert.deepEqual([v6?.nodad, v6?.protocol, v6?.metric], [true, 72, 50])

  replaceAddr(socket, { index, address: ipNetText('fd00::1/64'), validLifetime: 1000, preferredLifetime: 500 })
  const limited = listAddrs(socket, { family: 6 }).find((addr) => addr.address === 'fd00::1/64')
  assert.ok((limited?.validLifetime ?? 0) > 990 && (limited?.preferredLifetime ?? 0) <= 500)
  deleteAddr(socket, { index, address: ipNetText('10.1.0.1/24') })
  assert.throws(() => deleteAddr(socket, { index, address: ipNetText('10.1.0.1/24') }), { code: 'EADDRNOTAVAIL' })
})

test('routes: what we write iproute2 shows, and what it writes we read', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  netns.run('ip', 'link', 'set', 'lo', 'up')
  createLink(socket, { name: 'd0', up: true, info: { kind: 'bridge' } })
  const oif = getLink(socket, 'd0').index
  addAddr(socket, { index: oif, address: ipNetText('10.1.0.1/24') })
  addAddr(socket, { index: oif, address: ipNetText('fd01::1/64'), nodad: true })

  addRoute(socket, { dst: cidrText('10.2.0.0/24'), gateway: ipText('10.2.0.0'), oif, onlink: true, protocol: 72 })
  addRoute(socket, {
    dst: cidrText('0.0.0.0/0'),
    gateway: ipText('10.1.0.254'),
    prefSrc: ipText('10.1.0.1'),
    priority: 7,
  })
  addRoute(socket, { dst: cidrText('10.3.0.0/24'), type: 'blackhole', table: 1000 })
  addRoute(socket, { dst: cidrText('10.4.0.0/24'), gateway: ipText('fe80::1'), oif })
  addRoute(socket, {
    dst: cidrText('fd02::/64'),
    gateway: ipText('fd02::'),
    oif,
    onlink: true,
    metrics: { mtu: 1350, advmss: 1290 },
  })
  addRoute(socket, {
    dst: cidrText('10.5.0.0/24'),
    nexthops: [
      { gateway: ipText('10.1.0.5'), weight: 3 },
      { gateway: ipText('fe80::5'), oif },
    ],
  })
  const shown = netns.json('ip', 'route', 'show', 'table', 'all')
  const of = (dst: string) => shown.find((route) => route['dst'] === dst)
  assert.deepEqual(pick(of('10.2.0.0/24'), 'gateway', 'dev', 'protocol'), {
    gateway: '10.2.0.0',
    dev: 'd0',
    protocol: '72',
  })
  assert.ok(JSON.stringify(of('10.2.0.0/24')).includes('"onlink"'))
  assert.deepEqual(pick(of('default'), 'gateway', 'prefsrc', 'metric'), {
    gateway: '10.1.0.254',
    prefsrc: '10.1.0.1',
    metric: 7,
  })
  assert.deepEqual(pick(of('10.3.0.0/24'), 'type', 'table'), { type: 'blackhole', table: '1000' })
  assert.deepEqual(of('10.4.0.0/24')?.['via'], { family: 'inet6', host: 'fe80::1' })
  assert.deepEqual(
    (of('10.5.0.0/24') as { nexthops: { weight: number }[] }).nexthops.map((hop) => hop.weight),
    [3, 1],
  )

  const mine = listRoutes(socket, { protocol: 72 })
  assert.deepEqual(
    mine.map((route) => [route.dst, route.gateway, route.oif, route.onlink, route.scope]),
    [['10.2.0.0/24', '10.2.0.0', oif, true, 'global']],
  )
  assert.deepEqual(
    listRoutes(socket, { table: 1000 }).map((route) => [route.dst, route.type]),
    [['10.3.0.0/24', 'blackhole']],
  )
  assert.deepEqual(listRoutes(socket, { table: 4711 }), [])
  const six = listRoutes(socket, { family: 6, oif }).find((route) => route.dst === 'fd02::/64')
  assert.deepEqual([six?.priority, six?.metrics], [1024, { mtu: 1350, advmss: 1290 }])
  const multipath = listRoutes(socket, { oif, family: 4 }).find((route) => route.dst === '10.5.0.0/24')
  assert.deepEqual(
    multipath?.nexthops?.map((hop) => [hop.gateway, hop.weight]),
    [
      ['10.1.0.5', 3],
      ['fe80::5', 1],
    ],
  )

  netns.run('ip', 'route', 'add', 'prohibit', '10.6.0.0/16', 'metric', '20', 'proto', 'static')
  netns.run('ip', 'route', 'add', '10.7.0.0/16', 'dev', 'd0', 'table', '300')
  const theirs = listRoutes(socket, { family: 4 })
  assert.deepEqual(
    theirs.find((route) => route.dst === '10.6.0.0/16'),
    {
      dst: '10.6.0.0/16',
      table: 254,
      type: 'prohibit',
      protocol: 4,
      scope: 'global',
      priority: 20,
      flags: 0,
    },
  )
  assert.deepEqual(pick({ ...theirs.find((route) => route.dst === '10.7.0.0/16') }, 'table', 'scope', 'oif'), {
    table: 300,
    scope: 'link',
    oif,
  })

  replaceRoute(socket, { dst: cidrText('10.2.0.0/24'), gateway: ipText('10.1.0.9'), protocol: 72 })
  assert.deepEqual(
    listRoutes(socket, { protocol: 72 }).map((route) => route.gateway),
    ['10.1.0.9'],
  )
  appendRoute(socket, { dst: cidrText('10.2.0.0/24'), gateway: ipText('10.1.0.10'), protocol: 72 })
  assert.equal(listRoutes(socket, { protocol: 72 }).length, 2)
  assert.equal(getRoute(socket, ipText('10.2.0.77'), { fibMatch: true }).dst, '10.2.0.0/24')
  assert.equal(getRoute(socket, ipText('fd02::77')).oif, oif)
  for (let i = 0; i < 2; i++) deleteRoute(socket, { dst: cidrText('10.2.0.0/24'), protocol: 72 })
  assert.throws(() => deleteRoute(socket, { dst: cidrText('10.2.0.0/24') }), { code: 'ESRCH' })
  deleteRoute(socket, { dst: cidrText('fd02::/64'), oif })
  deleteRoute(socket, { dst: cidrText('10.3.0.0/24'), table: 1000 })
})

test('the kernel’s own words reach the error', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  assert.throws(() => addRoute(socket, { dst: cidrText('10.0.0.0/8'), gateway: ipText('192.0.2.1') }), {
    name: 'NetlinkError',
    code: 'ENETUNREACH',
    op: 'route add 10.0.0.0/8 via 192.0.2.1',
    reason: /invalid gateway/i,
  })
})

test('neighbours: permanent, proxy, managed, with who made them', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, { name: 'd0', up: true, info: { kind: 'bridge' } })
  const { index } = getLink(socket, 'd0')
  addNeigh(socket, { index, ip: ipText('10.0.0.1'), mac: MAC, protocol: 72 })
  addNeigh(socket, { index, ip: ipText('fd00::1'), mac: MAC, externallyLearned: true, state: 'noarp' })
  addNeigh(socket, { index, ip: ipText('169.254.1.1'), proxy: true })
  assert.throws(() => addNeigh(socket, { index, ip: ipText('10.0.0.1'), mac: MAC }), { code: 'EEXIST' })
  const shown = netns.json('ip', 'neighbour', 'show', 'nud', 'all').filter((n) => String(n['dst']).match(/^(10|fd)/))
  assert.deepEqual(
    shown.map((n) => [n['dst'], n['lladdr'], n['state']]),
    [
      ['10.0.0.1', MAC, ['PERMANENT']],
      ['fd00::1', MAC, ['NOARP']],
    ],
  )
  assert.deepEqual(
    netns.json('ip', 'neighbour', 'show', 'proxy').map((n) => n['dst']),
    ['169.254.1.1'],
  )

  const seen = listNeighs(socket, { index, family: 4 })
  assert.deepEqual(
    seen.find((n) => n.ip === '10.0.0.1'),
    { index, ip: '10.0.0.1', mac: MAC, state: 'permanent', protocol: 72, flags: 0 },
  )
  assert.deepEqual(
    listNeighs(socket, { proxy: true }).map((n) => [n.ip, n.proxy]),
    [['169.254.1.1', true]],
  )
  const other = parseMac('02:00:00:00:00:02')
  replaceNeigh(socket, { index, ip: ipText('10.0.0.1'), mac: other })
  assert.equal(listNeighs(socket, { index }).find((n) => n.ip === '10.0.0.1')?.mac, other)
  deleteNeigh(socket, { index, ip: ipText('10.0.0.1') })
  deleteNeigh(socket, { index, ip: ipText('169.254.1.1'), proxy: true })
  assert.throws(() => deleteNeigh(socket, { index, ip: ipText('10.0.0.1') }), { code: 'ENOENT' })
})

test('forwarding entries of a VXLAN device and of a bridge', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, {
    name: 'vx',
    up: true,
    info: { kind: 'vxlan', data: { id: 1, port: 8472, learning: false, local: ipText('10.0.0.1') } },
  })
  createLink(socket, { name: 'br0', up: true, info: { kind: 'bridge' } })
  const master = getLink(socket, 'br0').index
  createLink(socket, { name: 'p0', master, info: { kind: 'veth', data: { peer: { name: 'p1' } } } })
  const vxlan = getLink(socket, 'vx').index
  const port = getLink(socket, 'p0').index

  addFdb(socket, { index: vxlan, mac: MAC, dst: ipText('10.0.0.2') })
  replaceFdb(socket, { index: vxlan, mac: MAC, dst: ipText('10.0.0.3'), port: 4789, vni: 5 })
  const flood = parseMac('00:00:00:00:00:00')
  for (const dst of ['10.0.0.2', '10.0.0.3']) appendFdb(socket, { index: vxlan, mac: flood, dst: ipText(dst) })
  addFdb(socket, { index: port, mac: MAC, of: 'master', state: 'noarp', sticky: true })

  const shown = netns.json('bridge', 'fdb', 'show', 'dev', 'vx')
  const mine = shown.find((entry) => entry['mac'] === MAC)
  assert.deepEqual(pick(mine, 'dst', 'port', 'vni', 'state', 'flags'), {
    dst: '10.0.0.3',
    port: 4789,
    vni: 5,
    state: 'permanent',
    flags: ['self'],
  })
  assert.equal(shown.filter((entry) => entry['mac'] === flood).length, 2)
  assert.deepEqual(
    listFdb(socket, { index: vxlan }).find((entry) => entry.mac === MAC),
    {
      index: vxlan,
      mac: MAC,
      of: 'self',
      dst: '10.0.0.3',
      port: 4789,
      vni: 5,
      state: 'permanent',
      flags: 2,
    },
  )
  const bridged = listFdb(socket, { master }).find((entry) => entry.mac === MAC)
  assert.deepEqual(
    [bridged?.index, bridged?.of, bridged?.state, bridged?.master, bridged?.sticky],
    [port, 'master', 'noarp', master, true],
  )
  assert.ok(listFdb(socket).length >= 4)
  deleteFdb(socket, { index: vxlan, mac: flood, dst: ipText('10.0.0.2') })
  deleteFdb(socket, { index: vxlan, mac: MAC })
  assert.throws(() => deleteFdb(socket, { index: vxlan, mac: MAC }), { code: 'ENOENT' })
  assert.equal(listFdb(socket, { index: vxlan }).filter((entry) => entry.mac === flood).length, 1)
})

test('rules of both families', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const rule = {
    family: 4,
    priority: 100,
    from: cidrText('10.0.0.0/8'),
    table: 1000,
    mark: 0x4000,
    mask: 0xc000,
    iif: 'lo',
    protocol: 72,
  } as const
  addRule(socket, rule)
  addRule(socket, { family: 6, priority: 200, to: cidrText('fd00::/8'), table: 77, suppressPrefixLength: 0 })
  addRule(socket, { family: 4, priority: 300, action: 'blackhole', from: cidrText('192.0.2.0/24'), invert: true })
  const shown = netns.json('ip', 'rule', 'show')
  assert.deepEqual(
    pick(
      shown.find((r) => r['priority'] === 100),
      'src',
      'srclen',
      'table',
      'fwmark',
      'fwmask',
      'iif',
    ),
    {
      src: '10.0.0.0',
      srclen: 8,
      table: '1000',
      fwmark: '0x4000',
      fwmask: '0xc000',
      iif: 'lo',
    },
  )
  assert.deepEqual(
    listRules(socket, 4).find((r) => r.priority === 100),
    { ...rule, action: 'table' },
  )
  assert.deepEqual(listRules(socket, 6).find((r) => r.priority === 200)?.suppressPrefixLength, 0)
  assert.deepEqual(
    listRules(socket).find((r) => r.priority === 300),
    {
      family: 4,
      priority: 300,
      action: 'blackhole',
      from: '192.0.2.0/24',
      invert: true,
      protocol: 0,
    },
  )
  assert.throws(() => addRule(socket, rule), { code: 'EEXIST' })
  deleteRule(socket, rule)
  assert.throws(() => deleteRule(socket, rule), { code: 'ENOENT' })
})
