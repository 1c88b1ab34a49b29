import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as v from 'valibot'

import { renderTable } from '#nft/text.ts'
import { FloatingIpSchema } from '#openstack/neutron/floating-ip.ts'
import { NetworkSchema, SubnetSchema } from '#openstack/neutron/network.ts'
import { PortSchema, type Port } from '#openstack/neutron/port.ts'
import { RouterSchema } from '#openstack/neutron/router.ts'
import type { Database } from './database.ts'
import { allowedOf, guardTable } from './guard.ts'
import { natTable } from './nat.ts'
import type { CloudState } from './state.ts'
import { wiringOf } from './wiring.ts'

const state: CloudState = {
  version: 1,
  ports: { identity: 1, network: 2, compute: 3 },
  passwords: { admin: 'a', neutron: 'b', member: 'c' },
  external: 'ext',
  router: 'r1',
  networks: { 'vpc-1': { network: 'net-1-aaaaaaaaa', subnet: 's1' } },
  servers: { 'worker-1': { id: 'vm-1', port: 'port-1-aaaaaaaaa' } },
}

const port = (id: string, network: string, address: string, subnet: string, more: object = {}): Port =>
  v.parse(PortSchema, {
    id,
    name: id,
    network_id: network,
    mac_address: `fa:16:3e:00:00:${id.slice(5, 6).padStart(2, '0')}`,
    fixed_ips: [{ subnet_id: subnet, ip_address: address }],
    revision_number: 1,
    ...more,
  })

const interfaceOf = (id: string, network: string, address: string, subnet: string, kind: string): Port =>
  port(id, network, address, subnet, { device_id: 'r1', device_owner: `network:router_${kind}` })

function database(more: Partial<Database> = {}): Database {
  const subnet = (id: string, network_id: string, cidr: string, gateway_ip: string): Database['subnets'][number] =>
    v.parse(SubnetSchema, { id, network_id, ip_version: 4, cidr, gateway_ip })
  return {
    networks: [
      v.parse(NetworkSchema, { id: 'ext', mtu: 1500 }),
      v.parse(NetworkSchema, { id: 'net-1-aaaaaaaaa', mtu: 1450 }),
    ],
    subnets: [
      subnet('s0', 'ext', '172.24.4.0/24', '172.24.4.1'),
      subnet('s1', 'net-1-aaaaaaaaa', '10.10.10.0/24', '10.10.10.1'),
    ],
    ports: [
      port('port-2-aaaaaaaaa', 'net-1-aaaaaaaaa', '10.10.10.40', 's1', {
        device_id: 'vm-1',
        device_owner: 'compute:nova',
      }),
      port('port-1-aaaaaaaaa', 'net-1-aaaaaaaaa', '10.10.10.11', 's1', {
        device_id: 'vm-1',
        device_owner: 'compute:nova',
      }),
      interfaceOf('port-8-aaaaaaaaa', 'ext', '172.24.4.100', 's0', 'gateway'),
      interfaceOf('port-9-aaaaaaaaa', 'net-1-aaaaaaaaa', '10.10.10.1', 's1', 'interface'),
      port('port-7-aaaaaaaaa', 'net-1-aaaaaaaaa', '10.10.10.50', 's1', { device_owner: '' }),
    ],
    floatingIps: [],
    router: v.parse(RouterSchema, { id: 'r1', external_gateway_info: { network_id: 'ext' }, routes: [] }),
    ...more,
  }
}

const floating = (fixed: string | null): Database['floatingIps'][number] =>
  v.parse(FloatingIpSchema, {
    id: 'f1',
    floating_ip_address: '172.24.4.150',
    floating_network_id: 'ext',
    fixed_ip_address: fixed,
    port_id: fixed === null ? null : 'port-1-aaaaaaaaa',
    router_id: fixed === null ? null : 'r1',
  })

const routed = (
  ...routes: readonly { readonly destination: string; readonly nexthop: string }[]
): Partial<Database> => ({
  router: v.parse(RouterSchema, { id: 'r1', external_gateway_info: { network_id: 'ext' }, routes }),
})

test('a VM has the card that it was made with first, others after it; who is nobody’s gets no cable', () => {
  const { cards, bridges } = wiringOf(database(), state)
  assert.deepEqual(
    cards.map(({ port: id, isFirst, tap, bridge, mtu }) => [id, isFirst, tap, bridge, mtu]),
    [
      ['port-1-aaaaaaaaa', true, 'tapport-1-aaaa', 'brqnet-1-aaaaa', 1450],
      ['port-2-aaaaaaaaa', false, 'tapport-2-aaaa', 'brqnet-1-aaaaa', 1450],
    ],
  )
  assert.deepEqual(bridges, [{ name: 'brqnet-1-aaaaa', mtu: 1450 }])
})

