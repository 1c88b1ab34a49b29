import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { contains, containsCidr, overlaps, parseCidr, parseIpNet } from '#ip/prefix.ts'
import { parseIp } from '#ip/address.ts'
import { namespacesOf, planLab, podsOf } from './plan.ts'
import { backends, datastores, labName, labSpec, MAX_NODES, topologies, type LabSpec } from './spec.ts'

const anySpec: fc.Arbitrary<LabSpec> = fc
  .record({
    name: fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/),
    nodes: fc.integer({ min: 1, max: MAX_NODES }),
    podsPerNode: fc.integer({ min: 1, max: 100 }),
    backend: fc.constantFrom(...backends),
    topology: fc.constantFrom(...topologies),
    datastore: fc.constantFrom(...datastores),
    ipv4: fc.boolean(),
    ipv6: fc.boolean(),
  })
  .filter(
    ({ backend, topology, datastore, ipv4, ipv6 }) =>
      (ipv4 || ipv6) &&
      !(datastore === 'etcd' && !ipv4) &&
      !(backend === 'host-gw' && topology === 'routed') &&
      !((backend === 'ipip' || backend === 'udp') && ipv6),
  )

test('three nodes, flat: every name and address', () => {
  const plan = planLab(labSpec({}))
  assert.deepEqual(plan.podNetworks, ['10.244.0.0/16'])
  assert.deepEqual(plan.fabric.switches, [
    { name: 'rack-1', addresses: [{ ip: '172.30.1.1', address: '172.30.1.1/24' }] },
  ])
  assert.deepEqual(plan.outside, {
    namespace: 'lab-outside',
    addresses: [{ ip: '172.30.0.2', address: '172.30.0.2/24' }],
    routes: ['172.30.0.0/16'],
    gateways: ['172.30.0.1'],
  })
  assert.deepEqual(plan.nodes[1], {
    name: 'worker-2',
    index: 2,
    namespace: 'lab-worker-2',
    switch: 'rack-1',
    mac: '02:00:ac:1e:01:0c',
    underlay: [{ ip: '172.30.1.12', address: '172.30.1.12/24' }],
    gateways: ['172.30.1.1'],
    podCidrs: ['10.244.2.0/24'],
    pods: [
      {
        name: 'pod-2-1',
        node: 'worker-2',
        namespace: 'lab-pod-2-1',
        containerId: plan.nodes[1]!.pods[0]!.containerId,
        hostPort: 8080,
      },
      {
        name: 'pod-2-2',
        node: 'worker-2',
        namespace: 'lab-pod-2-2',
        containerId: plan.nodes[1]!.pods[1]!.containerId,
      },
    ],
  })
  assert.deepEqual(namespacesOf(plan), [
    'lab-fabric',
    'lab-outside',
    'lab-worker-1',
    'lab-pod-1-1',
    'lab-pod-1-2',
    'lab-worker-2',
    'lab-pod-2-1',
    'lab-pod-2-2',
    'lab-worker-3',
    'lab-pod-3-1',
    'lab-pod-3-2',
  ])
})

test('routed, dual stack: two subnets, the first two nodes share one', () => {
  const plan = planLab(labSpec({ topology: 'routed', ipv6: true }))
  assert.deepEqual(
    plan.nodes.map((node) => [node.switch, ...node.underlay.map((at) => at.address), ...node.gateways]),
    [
      ['rack-1', '172.30.1.11/24', 'fd00:30:1::11/64', '172.30.1.1', 'fd00:30:1::1'],
      ['rack-1', '172.30.1.12/24', 'fd00:30:1::12/64', '172.30.1.1', 'fd00:30:1::1'],
      ['rack-2', '172.30.2.13/24', 'fd00:30:2::13/64', '172.30.2.1', 'fd00:30:2::1'],
    ],
  )
  assert.deepEqual(plan.nodes[2]?.podCidrs, ['10.244.3.0/24', 'fd00:10:244:3::/64'])
})

test('any lab: names and addresses are unique, pod networks disjoint and inside the cluster, gateways on link', () => {
  fc.assert(
    fc.property(anySpec, (spec) => {
      const plan = planLab(labSpec(spec))
      const unique = (values: readonly string[]): void => assert.equal(new Set(values).size, values.length)
      unique(namespacesOf(plan))
      unique(podsOf(plan).map((pod) => pod.containerId))
      unique(plan.nodes.map((node) => node.mac))
      const addresses = [
        ...plan.fabric.toOutside,
        ...plan.outside.addresses,
        ...plan.fabric.switches.flatMap((s) => s.addresses),
        ...plan.nodes.flatMap((node) => node.underlay),
      ]
      unique(addresses.map((at) => at.ip))
      const families = Number(spec.ipv4) + Number(spec.ipv6)
      for (const node of plan.nodes) {
        assert.equal(node.underlay.length, families)
        assert.equal(node.podCidrs.length, families)
        for (const [i, cidr] of node.podCidrs.entries()) {
          assert.ok(containsCidr(parseCidr(plan.podNetworks[i]!), parseCidr(cidr)))
          const gateway = parseIp(node.gateways[i]!)
          assert.ok(contains(parseCidr(node.underlay[i]!.address), gateway))
          assert.ok(contains(parseCidr(plan.outside.routes[i]!), parseIpNet(node.underlay[i]!.address).ip))
          assert.ok(!plan.outside.routes.some((route) => overlaps(parseCidr(route), parseCidr(cidr))))
        }
        const rack = plan.fabric.switches.find((s) => s.name === node.switch)
        assert.deepEqual(
          rack?.addresses.map((at) => at.ip),
          node.gateways,
        )
      }
      const cidrs = plan.nodes.map((node) => node.podCidrs[0]!)
      unique(cidrs)
      // Interface names in the fabric are the nodes' names.
      assert.ok(plan.nodes.every((node) => node.name.length <= 15))
    }),
    { numRuns: 60 },
  )
})

test('a bad specification is refused with the field, the value and what to do', () => {
  const refused = (given: Partial<LabSpec>, message: RegExp, remedy: RegExp): void =>
    assert.throws(() => labSpec(given), { code: 'bad-spec', message, remedy })
  refused({ nodes: 0 }, /nodes is 0/, /1 to 100/)
  refused({ nodes: 101 }, /nodes is 101/, /1 to 100/)
  refused({ nodes: 2.5 }, /2\.5/, /whole number/)
  refused({ podsPerNode: Number.NaN }, /pods is NaN/, /whole number/)
  refused({ backend: 'host-gw', topology: 'routed' }, /host-gw does not work in topology routed/, /directrouting/)
  refused({ backend: 'gre' as 'vxlan' }, /backend is "gre"/, /vxlan, directrouting, host-gw/)
  refused({ backend: 'udp', ipv6: true }, /udp carries IPv4 only/, /vxlan/)
  for (const bad of ['', 'Lab', 'a/b', '../x', '-a', 'a-', 'x'.repeat(21), 'a b', 'a\n'])
    assert.throws(() => labName(bad), { code: 'bad-name' }, bad)
  for (const good of ['lab', 'a', '1', 'my-lab-2', 'x'.repeat(20)]) assert.equal(labName(good), good)
})
