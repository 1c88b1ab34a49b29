import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { NodeView } from '#flannel/node-view.ts'
import type { CidrText, IpNetText, MacText } from '#ip/text.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { Facts } from './facts.ts'
import type { CauseCode, CheckName, Finding } from './finding.ts'
import { CHECK_NAMES } from './finding.ts'
import { judge } from './judge.ts'

const link = (name: string, index: number, more: Partial<Link> = {}): Link => ({
  index,
  name,
  up: true,
  mtu: 1500,
  flags: 1,
  hardwareType: 1,
  operState: 'up',
  carrier: true,
  ...more,
})

const vxlan = (mtu = 1450, mac = '02:00:00:00:00:01'): Link =>
  link('flannel.1', 3, {
    mtu,
    mac: mac as MacText,
    info: { kind: 'vxlan', data: { id: 1, link: 2, port: 8472 } },
  })

const node = (name: string, subnet: string, publicIp: string, more: NodeView['annotations'] = {}): NodeView => ({
  name,
  uid: name,
  created: '2026-01-01T00:00:00Z',
  podCidrs: [subnet],
  annotations: { marker: 'true', publicIp, backendData: '{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}', ...more },
})

const route = (dst: string, oif: number): Facts['routes'][number] => ({
  dst: dst as CidrText,
  oif,
  table: 254,
  type: 'unicast',
  protocol: 200,
  scope: 'global',
  priority: 0,
  flags: 0,
})

const addr = (address: string, index: number): Facts['addrs'][number] => ({
  address: address as IpNetText,
  index,
  flags: 0,
  scope: 'global',
})

