import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import type { Entry } from './entry.ts'
import { printOperation } from './print.ts'

const TABLE: [Entry, string, string][] = [
  [
    { kind: 'link', name: 'flannel0', up: true, mtu: 1472, data: { type: 'tun' } },
    'ip tuntap add mode tun flannel0; ip link set flannel0 mtu 1472 up',
    'ip link delete flannel0',
  ],
  [
    {
      kind: 'link',
      name: 'flannel.1',
      up: true,
      mtu: 1450,
      mac: '02:00:00:00:00:01' as MacText,
      data: {
        type: 'vxlan',
        vni: 1,
        local: '10.0.0.1' as IpText,
        dev: 'eth0',
        port: 8472,
        learning: false,
        gbp: false,
      },
    },
    'ip link add flannel.1 mtu 1450 address 02:00:00:00:00:01 up type vxlan id 1 local 10.0.0.1 dev eth0 dstport 8472 nolearning',
    'ip link delete flannel.1',
  ],
  [
    { kind: 'address', dev: 'flannel.1', address: '10.244.0.0/32' as IpNetText },
    'ip address add 10.244.0.0/32 dev flannel.1',
    'ip address delete 10.244.0.0/32 dev flannel.1',
  ],
  [
    {
      kind: 'route',
      dst: '10.244.1.0/24' as CidrText,
      table: 254,
      priority: 0,
      type: 'unicast',
      dev: 'flannel.1',
      via: '10.244.1.0' as IpText,
      onlink: true,
    },
    'ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 201 scope 84 onlink',
    'ip route delete 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 201 scope 84 onlink',
  ],
  [
    { kind: 'route', dst: 'fd00:10:244::/64' as CidrText, table: 100, priority: 1024, type: 'blackhole' },
    'ip route replace blackhole fd00:10:244::/64 table 100 proto 203',
    'ip route delete blackhole fd00:10:244::/64 table 100 proto 203',
  ],
  [
    {
      kind: 'rule',
      family: 4,
      priority: 1000,
      table: 100,
      from: '10.244.0.5/32' as CidrText,
      mark: 0x4000,
      mask: 0x4000,
    },
    'ip rule add priority 1000 from 10.244.0.5/32 fwmark 0x4000/0x4000 lookup 100',
    'ip rule delete priority 1000 from 10.244.0.5/32 fwmark 0x4000/0x4000 lookup 100',
  ],
  [
    { kind: 'neigh', dev: 'flannel.1', ip: '10.244.1.0' as IpText, mac: '02:00:00:00:00:02' as MacText },
    'ip neighbour replace 10.244.1.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent',
    'ip neighbour delete 10.244.1.0 dev flannel.1',
  ],
  [
    { kind: 'fdb', dev: 'flannel.1', mac: '02:00:00:00:00:02' as MacText, dst: '10.0.0.2' as IpText },
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 10.0.0.2 self permanent',
    'bridge fdb delete 02:00:00:00:00:02 dev flannel.1 dst 10.0.0.2 self',
  ],
  [
    { kind: 'sysctl', key: 'net/ipv4/ip_forward', value: '1' },
    'sysctl -w net/ipv4/ip_forward=1',
    '# net/ipv4/ip_forward is left as it is',
  ],
]

test('every operation prints as the command that does the same', () => {
  for (const [entry, add, remove] of TABLE) {
    assert.equal(printOperation({ do: 'add', entry }), add)
    assert.equal(printOperation({ do: 'remove', entry }), remove)
  }
})
