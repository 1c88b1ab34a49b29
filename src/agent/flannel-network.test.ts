import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { macOf, peerNode } from '#flannel/fixture.ts'
import type { Local } from '#flannel/local.ts'
import { parseNetConf } from '#flannel/net-conf.ts'
import type { Refusal } from '#flannel/trust.ts'
import type { UnderlayFacts } from '#flannel/underlay.ts'
import { Contributions } from '#state/contributions.ts'
import { FlannelNetwork } from './flannel-network.ts'
import { silentLog } from './log.ts'

const facts: UnderlayFacts = {
  links: [{ index: 2, name: 'eth0', up: true, mtu: 1500, loopback: false }],
  addresses: [{ dev: 'eth0', ip: ipText('192.168.0.1'), deprecated: false, temporary: false, permanent: true }],
  routes: [{ dst: cidrText('192.168.0.0/20'), dev: 'eth0', priority: 0 }],
}

function open(backend = '{"Type":"vxlan"}') {
  const state = new Contributions()
  const locals: Local[] = []
  const refusals: Refusal[] = []
  const network = new FlannelNetwork({
    node: 'node-0',
    absent: 'there is no Node named "node-0" yet',
    conf: parseNetConf(`{"Network":"10.0.0.0/8","Backend":${backend}}`),
    wish: { ifaces: [], publicIps: {} },
    ipMasq: true,
    randomFully: true,
    forwardRules: true,
    blackhole: false,
    rules: 'nftables',
    kernelHasIpv6: true,
    recordedMacs: {},
    deviceMac: () => undefined,
    random: () => Uint8Array.from([2, 0, 0, 0, 0, 0]),
    state: {
      set: (source, entries) => void state.set(source, entries),
      remove: (source) => void state.set(source, []),
    },
    log: silentLog,
    onLocal: (local) => locals.push(local),
    onRefusal: (refusal) => refusals.push(refusal),
  })
  return { network, state, locals, refusals, keys: () => [...state.wanted.keys()] }
}

const own = (more = {}) => peerNode(0, {}, more)

test('nothing is wanted before the node is complete, and what is missing is said', () => {
  const { network, keys } = open()
  network.setNode(peerNode(1))
  assert.match(network.missing.join(), /interfaces have not been read/)
  network.setUnderlay(facts)
  assert.match(network.missing.join(), /no Node named "node-0"/)
  network.setNode(own({ podCidrs: [] }))
  assert.match(network.missing.join(), /no IPv4 podCIDR.*--cluster-cidr 10\.0\.0\.0\/8/)
  network.setNode(own({ podCidrs: ['11.0.0.0/24'] }))
  assert.match(network.missing.join(), /11\.0\.0\.0\/24 of node node-0 is not inside/)
  assert.deepEqual(keys(), [])
  network.setNode(own())
  assert.deepEqual(network.missing, [])
  assert.ok(keys().includes('link flannel.1') && keys().includes('route 254 10.244.1.0/24 0'), keys().join())
})

test('peers come, change and go', () => {
  const { network, state, keys } = open()
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1), peerNode(2)], true)
  assert.ok(keys().includes('route 254 10.244.2.0/24 0'))
  network.setNode(peerNode(1, { backendData: `{"VNI":1,"VtepMAC":"${macOf(77)}"}` }))
  assert.ok(
    keys().includes(`fdb flannel.1 ${macOf(77)}`) && !keys().includes(`fdb flannel.1 ${macOf(1)}`),
    'no old FDB entry is left',
  )
  network.setNode(peerNode(1, {}, { podCidrs: ['10.244.50.0/24'] }))
  assert.ok(keys().includes('route 254 10.244.50.0/24 0') && !keys().includes('route 254 10.244.1.0/24 0'))
  network.removeNode('node-1')
  assert.equal(
    keys().some((key) => key.includes('10.244.50.')),
    false,
  )
  assert.deepEqual(
    state.explain('route 254 10.244.2.0/24 0').map(({ source }) => source),
    ['flannel/peer/node-2'],
  )
})

test('a list that cannot be trusted deletes nobody; one that can does', () => {
  const { network, keys } = open()
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1), peerNode(2)], true)
  network.setNodes([], false)
  network.setNodes([own(), peerNode(2)], false)
  assert.ok(keys().includes('route 254 10.244.1.0/24 0'))
  network.removeNode('node-0')
  assert.ok(keys().includes('link flannel.1'), 'our own Node deleted: everything stays')
  network.setNodes([own(), peerNode(2)], true)
  assert.ok(!keys().includes('route 254 10.244.1.0/24 0') && keys().includes('route 254 10.244.2.0/24 0'))
})

