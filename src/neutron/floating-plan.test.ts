import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { holdTags, holderOf, markFields, markText } from '#openstack/mark.ts'
import type { FloatingIp } from '#openstack/neutron/floating-ip.ts'
import { floatingFixture, nodeFixture, podFixture, portFixture } from './fixtures.ts'
import { planFloating, type FloatingPlan, type FloatingView } from './floating-plan.ts'
import { address4, floatingWish, type PodView } from './pod-view.ts'

const nodes = new Map(['a', 'b'].map((name) => [name, nodeFixture(name)]))
const ports = [
  portFixture('port-a', ['10.0.0.1', '10.9.0.1', '10.9.0.2'], { device_id: 'server-a' }),
  portFixture('port-b', ['10.0.0.2', '10.9.0.3'], { device_id: 'server-b' }),
]
const pod = (name: string, node: string, address: string, wish?: string, more: Partial<PodView> = {}): PodView =>
  podFixture(name, node, address, { ...(wish === undefined ? {} : { floating: floatingWish(wish) }), ...more })
const view = (more: Partial<FloatingView>): FloatingView => ({
  cluster: 'blue',
  pods: [],
  nodes,
  floating: [],
  ports,
  network: 'ext',
  isCertain: true,
  ended: new Set(),
  doubted: new Set(),
  isFull: true,
  ...more,
})
const said = (plan: FloatingPlan): readonly string[] =>
  plan.steps.map((step) => `${step.do} ${step.do === 'make' ? step.network : step.id}`)
const reasons = (plan: FloatingPlan): readonly (string | undefined)[] => plan.states.map(({ reason }) => reason)

const FREE = floatingFixture('f1', '203.0.113.1')
const held = (uid: string, port?: string, fixed?: string): FloatingIp =>
  floatingFixture('f1', '203.0.113.1', {
    tags: holdTags('blue', uid).slice(),
    ...(port === undefined || fixed === undefined ? {} : { port_id: port, fixed_ip_address: ipText(fixed) }),
  })

test('a ready pod gets the address that it names: held first, then led there', () => {
  const one = pod('one', 'a', '10.9.0.1', '203.0.113.1')
  const plan = planFloating(view({ pods: [one], floating: [FREE] }))
  assert.deepEqual(said(plan), ['hold f1', 'point f1'])
  assert.deepEqual(plan.steps[1], { do: 'point', id: 'f1', pod: one, target: { port: 'port-a', address: '10.9.0.1' } })
  assert.deepEqual(plan.states, [{ pod: one, address: '203.0.113.1', reason: undefined }])
  const done = planFloating(view({ pods: [one], floating: [held('uid-one', 'port-a', '10.9.0.1')] }))
  assert.deepEqual([said(done), reasons(done)], [[], [undefined]])
})

test('killed between holding and leading: the next one goes on', () => {
  const plan = planFloating(view({ pods: [pod('one', 'a', '10.9.0.1', '203.0.113.1')], floating: [held('uid-one')] }))
  assert.deepEqual(said(plan), ['point f1'])
})

test('auto makes one, of the network that is named or the usual one', () => {
  const of = (wish: string, network: string | undefined): FloatingPlan =>
    planFloating(view({ pods: [pod('one', 'a', '10.9.0.1', wish)], network }))
  assert.deepEqual(said(of('auto', 'ext')), ['make ext'])
  assert.deepEqual(said(of('auto:net2', 'ext')), ['make net2'])
  assert.deepEqual([said(of('auto', undefined)), reasons(of('auto', undefined))], [[], ['no-network']])
})

test('why a pod has none', () => {
  const why = (one: PodView, more: Partial<FloatingView> = {}): readonly (string | undefined)[] =>
    reasons(planFloating(view({ pods: [one], floating: [FREE], ...more })))
  assert.deepEqual(why(pod('one', 'a', '10.9.0.1', 'any')), ['unreadable'])
  assert.deepEqual(why(pod('one', 'a', '', 'auto')), ['no-address'])
  assert.deepEqual(why(pod('one', 'a', '10.9.0.1', 'auto', { isReady: false })), ['not-ready'])
  assert.deepEqual(why(pod('one', 'b', '10.9.0.1', 'auto')), ['no-port'], "the port is another node's")
  assert.deepEqual(why(pod('one', 'a', '10.9.0.1', '203.0.113.9')), ['no-such-address'])
  const used = { ...FREE, port_id: 'port-b', fixed_ip_address: ipText('10.9.0.3') }
  assert.deepEqual(why(pod('one', 'a', '10.9.0.1', '203.0.113.1'), { floating: [used] }), ['used-by-others'])
  const green = { ...FREE, tags: holdTags('green', 'x').slice() }
  assert.deepEqual(why(pod('one', 'a', '10.9.0.1', '203.0.113.1'), { floating: [green] }), ['used-by-others'])
})

