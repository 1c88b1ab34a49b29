import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import type { Network, Subnet } from '#openstack/neutron/network.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { readMarkText } from '#openstack/mark.ts'
import { portName } from './card.ts'
import { cardPort } from './cloud.ts'
import { nicConf, remembered } from './config.ts'

test('a configuration with nothing in it has every default', () => {
  const { what: _, ...conf } = nicConf('n', { name: 'n', type: 'host-device-plus' })
  assert.deepEqual(conf, {
    network: 'n',
    cloudsFile: undefined,
    cloud: undefined,
    cluster: 'unnamed',
    hostInterface: '',
    mtu: 0,
    isDefaultGateway: true,
    computeUrl: undefined,
    serverId: '',
    networkId: '',
    subnetIds: [],
    securityGroups: [],
    deviceLimit: 26,
    attachTimeoutMs: 60_000,
    poolSize: 1,
    onDelete: 'detach',
  })
})

test('the cloud of neutron-ipam is this one’s too, unless it has its own; what is remembered says the same', () => {
  const ipam = { type: 'neutron-ipam', cloudsFile: '/etc/openstack/clouds.yaml', cloud: 'k8s', hostInterface: 'ens3' }
  const raw = { name: 'n', cloud: 'other', ipam, nova: { computeUrl: 'catalog', onDelete: 'keep', poolSize: null } }
  const conf = nicConf('n', raw)
  assert.deepEqual(
    [conf.cloudsFile, conf.cloud, conf.hostInterface, conf.onDelete, conf.poolSize, conf.computeUrl],
    ['/etc/openstack/clouds.yaml', 'other', 'ens3', 'keep', 1, undefined],
  )
  assert.deepEqual(nicConf('n', remembered({ ...raw, runtimeConfig: { x: 1 }, prevResult: {} })), conf)
  assert.equal('prevResult' in remembered({ ...raw, prevResult: {} }), false)
  assert.equal(nicConf('n', { nova: { computeUrl: 'https://nova/v2.1' } }).computeUrl?.href, 'https://nova/v2.1')
})

test('what cannot be meant is refused with its key', () => {
  for (const [raw, key] of [
    [{ nova: { deviceLimit: 0 } }, /deviceLimit/],
    [{ nova: { deviceLimit: 1.5 } }, /deviceLimit/],
    [{ nova: { poolSize: -1 } }, /poolSize/],
    [{ nova: { attachTimeoutMs: 1 } }, /attachTimeoutMs/],
    [{ nova: { onDelete: 'forget' } }, /onDelete/],
    [{ nova: { serverId: '../x' } }, /serverId/],
    [{ nova: { subnetIds: ['a b'] } }, /subnetIds/],
    [{ nova: { computeUrl: 'file:///etc' } }, /computeUrl/],
    [{ nova: { computeUrl: 'http://user@nova' } }, /computeUrl/],
    [{ ipam: { type: 'host-local' } }, /ipam\.type/],
    [{ cluster: 'a:b' }, /cluster/],
    [{ cloudsFile: './clouds.yaml' }, /cloudsFile/],
    [{ mtu: 'big' }, /mtu/],
  ] as const)
    assert.throws(() => nicConf('n', raw), key)
})

const base = { project_id: '', tags: [], revision_number: 1 }
const network: Network = {
  ...base,
  id: 'net',
  name: '',
  mtu: 1450,
  subnets: [],
  shared: false,
  'router:external': false,
  port_security_enabled: true,
}
const subnet = (id: string, more: Partial<Subnet>): Subnet => ({
  ...base,
  id,
  name: '',
  network_id: 'net',
  ip_version: 4,
  cidr: cidrText('10.0.0.0/24'),
  gateway_ip: ipText('10.0.0.1'),
  enable_dhcp: false,
  allocation_pools: [],
  dns_nameservers: [],
  host_routes: [],
  service_types: [],
  ...more,
})
const port: Port = {
  ...base,
  id: 'p',
  name: '',
  network_id: 'net',
  mac_address: parseMac('fa:16:3e:00:00:01'),
  fixed_ips: [
    { subnet_id: 'v6', ip_address: ipText('fd00::7') },
    { subnet_id: 'v4', ip_address: ipText('10.0.0.7') },
    { subnet_id: 'elsewhere', ip_address: ipText('10.1.0.7') },
  ],
  allowed_address_pairs: [],
  device_id: '',
  device_owner: '',
  status: 'DOWN',
  admin_state_up: true,
  port_security_enabled: true,
  security_groups: [],
}

test('what a pod gets of its port: addresses with their gateways, routes of the subnets, canonical; nothing of strange subnets', () => {
  const routes = [
    { destination: ipNetText('192.168.7.9/16'), nexthop: ipText('10.0.0.254') },
    { destination: ipNetText('fd01::/64'), nexthop: ipText('10.0.0.254') },
  ]
  const v4 = subnet('v4', { host_routes: routes, dns_nameservers: [ipText('10.0.0.2')] })
  const v6 = subnet('v6', { ip_version: 6, cidr: cidrText('fd00::/64'), gateway_ip: undefined })
  assert.deepEqual(cardPort(port, network, [v4, v6, subnet('unused', { dns_nameservers: [ipText('9.9.9.9')] })]), {
    id: 'p',
    mac: 'fa:16:3e:00:00:01',
    mtu: 1450,
    ips: [{ address: 'fd00::7/64' }, { address: '10.0.0.7/24', gateway: '10.0.0.1' }],
    routes: [{ dst: '192.168.0.0/16', gw: '10.0.0.254' }],
    nameservers: ['10.0.0.2'],
  })
  // Neutron lets one ask for the gateway's own address.
  const own = { ...port, fixed_ips: [{ subnet_id: 'v4', ip_address: ipText('10.0.0.1') }] }
  assert.deepEqual(cardPort(own, network, [v4]).ips, [{ address: '10.0.0.1/24' }])
})

test('the name of a port tells the card, its node and its cluster', () => {
  const name = portName({ cluster: 'blue', server: crypto.randomUUID(), id: '0123456789ab' })
  assert.equal(readMarkText(name)?.subject, '0123456789ab')
  assert.equal(readMarkText(name)?.kind, 'nic')
})