/** A node where nothing is wrong. */
const healthy: Facts = {
  kernelRelease: '6.1.0-31-amd64',
  links: [link('eth0', 2), vxlan(), link('cni0', 4, { mtu: 1450, info: { kind: 'bridge', data: {} } })],
  addrs: [addr('192.168.0.1/24', 2), addr('10.244.1.0/32', 3), addr('10.244.1.1/24', 4)],
  routes: [route('0.0.0.0/0', 2), route('10.244.2.0/24', 3)],
  neighbours: { 4: 12, 6: 0 },
  sysctls: new Map([
    ['net/ipv4/ip_forward', '1'],
    ['net/ipv6/conf/all/forwarding', '1'],
    ['net/bridge/bridge-nf-call-iptables', '1'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    ['net/netfilter/nf_conntrack_count', '10'],
    ['net/netfilter/nf_conntrack_max', '1000'],
    ['net/ipv4/neigh/default/gc_thresh3', '1024'],
    ['net/ipv6/neigh/default/gc_thresh3', '1024'],
  ]),
  forwardChains: [],
  features: new Map([['flannel.1', new Set(['tx-checksum-ip-generic'])]]),
  running: { networkManager: false, networkd: false, firewalld: false },
  files: new Map(),
  vendor: 'QEMU',
  subnetFile: {
    path: '/run/flannel/subnet.env',
    content: {
      networks: ['10.244.0.0/16' as CidrText],
      subnets: ['10.244.1.0/24' as CidrText],
      mtu: 1450,
      ipMasq: true,
    },
  },
  confs: { directory: '/etc/cni/net.d', files: [{ file: '10-flannel.conflist', types: ['flannel', 'portmap'] }] },
  plugins: { directory: '/opt/cni/bin', types: new Set(['flannel', 'portmap', 'bridge']) },
  agent: { socket: '/run/heddle/cni.sock', state: 'answers' },
  cluster: {
    node: 'a',
    nodes: [node('a', '10.244.1.0/24', '192.168.0.1'), node('b', '10.244.2.0/24', '192.168.0.2')],
    ahead: 0,
  },
}

const sysctls = (...changed: readonly (readonly [string, string | undefined])[]): Partial<Facts> => {
  const map = new Map(healthy.sysctls)
  for (const [key, value] of changed) {
    if (value === undefined) map.delete(key)
    else map.set(key, value)
  }
  return { sysctls: map }
}

const nodes = (...list: readonly NodeView[]): Partial<Facts> => ({ cluster: { node: 'a', nodes: list, ahead: 0 } })
const replaceLink = (changed: Link): Partial<Facts> => ({
  links: healthy.links.map((one) => (one.name === changed.name ? changed : one)),
})
const drop = (rules: readonly string[]): Partial<Facts> => ({
  forwardChains: [{ name: 'ip filter FORWARD', drops: true, rules, accept: 'iptables -P FORWARD ACCEPT' }],
})
const own = (more: NodeView['annotations']): Partial<Facts> =>
  nodes(node('a', '10.244.1.0/24', '192.168.0.1', more), node('b', '10.244.2.0/24', '192.168.0.2'))

const persistent = '[Match]\nOriginalName=*\n\n[Link]\nMACAddressPolicy=persistent\n'

/** What is changed on the healthy node, the check that finds it, and the commands that are told. */
const cases: readonly (readonly [string, Partial<Facts>, CheckName, CauseCode | undefined, (readonly string[])?])[] = [
  [
    'no forwarding',
    sysctls(['net/ipv4/ip_forward', '0']),
    'forwarding',
    'forwarding-off',
    ['sysctl -w net.ipv4.ip_forward=1'],
  ],
  [
    'no br_netfilter',
    sysctls(['net/bridge/bridge-nf-call-iptables', undefined]),
    'bridge-filter',
    'bridge-filter-missing',
  ],
  ['bridge filter off', sysctls(['net/bridge/bridge-nf-call-iptables', '0']), 'bridge-filter', 'bridge-filter-off'],
  [
    'strict reverse path for all',
    sysctls(['net/ipv4/conf/all/rp_filter', '1']),
    'reverse-path',
    'reverse-path-strict',
    ['sysctl -w net.ipv4.conf.flannel/1.rp_filter=2'],
  ],
  [
    'loose of the device wins over strict',
    sysctls(['net/ipv4/conf/all/rp_filter', '1'], ['net/ipv4/conf/flannel.1/rp_filter', '2']),
    'reverse-path',
    undefined,
  ],
  [
    'forward drop',
    drop(['tcp dport 22 accept', 'ip saddr 10.0.0.0/24 accept']),
    'forward-policy',
    'forward-drop',
    ['iptables -P FORWARD ACCEPT'],
  ],
  ['forward drop, pods accepted', drop(['ip saddr 10.244.0.0/16 accept']), 'forward-policy', undefined],
  ['forward drop, flannel accepted', drop(['-A FORWARD -j FLANNEL-FWD']), 'forward-policy', undefined],
  [
    'checksum bug',
    { kernelRelease: '4.18.0-80.el8' },
    'checksum-offload',
    'checksum-offload-broken',
    ['ethtool -K flannel.1 tx-checksum-ip-generic off'],
  ],
  [
    'checksum bug, offload off',
    { kernelRelease: '4.18.0', features: new Map([['flannel.1', new Set()]]) },
    'checksum-offload',
    undefined,
  ],
  ['checksum bug fixed in a branch', { kernelRelease: '5.4.41' }, 'checksum-offload', undefined],
  [
    'another MAC than published',
    replaceLink(vxlan(1450, '02:00:00:00:00:99')),
    'mac-policy',
    'mac-differs',
    ['ip link set flannel.1 address 02:00:00:00:00:01'],
  ],
  [
    'udev rewrites MACs',
    { ...nodes(), files: new Map([['/usr/lib/systemd/network/99-default.link', persistent]]) },
    'mac-policy',
    'mac-policy-persistent',
  ],
  [
    'udev leaves flannel alone',
    {
      ...nodes(),
      files: new Map([
        ['/usr/lib/systemd/network/99-default.link', persistent],
        ['/etc/systemd/network/50-flannel.link', '[Match]\nOriginalName=flannel*\n[Link]\nMACAddressPolicy=none\n'],
      ]),
    },
    'mac-policy',
    undefined,
  ],
  [
    'NetworkManager',
    { running: { ...healthy.running, networkManager: true } },
    'network-manager',
    'managed-by-network-manager',
  ],
  [
    'NetworkManager told',
    {
      running: { ...healthy.running, networkManager: true },
      files: new Map([['/etc/NetworkManager/conf.d/x.conf', '[keyfile]\nunmanaged-devices=interface-name:flannel*\n']]),
    },
    'network-manager',
    undefined,
  ],
  ['networkd', { running: { ...healthy.running, networkd: true } }, 'networkd', 'networkd-removes-routes'],
  [
    'networkd told',
    {
      running: { ...healthy.running, networkd: true },
      files: new Map([['/etc/systemd/networkd.conf.d/x.conf', '[Network]\nManageForeignRoutes=no\n']]),
    },
    'networkd',
    undefined,
  ],
  [
    'firewalld',
    { running: { ...healthy.running, firewalld: true } },
    'firewalld',
    'firewalld-without-pods',
    ['firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16', 'firewall-cmd --reload'],
  ],
  [
    'firewalld told',
    {
      running: { ...healthy.running, firewalld: true },
      files: new Map([['/etc/firewalld/zones/trusted.xml', '<zone><source address="10.244.0.0/16"/></zone>']]),
    },
    'firewalld',
    undefined,
  ],
  ['no way out', { routes: [], ...nodes() }, 'interface', 'no-default-route'],
  [
    'behind a NAT',
    { ...nodes(node('a', '10.244.1.0/24', '10.0.2.15')), addrs: [addr('10.0.2.15/24', 2)] },
    'interface',
    'interface-behind-nat',
  ],
  ['publishes what it has not', own({ publicIp: '192.168.0.77' }), 'interface', 'published-address-missing'],
  [
    'told to publish what it has not',
    own({ publicIp: '203.0.113.7', publicIpOverwrite: '203.0.113.7' }),
    'interface',
    undefined,
  ],
  [
    'two nodes, one address',
    nodes(node('a', '10.244.1.0/24', '192.168.0.1'), node('b', '10.244.2.0/24', '192.168.0.1')),
    'addresses',
    'address-shared',
  ],
  [
    'two nodes, one subnet',
    nodes(node('a', '10.244.1.0/24', '192.168.0.1'), node('b', '10.244.1.0/24', '192.168.0.2')),
    'addresses',
    'subnet-shared',
  ],
  ['a peer without a route', { routes: [route('0.0.0.0/0', 2)] }, 'peers', 'peer-without-route'],
  ['one route for all peers', { routes: [route('0.0.0.0/0', 2), route('10.244.0.0/16', 3)] }, 'peers', undefined],
  ['tunnel too wide', replaceLink(vxlan(1500)), 'mtu', 'tunnel-mtu-too-large', ['ip link set flannel.1 mtu 1450']],
  [
    'bridge too wide',
    replaceLink(link('cni0', 4, { mtu: 1500 })),
    'mtu',
    'link-mtu-differs',
    ['ip link set cni0 mtu 1450'],
  ],
  [
    'a former network, no pods',
    { addrs: [addr('192.168.0.1/24', 2), addr('10.100.1.1/24', 4)] },
    'bridge-address',
    'bridge-address-stale',
    ['ip link delete cni0'],
  ],
  [
    'a former network, pods',
    { addrs: [addr('10.100.1.1/24', 4)], links: [...healthy.links, link('veth1', 9, { master: 4 })] },
    'bridge-address',
    'bridge-address-stale',
    ['ip address delete 10.100.1.1/24 dev cni0'],
  ],
  ['no configuration', { confs: { directory: '/etc/cni/net.d', files: [] } }, 'conflist', 'no-conflist'],
  [
    'a broken one',
    { confs: { directory: '/d', files: [{ file: 'a.conflist', types: [], error: 'no JSON' }] } },
    'conflist',
    'conflist-unreadable',
  ],
  [
    'two of them',
    {
      confs: {
        directory: '/d',
        files: [
          { file: 'a.conf', types: ['bridge'] },
          { file: 'b.conf', types: ['bridge'] },
        ],
      },
    },
    'conflist',
    'conflist-shadowed',
    ['mv /d/b.conf /d/b.conf.unused'],
  ],
  [
    'a plugin is missing',
    { plugins: { directory: '/opt/cni/bin', types: new Set(['flannel']) } },
    'conflist',
    'plugin-missing',
  ],
  ['no subnet file', { subnetFile: { path: '/x', content: undefined } }, 'subnet-file', 'subnet-file-missing'],
  [
    'a broken subnet file',
    { subnetFile: { path: '/x', content: 'FLANNEL_MTU is missing' } },
    'subnet-file',
    'subnet-file-broken',
  ],
  ['a former subnet', nodes(node('a', '10.244.9.0/24', '192.168.0.1')), 'subnet-file', 'subnet-file-stale'],
  ['no agent', { agent: { socket: '/s', state: 'absent' } }, 'agent', 'agent-absent'],
  ['a dead agent', { agent: { socket: '/s', state: 'silent' } }, 'agent', 'agent-silent'],
  ['clock', { cluster: { node: 'a', nodes: [], ahead: -45_000 } }, 'clock', 'clock-differs'],
  ['connections', sysctls(['net/netfilter/nf_conntrack_count', '950']), 'conntrack', 'conntrack-full'],
  ['neighbours', { neighbours: { 4: 1024, 6: 0 } }, 'neighbours', 'neighbours-full'],
  ['NSX', { vendor: 'VMware, Inc.' }, 'vxlan-port', 'port-taken-by-vmware'],
]

test('a healthy node has no finding', () => {
  const troubles = judge(healthy).filter(({ state }) => state !== 'ok')
  assert.deepEqual(troubles, [])
  assert.deepEqual(new Set(judge(healthy).map(({ check }) => check)), new Set(CHECK_NAMES))
})

for (const [name, change, check, code, commands] of cases) {
  test(`${name}: ${code ?? 'nothing is wrong'}`, () => {
    const found: readonly Finding[] = judge({ ...healthy, ...change }, [check]).filter(({ state }) => state !== 'ok')
    assert.deepEqual(
      found.map(({ cause }) => cause?.code),
      code === undefined ? [] : [code],
    )
    for (const { evidence } of found) assert.ok(evidence.length > 0, 'evidence')
    if (commands !== undefined) assert.deepEqual(found[0]?.commands, commands)
  })
}

test('every cause is among the cases', () => {
  const codes = new Set(cases.flatMap(([, , , code]) => code ?? []))
  assert.equal(codes.size, 33)
})

test('without an API server what needs it is unknown, and nothing else suffers', () => {
  const found = judge({ ...healthy, cluster: 'refused' })
  assert.deepEqual(
    found.filter(({ state }) => state !== 'ok').map(({ check, state }) => `${check} ${state}`),
    ['addresses unknown', 'peers unknown', 'clock unknown'],
  )
})