test('two pods that name one address: the older has it, whatever the order', () => {
  const old = pod('old', 'a', '10.9.0.1', '203.0.113.1', { created: 1 })
  const young = pod('young', 'a', '10.9.0.2', '203.0.113.1', { created: 2 })
  for (const pods of [[old, young], [young, old]]) {
    const plan = planFloating(view({ pods, floating: [FREE] }))
    assert.deepEqual(said(plan), ['hold f1', 'point f1'])
    assert.deepEqual(plan.states.map((one) => [one.pod.key, one.reason]), [['default/old', undefined], ['default/young', 'held-by-another-pod']])
  } // prettier-ignore
})

test('it goes with the pod: at once when the pod was seen to end, after two rounds when it was never seen', () => {
  const floating = [held('uid-gone', 'port-a', '10.9.0.1')]
  assert.deepEqual(said(planFloating(view({ floating, ended: new Set(['uid-gone']) }))), ['unpoint f1', 'give-back f1'])
  const over = pod('gone', 'a', '10.9.0.1', '203.0.113.1', { isOver: true })
  assert.deepEqual(said(planFloating(view({ floating, pods: [over] }))), ['unpoint f1', 'give-back f1'])
  const first = planFloating(view({ floating }))
  assert.deepEqual([said(first), [...first.doubted]], [[], ['f1']])
  const { doubted } = first
  assert.deepEqual(said(planFloating(view({ floating, doubted, isCertain: false }))), [])
  assert.deepEqual(said(planFloating(view({ floating, doubted, isFull: false }))), [])
  assert.deepEqual(said(planFloating(view({ floating, doubted }))), ['unpoint f1', 'give-back f1'])
})

test("an address that is another pod's by now, or has left its port, is led nowhere at once", () => {
  const next = pod('next', 'a', '10.9.0.1')
  const floating = [held('uid-gone', 'port-a', '10.9.0.1')]
  assert.deepEqual(said(planFloating(view({ floating, pods: [next], isCertain: false }))), ['unpoint f1'])
  const own = pod('one', 'a', '10.9.0.2', '203.0.113.1')
  const elsewhere = planFloating(view({ floating: [held('uid-one', 'port-a', '10.9.0.1')], pods: [own] }))
  assert.deepEqual(said(elsewhere), ['unpoint f1', 'point f1'])
  const bare = [portFixture('port-a', ['10.0.0.1'], { device_id: 'server-a' })]
  const left = pod('one', 'a', '10.9.0.1', '203.0.113.1')
  const plan = planFloating(view({ floating: [held('uid-one', 'port-a', '10.9.0.1')], pods: [left], ports: bare }))
  assert.deepEqual([said(plan), reasons(plan)], [['unpoint f1'], ['no-port']])
})

test('a wish that changes or ends frees what was held; what was made for the pod is deleted', () => {
  const made = floatingFixture('f2', '203.0.113.2', {
    description: markText({ cluster: 'blue', kind: 'floating-ip', node: 'uid-a', subject: 'uid-one' }),
    port_id: 'port-a',
    fixed_ip_address: ipText('10.9.0.1'),
  })
  const plan = planFloating(view({ pods: [pod('one', 'a', '10.9.0.1')], floating: [made] }))
  assert.deepEqual(said(plan), ['unpoint f2', 'give-back f2'])
  assert.ok(plan.steps[1]?.do === 'give-back' && plan.steps[1].isMade)
  const twice = [made, { ...made, id: 'f3', floating_ip_address: ipText('203.0.113.3'), port_id: undefined }]
  const auto = pod('one', 'a', '10.9.0.1', 'auto')
  assert.deepEqual(said(planFloating(view({ pods: [auto], floating: twice }))), ['give-back f3'])
})

test("a card of its own: the pod's port is found by its mark", () => {
  const nic = portFixture('nic', ['10.8.0.1'], {
    ...markFields({ cluster: 'blue', kind: 'nic', node: 'uid-a' }),
    device_id: 'server-a',
  })
  const reserved = portFixture('res', ['10.8.0.2'], {
    ...markFields({ cluster: 'blue', kind: 'address', node: 'uid-a' }),
  })
  const all = [...ports, nic, reserved]
  const plan = planFloating(view({ pods: [pod('one', 'a', '10.8.0.1', '203.0.113.1')], floating: [FREE], ports: all }))
  assert.ok(plan.steps[1]?.do === 'point' && plan.steps[1].target.port === 'nic')
  const paired = planFloating(
    view({ pods: [pod('one', 'a', '10.8.0.2', '203.0.113.1')], floating: [FREE], ports: all }),
  )
  assert.deepEqual(reasons(paired), ['no-port'], 'an address that is only an address pair can have none')
})