test('a subnet that moves from one peer to another in one list is not lost', () => {
  const { network, state } = open()
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1), peerNode(2)], true)
  network.setNodes([own(), peerNode(3, {}, { podCidrs: ['10.244.1.0/24'] }), peerNode(2)], true)
  assert.deepEqual(
    state.explain('route 254 10.244.1.0/24 0').map(({ source }) => source),
    ['flannel/peer/node-3'],
  )
  assert.deepEqual(state.conflicts(), [])
})

test('the underlay is followed: MTU, address, and an address that is away for a moment', () => {
  const { network, state, locals } = open()
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1)], true)
  const mtu = () => {
    const link = state.wanted.get('link flannel.1')
    return link?.kind === 'link' && link.data.type === 'vxlan' ? [link.mtu, link.data.local] : []
  }
  assert.deepEqual(mtu(), [1450, '192.168.0.1'])
  network.setUnderlay({ ...facts, links: [{ index: 2, name: 'eth0', up: true, mtu: 9000, loopback: false }] })
  assert.deepEqual(mtu(), [8950, '192.168.0.1'])
  network.setUnderlay({ ...facts, addresses: [] })
  assert.deepEqual(mtu(), [8950, '192.168.0.1'], 'kept')
  assert.match(network.missing.join(), /no interface has an IPv4 address/)
  const [first] = facts.addresses
  network.setUnderlay({ ...facts, addresses: [{ ...first!, ip: ipText('192.168.0.200') }] })
  assert.deepEqual(mtu(), [1450, '192.168.0.200'])
  assert.deepEqual(network.missing, [])
  const published = locals.length
  network.setUnderlay({ ...facts, addresses: [{ ...first!, ip: ipText('192.168.0.200') }] })
  assert.equal(locals.length, published, 'the same again is no change')
})

test('DirectRouting follows the underlay’s routes', () => {
  const { network, keys } = open('{"Type":"vxlan","DirectRouting":true}')
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1)], true)
  assert.ok(!keys().some((key) => key.startsWith('fdb')))
  network.setUnderlay({ ...facts, routes: [] })
  assert.ok(
    keys().some((key) => key.startsWith('fdb')),
    'not on-link any more: tunnelled',
  )
})

test('host-gw: peers that are not on-link are refused until they are', () => {
  const { network, keys, refusals } = open('{"Type":"host-gw"}')
  const peer = peerNode(1, { backendType: 'host-gw', backendData: 'null' })
  network.setUnderlay({ ...facts, routes: [] })
  network.setNodes([own(), peer], true)
  assert.deepEqual(
    refusals.map(({ code }) => code),
    ['not-on-link'],
  )
  network.setUnderlay(facts)
  assert.ok(keys().includes('route 254 10.244.1.0/24 0'))
  network.setUnderlay({ ...facts, routes: [] })
  assert.ok(!keys().includes('route 254 10.244.1.0/24 0'))
})

test('the own podCIDR is followed, and peers are judged by the new one', () => {
  const { network, keys, refusals, locals } = open()
  network.setUnderlay(facts)
  network.setNodes([own(), peerNode(1)], true)
  network.setNode(own({ podCidrs: ['10.244.1.0/24'] }))
  assert.ok(keys().includes('address flannel.1 10.244.1.0/32') && !keys().includes('route 254 10.244.1.0/24 0'))
  assert.deepEqual(
    refusals.map(({ code }) => code),
    ['own-subnet'],
  )
  assert.equal(locals.at(-1)?.[4]?.subnet, '10.244.1.0/24')
})

test('the published address: annotation over flag, and a bad one keeps what was', () => {
  const { network, locals } = open()
  network.setUnderlay(facts)
  network.setNode(peerNode(0, { publicIpOverwrite: '203.0.113.5' }))
  assert.equal(locals.at(-1)?.[4]?.publicIp, '203.0.113.5')
  assert.equal(locals.at(-1)?.[4]?.address, '192.168.0.1')
  network.setNode(peerNode(0, { publicIpOverwrite: 'nonsense' }))
  assert.equal(network.local?.[4]?.publicIp, '203.0.113.5')
  assert.match(network.missing.join(), /public-ip-overwrite is "nonsense"/)
})
