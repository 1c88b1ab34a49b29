import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { backendGroups, casesFor, missing, responders, type Check } from './cases.ts'
import { summarize, type Outcome } from './report.ts'
import { parseHeard } from './responder.ts'
import type { LabView, NodeView, PodView } from './view.ts'

const ips = (v4: string, v6: string, ipv6: boolean): LabView['outside']['ips'] => (ipv6 ? [v4, v6] : [v4]).map(ipText)

function view(nodes: number, pods: number, ipv6 = false, mtu = 1450): LabView {
  const node = (n: number): NodeView => ({
    name: `worker-${n}`,
    namespace: `t-worker-${n}`,
    ips: ips(`172.30.1.${10 + n}`, `fd00:30:1::${10 + n}`, ipv6),
    pods: Array.from({ length: pods }, (_, i): PodView => ({
      name: `pod-${n}-${i + 1}`,
      namespace: `t-pod-${n}-${i + 1}`,
      node: `worker-${n}`,
      ips: ips(`10.244.${n}.${i + 2}`, `fd00:10:244:${n}::${i + 2}`, ipv6),
      mtu,
      ...(i === 0 ? { hostPort: 8080 } : {}),
    })),
  })
  return {
    nodes: Array.from({ length: nodes }, (_, i) => node(i + 1)),
    outside: { name: 'outside', namespace: 't-outside', ips: ips('172.30.0.2', 'fd00:30::2', ipv6) },
    families: ipv6 ? [4, 6] : [4],
  }
}

const count = (checks: readonly Check[]): Record<string, number> =>
  Object.fromEntries(backendGroups.map((group) => [group, checks.filter((check) => check.group === group).length]))

test('three nodes with two pods: so many questions of each group', () => {
  const expected = {
    'pod-pod': 30,
    'pod-node': 18,
    'node-pod': 18,
    'pod-outside': 6,
    mtu: 12,
    'above-mtu': 12,
    'host-port': 15,
  }
  assert.deepEqual(count(casesFor(view(3, 2))), expected)
  const twice = Object.fromEntries(Object.entries(expected).map(([group, n]) => [group, 2 * n]))
  assert.deepEqual(count(casesFor(view(3, 2, true))), twice)
})

test('without encapsulation nothing between outside and pod is smaller, so no path MTU is asked for', () => {
  assert.equal(casesFor(view(3, 2, false, 1500)).filter(({ kind }) => kind === 'path-mtu').length, 0)
  assert.equal(casesFor(view(3, 2)).filter(({ kind }) => kind === 'path-mtu').length, 3)
})

test('one node: nothing to ask across nodes; responders are the pods with a host port', () => {
  const checks = casesFor(view(1, 1))
  assert.deepEqual(count(checks), {
    'pod-pod': 0,
    'pod-node': 1,
    'node-pod': 1,
    'pod-outside': 1,
    mtu: 0,
    'above-mtu': 0,
    'host-port': 4,
  })
  assert.deepEqual(
    responders(casesFor(view(2, 2))).map(({ name }) => name),
    ['pod-1-1', 'pod-2-1'],
  )
})

test('a pod that lacks an address of a family is named, not passed over', () => {
  const whole = view(2, 1, true)
  const nodes = whole.nodes.map((node, i) =>
    i === 0 ? node : { ...node, pods: node.pods.map((pod) => ({ ...pod, ips: pod.ips.slice(0, 1) })) },
  )
  assert.deepEqual(
    missing({ ...whole, nodes }).map(({ pod, family }) => [pod.name, family]),
    [['pod-2-1', 6]],
  )
})

test('the report counts, groups and takes medians; nothing asked is no success', () => {
  assert.equal(summarize([]).ok, false)
  const checks = casesFor(view(2, 1))
  const outcomes = checks.map((check, i): Outcome => ({ check, ok: i !== 0, detail: 'x', ms: i }))
  const report = summarize(outcomes)
  assert.equal(report.ok, false)
  assert.equal(report.checks, checks.length)
  assert.equal(report.failures, 1)
  assert.deepEqual(report.groups[0], { group: 'pod-pod', family: 4, checks: 2, failures: 1, medianMs: 1 })
  assert.equal(
    report.groups.reduce((sum, group) => sum + group.checks, 0),
    checks.length,
  )
  assert.equal(summarize(outcomes.slice(1)).ok, true)
})

test("a responder's words are read back, and nothing else is", () => {
  assert.deepEqual(parseHeard('pod-1-1 172.30.1.11 65536'), {
    name: 'pod-1-1',
    source: '172.30.1.11',
    bytes: 65_536,
  })
  for (const bad of ['', 'x', 'pod 172.30.1.11', 'pod 172.30.1.11 x', 'a b c d'])
    assert.equal(parseHeard(bad), undefined)
})
