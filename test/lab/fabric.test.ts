import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { after, test } from 'node:test'
import { ipText } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { connect, makeNamespaces, removeNamespaces } from '#lab/fabric.ts'
import { namespacesOf, planLab, type LabPlan } from '#lab/plan.ts'
import { netnsPath } from '#lab/paths.ts'
import { askTcp, askUdp, type Question } from '#lab/check/ask.ts'
import { tcpResponder, udpResponder } from '#lab/check/responder.ts'
import { Pinger } from '#lab/probe/pinger.ts'
import { labSpec, type LabSpec } from '#lab/spec.ts'

const made: LabPlan[] = []
after(() => made.forEach((plan) => removeNamespaces(namespacesOf(plan))))

async function lab(suffix: string, spec: Partial<LabSpec>): Promise<LabPlan> {
  const plan = planLab(labSpec({ ...spec, name: `labfab${suffix}${process.pid % 1000}` }))
  made.push(plan)
  await makeNamespaces(plan)
  connect(plan)
  return plan
}

test('flat: nodes reach each other and the outside, by both families; the machine itself has nothing of it', async () => {
  const links = execFileSync('ip', ['-o', 'link']).toString()
  const plan = await lab('a', { ipv6: true, nodes: 2 })
  const [one, two] = plan.nodes
  assert.ok(one !== undefined && two !== undefined)
  for (const family of [4, 6] as const) {
    using pinger = new Pinger(netnsPath(one.namespace), family)
    const at: number = family === 4 ? 0 : 1
    const targets: IpText[] = [two.underlay[at]!.ip, plan.outside.addresses[at]!.ip, one.gateways[at]!]
    for (const to of targets) {
      const result = await pinger.ping(to)
      assert.equal(result.kind, 'reply', `${one.name} to ${to}: ${JSON.stringify(result)}`)
    }
  }
  assert.equal(execFileSync('ip', ['-o', 'link']).toString(), links)
  const seen = execFileSync('ip', ['netns', 'exec', one.namespace, 'ip', '-br', 'addr', 'show', 'eth0']).toString()
  assert.match(seen, /172\.30\.1\.11\/24.*fd00:30:1::11\/64/)
})

test('routed: another subnet is a hop away; full-size packets pass, longer ones are refused', async () => {
  const plan = await lab('b', { topology: 'routed' })
  const [one, two, three] = plan.nodes
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  const netns = netnsPath(one.namespace)
  using df = new Pinger(netns, 4, { df: true })
  assert.equal((await df.ping(two.underlay[0]!.ip, { packetLength: 1500 })).kind, 'reply')
  assert.equal((await df.ping(three.underlay[0]!.ip, { packetLength: 1500 })).kind, 'reply')
  assert.deepEqual(await df.ping(three.underlay[0]!.ip, { packetLength: 1501 }), { kind: 'too-big', mtu: undefined })
  const hop = execFileSync('ip', [
    'netns',
    'exec',
    one.namespace,
    'ip',
    'route',
    'get',
    three.underlay[0]!.ip,
  ]).toString()
  assert.match(hop, /via 172\.30\.1\.1 dev eth0/)
})

test('ping says what happened: an ICMP answer naming the MTU, no route, nobody there', async () => {
  const plan = await lab('c', { topology: 'routed' })
  const [one, , three] = plan.nodes
  assert.ok(one !== undefined && three !== undefined)
  execFileSync('ip', ['-n', plan.fabric.namespace, 'link', 'set', 'rack-2', 'mtu', '1400'])
  using df = new Pinger(netnsPath(one.namespace), 4, { df: true })
  assert.deepEqual(await df.ping(three.underlay[0]!.ip, { packetLength: 1500 }), { kind: 'too-big', mtu: 1400 })
  using outside = new Pinger(netnsPath(plan.outside.namespace), 4)
  const unknown = await outside.ping(ipText('10.244.1.2'))
  assert.deepEqual(unknown, { kind: 'unreachable', reason: 'ENETUNREACH' })
  using pinger = new Pinger(netnsPath(one.namespace), 4)
  const started = Date.now()
  const silent = await pinger.ping(ipText('172.30.1.99'), { timeoutMs: 300 })
  assert.equal(silent.kind, 'timeout')
  assert.ok(Date.now() - started < 1000)
})

test('responders tell who asked, over UDP and TCP, in both families; where nobody listens the reason is told', async () => {
  const plan = await lab('d', { ipv6: true })
  const [one, two] = plan.nodes
  assert.ok(one !== undefined && two !== undefined)
  const place = { name: two.name, namespace: two.namespace, ips: two.underlay.map(({ ip }) => ip) }
  for (const family of [4, 6] as const) {
    const at: number = family === 4 ? 0 : 1
    const ip: IpText = two.underlay[at]!.ip
    const question: Question = { namespace: one.namespace, family, ip, port: 80, timeoutMs: 1000 }
    using stack = new DisposableStack()
    assert.deepEqual(await askTcp(question, 10), { failed: 'ECONNREFUSED' })
    stack.use(udpResponder(place, family, 80))
    stack.use(tcpResponder(place, family, 80))
    const source: IpText = one.underlay[at]!.ip
    assert.deepEqual(await askUdp(question), { name: two.name, source, bytes: 1 })
    assert.deepEqual(await askTcp(question, 65_536), { name: two.name, source, bytes: 65_536 })
  }
})

test('many pings at once are all answered, and no descriptor stays open', async () => {
  const plan = await lab('e', {})
  const before = readdirSync('/proc/self/fd').length
  {
    using pinger = new Pinger(netnsPath(plan.nodes[0]!.namespace), 4)
    const results = await Promise.all(
      Array.from({ length: 500 }, (_, i) => pinger.ping(plan.nodes[1 + (i % 2)]!.underlay[0]!.ip)),
    )
    assert.equal(results.filter(({ kind }) => kind === 'reply').length, 500)
  }
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(readdirSync('/proc/self/fd').length, before)
})