test('the router has a leg for each interface; its own addresses, and those of floating IPs that lead somewhere', () => {
  const legs = (db: Database): readonly (readonly [string, string, readonly string[]])[] =>
    wiringOf(db, state).legs.map(({ name, bridge, addresses }) => [name, bridge, addresses])
  const inner = ['qr-port-9-aaaa', 'brqnet-1-aaaaa', ['10.10.10.1/24']]
  assert.deepEqual(legs(database()), [['qg-port-8-aaaa', 'br-ex', ['172.24.4.100/24']], inner])
  assert.deepEqual(legs(database({ floatingIps: [floating('10.10.10.11')] })), [
    ['qg-port-8-aaaa', 'br-ex', ['172.24.4.100/24', '172.24.4.150/32']],
    inner,
  ])
  assert.deepEqual(legs(database({ floatingIps: [floating(null)] }))[0]?.[2], ['172.24.4.100/24'])
  assert.deepEqual(legs(database({ router: undefined })), [])
})

test('routes: the default one to the gateway outside, extra ones by the leg of their next hop, two hops as one route', () => {
  const routes = (db: Database): readonly string[] =>
    wiringOf(db, state).routes.map(
      (one) => `${one.destination} via ${one.nexthops.join(',')} dev ${one.leg.slice(0, 2)}`,
    )
  assert.deepEqual(routes(database()), ['0.0.0.0/0 via 172.24.4.1 dev qg'])
  const extra = routed(
    { destination: '10.10.10.19/32', nexthop: '10.10.10.11' },
    { destination: '10.10.10.20/24', nexthop: '10.10.10.11' },
    { destination: '10.10.10.19/32', nexthop: '10.10.10.12' },
    { destination: '10.9.0.0/24', nexthop: '192.0.2.1' },
  )
  assert.deepEqual(routes(database(extra)), [
    '0.0.0.0/0 via 172.24.4.1 dev qg',
    '10.10.10.19/32 via 10.10.10.11,10.10.10.12 dev qr',
    // Written with bits beyond its length, as Neutron stores it.
    '10.10.10.0/24 via 10.10.10.11 dev qr',
  ])
})

test('port security: own addresses and pairs with their MACs; a network as a rule of its own; nothing twice', () => {
  const card = port('port-1-aaaaaaaaa', 'net-1-aaaaaaaaa', '10.10.10.11', 's1', {
    allowed_address_pairs: [
      { ip_address: '10.10.10.11', mac_address: null },
      { ip_address: '10.10.10.32/28', mac_address: 'fa:16:3e:00:00:99' },
      { ip_address: '10.10.10.9/32', mac_address: null },
    ],
  })
  assert.deepEqual(allowedOf(card), [
    { mac: 'fa:16:3e:00:00:01', from: '10.10.10.11' },
    { mac: 'fa:16:3e:00:00:99', from: '10.10.10.32/28' },
    { mac: 'fa:16:3e:00:00:01', from: '10.10.10.9' },
  ])
  const text = renderTable(guardTable([{ port: card, allowed: allowedOf(card) }]))
  assert.match(
    text,
    /ether saddr \. arp saddr ip \{ fa:16:3e:00:00:01 \. 10\.10\.10\.11, fa:16:3e:00:00:01 \. 10\.10\.10\.9 \} accept/,
  )
  assert.match(text, /ether saddr fa:16:3e:00:00:99 ip saddr 10\.10\.10\.32\/28 accept/)
  assert.match(text, /iifname "tapport-1-aaaa" jump port_port_1_aaaaaaaaa/)
})

test('a port without port security is not looked at; one whose addresses are not due yet may send nothing', () => {
  const open = port('port-3-aaaaaaaaa', 'n', '10.10.10.3', 's1', { port_security_enabled: false })
  const closed = port('port-4-aaaaaaaaa', 'n', '10.10.10.4', 's1')
  const text = renderTable(
    guardTable([
      { port: open, allowed: [] },
      { port: closed, allowed: [] },
    ]),
  )
  assert.doesNotMatch(text, /port_3/)
  assert.doesNotMatch(text, /10\.10\.10\.4/)
  assert.match(text, /ether type ip drop/)
})

test('translation: floating IPs both ways before the router’s own address; none without a gateway', () => {
  const rules = (db: Database): readonly string[] =>
    natTable(db, wiringOf(db, state)).chains.flatMap((chain) => chain.rules.map(({ text }) => text))
  assert.deepEqual(rules(database({ floatingIps: [floating('10.10.10.11')] })), [
    'ip daddr 172.24.4.150 dnat to 10.10.10.11',
    'oifname "qg-port-8-aaaa" ip saddr 10.10.10.11 snat to 172.24.4.150',
    'oifname "qg-port-8-aaaa" snat to 172.24.4.100',
    'oifname "qr-port-9-aaaa" ct status dnat ip saddr { 10.10.10.0/24 } snat to 172.24.4.100',
  ])
  const { ports } = database()
  const inside = ports.filter(({ device_owner }) => device_owner !== 'network:router_gateway')
  assert.deepEqual(rules(database({ ports: inside, floatingIps: [floating('10.10.10.11')] })), [])
})
