import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { renderTable } from '#nft/text.ts'
import type { LabView, NodeView } from '../check/view.ts'
import { labPaths } from '../paths.ts'
import { namespacesOf, planLab, podsOf } from '../plan.ts'
import { cloudModes, labSpec, type CloudMode } from '../spec.ts'
import { cloudCases, type CloudView } from './cases.ts'
import { cloudConf } from './network.ts'
import { serviceIp } from './plan.ts'
import { servicesTable } from './services.ts'

const cloud = (
  mode: CloudMode = 'veth',
): { readonly kind: 'neutron'; readonly mode: CloudMode; readonly filterDelayMs: number } => ({
  kind: 'neutron',
  mode,
  filterDelayMs: 1800,
})
const planOf = (podsPerNode: number, mode?: CloudMode): ReturnType<typeof planLab> =>
  planLab(labSpec({ podsPerNode, cloud: cloud(mode) }))

function viewOf(podsPerNode: number): CloudView {
  const plan = planOf(podsPerNode)
  const nodes = plan.nodes.map((node): NodeView => ({
    name: node.name,
    namespace: node.namespace,
    ips: node.underlay.map(({ ip }) => ip),
    pods: node.pods.map((pod, i) => ({ ...pod, mtu: 1450, ips: [ipText(`10.10.${node.index}.${100 + i}`)] })),
  }))
  const outside = { name: 'outside', namespace: plan.outside.namespace, ips: [ipText('172.24.4.1')] }
  const lab: LabView = { nodes, outside, families: [4] }
  return {
    lab,
    networks: new Map(plan.nodes.map((node) => [node.name, node.switch])),
    gateway: ipText('172.24.4.100'),
    floating: [
      { ip: ipText('172.24.4.150'), fixed: ipText('10.10.10.11') },
      { ip: ipText('172.24.4.151'), fixed: ipText('10.10.1.100') },
    ],
  }
}

const counted = (view: CloudView): Record<string, number> =>
  Object.fromEntries(
    [...Map.groupBy(cloudCases(view), ({ group }) => group)].map(([group, all]) => [group, all.length]),
  )

test('three VMs in two networks, named by their numbers; the router is a namespace of its own', () => {
  const plan = planOf(1)
  assert.deepEqual(
    plan.nodes.map(({ name, switch: vpc, mac, underlay }) => [name, vpc, mac, underlay[0]?.address]),
    [
      ['worker-1', 'vpc-1', 'fa:16:3e:0a:0a:0b', '10.10.10.11/24'],
      ['worker-2', 'vpc-1', 'fa:16:3e:0a:0a:0c', '10.10.10.12/24'],
      ['worker-3', 'vpc-2', 'fa:16:3e:0a:14:0d', '10.10.20.13/24'],
    ],
  )
  assert.ok(namespacesOf(plan).includes('lab-router'))
  assert.equal(new Set(namespacesOf(plan)).size, namespacesOf(plan).length)
  assert.deepEqual(
    podsOf(plan).map(({ name }) => serviceIp(name)),
    ['10.96.1.1', '10.96.2.1', '10.96.3.1'],
  )
})

test('the matrix: by node, network and direction; VMs alone where there are no pods', () => {
  assert.deepEqual(counted(viewOf(0)), { 'node-node': 6, 'node-internet': 3, 'floating-ip': 2 })
  assert.deepEqual(counted(viewOf(2)), {
    'same-node': 6,
    'same-network': 8,
    'other-network': 16,
    'pod-node': 18,
    'node-pod': 18,
    'node-node': 6,
    'pod-internet': 6,
    'node-internet': 3,
    service: 30,
    'node-service': 18,
    'floating-ip': 4,
    mtu: 6,
    'above-mtu': 6,
  })
})

test('who has a floating IP is seen as it outside, everybody else as the router', () => {
  const sources = cloudCases(viewOf(1)).flatMap((check) =>
    check.kind === 'source' ? [[check.from.name, check.source] as const] : [],
  )
  assert.deepEqual(Object.fromEntries(sources), {
    'pod-1-1': '172.24.4.151',
    'pod-2-1': '172.24.4.100',
    'pod-3-1': '172.24.4.100',
    'worker-1': '172.24.4.150',
    'worker-2': '172.24.4.100',
    'worker-3': '172.24.4.100',
  })
})

test('every mode has its plugins, and no secret in its configuration', () => {
  const types = (mode: CloudMode): readonly string[] => {
    const plan = planOf(1, mode)
    assert.ok(plan.cloud !== undefined)
    const text = JSON.stringify(cloudConf(plan.cloud, labPaths('lab', '/run/heddle/lab')))
    assert.doesNotMatch(text, /password|secret/)
    assert.match(text, /\/run\/heddle\/lab\/lab\/clouds-inside\.yaml/)
    const conf: { plugins: { type: string }[] } = JSON.parse(text)
    return conf.plugins.map(({ type }) => type)
  }
  assert.deepEqual(cloudModes.map(types), [
    ['neutron-veth'],
    ['ipvlan', 'veth-host'],
    ['host-device-plus', 'veth-host'],
  ])
})

test('an address that may send only later is given out later', () => {
  const plan = planOf(1)
  assert.ok(plan.cloud !== undefined)
  const text = JSON.stringify(cloudConf(plan.cloud, labPaths('lab', '/run/heddle/lab')))
  assert.match(text, /"settleSeconds":3/)
})

test('services: of arriving packets and of the node’s own', () => {
  const text = renderTable(servicesTable([{ pod: 'pod-2-1', ip: ipText('10.10.10.77') }]))
  assert.equal(
    text.match(/ip daddr 10\.96\.2\.1 meta l4proto \{ tcp, udp \} th dport 80 dnat to 10\.10\.10\.77/g)?.length,
    2,
  )
  assert.match(text, /hook prerouting/)
  assert.match(text, /hook output/)
})

test('what a cloud does not have is refused with its field', () => {
  for (const [spec, message] of [
    [{ ipv6: true }, /IPv6/],
    [{ backend: 'host-gw' }, /backend is host-gw/],
    [{ nodes: 10 }, /nodes is 10/],
    [{ podsPerNode: 10 }, /pods is 10/],
    [{ cloud: { ...cloud(), filterDelayMs: -1 } }, /filter delay is -1/],
  ] as const)
    assert.throws(() => labSpec({ cloud: cloud(), ...spec }), { code: 'bad-spec', message })
  assert.throws(() => labSpec({ podsPerNode: 0 }), { code: 'bad-spec' })
  assert.equal(labSpec({ podsPerNode: 0, cloud: cloud() }).podsPerNode, 0)
})