/** What Neutron makes of the steps. */
function apply(floating: readonly FloatingIp[], plan: FloatingPlan): readonly FloatingIp[] {
  let now = [...floating]
  const change = (id: string, to: (one: FloatingIp) => FloatingIp): void => {
    now = now.map((one) => (one.id === id ? to(one) : one))
  }
  for (const step of plan.steps) {
    switch (step.do) {
      case 'unpoint':
        change(step.id, (one) => ({ ...one, port_id: undefined, fixed_ip_address: undefined }))
        break
      case 'give-back':
        assert.equal(now.find(({ id }) => id === step.id)?.port_id, undefined, 'given back while it leads somewhere')
        if (step.isMade) now = now.filter(({ id }) => id !== step.id)
        else change(step.id, (one) => ({ ...one, tags: one.tags.filter((tag) => !step.tags.includes(tag)) }))
        break
      case 'hold':
        change(step.id, (one) => ({ ...one, tags: [...one.tags, ...holdTags('blue', step.pod.uid)] }))
        break
      case 'point':
        assert.equal(now.find(({ id }) => id === step.id)?.port_id, undefined)
        change(step.id, (one) => ({ ...one, port_id: step.target.port, fixed_ip_address: step.target.address }))
        break
      case 'make': {
        const n = now.length + 50
        const subject = step.pod.uid
        now.push(
          floatingFixture(`f${n}`, `203.0.113.${n}`, {
            floating_network_id: step.network,
            description: markText({ cluster: 'blue', kind: 'floating-ip', node: 'uid-a', subject }),
            port_id: step.target.port,
            fixed_ip_address: step.target.address,
          }),
        )
        break
      }
      default:
        step satisfies never
    }
  }
  return now
}

test("whatever happens to pods and floating IPs: none of ours leads to a stranger, others' stay, and it comes to rest", () => {
  const anyPod = fc.record({
    n: fc.integer({ min: 1, max: 3 }),
    wish: fc.constantFrom(undefined, 'auto', '203.0.113.1', '203.0.113.2', 'nonsense'),
    isReady: fc.boolean(),
    isOver: fc.boolean(),
  })
  const state = fc.uniqueArray(anyPod, { selector: ({ n }) => n, maxLength: 3 })
  const podsOf = (list: readonly { n: number; wish: string | undefined; isReady: boolean; isOver: boolean }[], era: number) =>
    list.map(({ n, wish, ...more }) =>
      // A new era has new pods with the addresses of the old ones.
      podFixture(`p${n}-${era}`, n === 3 ? 'b' : 'a', `10.9.0.${n}`, { ...more, ...(wish === undefined ? {} : { floating: floatingWish(wish) }), created: era }),
    ) // prettier-ignore
  const stranger = floatingFixture('f2', '203.0.113.2', { port_id: 'port-b', fixed_ip_address: ipText('10.0.0.2') })
  fc.assert(
    fc.property(fc.array(state, { minLength: 1, maxLength: 4 }), (eras) => {
      let floating: readonly FloatingIp[] = [FREE, stranger]
      let pods: readonly PodView[] = []
      for (const [era, list] of eras.entries()) {
        pods = podsOf(list, era)
        let doubted: ReadonlySet<string> = new Set()
        for (let round = 0; round < 5; round += 1) {
          const plan = planFloating(view({ pods, floating, doubted }))
          floating = apply(floating, plan)
          doubted = plan.doubted
          for (const one of floating) {
            const holder = holderOf(one, 'blue')
            if (holder === undefined || one.fixed_ip_address === undefined) continue
            const owner = pods.find((each) => !each.isOver && address4(each) === one.fixed_ip_address)
            assert.ok(owner === undefined || owner.uid === holder, `${one.id} leads to ${owner?.key ?? ''}`)
          }
        }
        assert.deepEqual(said(planFloating(view({ pods, floating, doubted }))), [])
      }
      assert.deepEqual(
        floating.find(({ id }) => id === 'f2'),
        stranger,
      )
      const uids = new Set(pods.filter(({ isOver }) => !isOver).map(({ uid }) => uid))
      for (const one of floating)
        assert.ok(uids.has(holderOf(one, 'blue') ?? '') || one.id === 'f2' || one.tags.length === 0)
    }),
    { numRuns: 300 },
  )
})
