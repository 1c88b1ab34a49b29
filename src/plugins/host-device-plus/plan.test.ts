import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { CARD_STATES, newCardId, type Card } from './card.ts'
import { judge, lacking, placesFor, roomFor, taken, type Seen, type Verdict } from './plan.ts'

const portOf = (id: string): NonNullable<Card['port']> => ({
  id,
  mac: parseMac('fa:16:3e:00:00:01'),
  mtu: 1450,
  ips: [],
  routes: [],
  nameservers: [ipText('10.0.0.2')],
})
const holder = { containerId: 'c', ifname: 'eth0', netns: '/run/netns/x', netnsId: '4:1', boot: 'now' }
const base: Card = {
  version: 1,
  id: '0123456789ab',
  state: 'ready',
  since: 0,
  cluster: 'blue',
  server: 's',
  network: 'n',
  port: portOf('p'),
}
const seen: Seen = { boot: 'now', now: 0, hasLink: true, idleBefore: 0, poolSize: 1 }
const there = { attached: new Set(['p']), ports: new Set(['p']) }
const gone = { attached: new Set<string>(), ports: new Set(['p']) }
const deleted = { attached: new Set(['p']), ports: new Set<string>() }

test('what becomes of a card that nobody works on', () => {
  const cases: readonly (readonly [string, Card, Partial<Seen>, Verdict | 'lose'])[] = [
    ['idle', base, {}, 'keep'],
    ['idle, and the cloud agrees', base, { cloud: there }, 'keep'],
    ['idle, one too many', base, { idleBefore: 1 }, 'leave'],
    ['idle, and no pool any more', base, { poolSize: 0 }, 'leave'],
    ['idle, unplugged', base, { hasLink: false }, 'leave'],
    ['idle, taken off the server', base, { cloud: gone }, 'leave'],
    ['idle, its port deleted', base, { cloud: deleted }, 'leave'],
    ['idle, lost before', { ...base, lost: 'x' }, {}, 'leave'],
    ['used', { ...base, holder }, { hasLink: false, idleBefore: 9 }, 'keep'],
    ['used, and the cloud agrees', { ...base, holder }, { cloud: there, hasLink: false }, 'keep'],
    ['used, in an earlier boot', { ...base, holder: { ...holder, boot: 'then' } }, { hasLink: false }, 'free'],
    ['used, its port deleted', { ...base, holder }, { cloud: deleted }, 'lose'],
    ['used, taken off the server', { ...base, holder }, { cloud: gone }, 'lose'],
    ['used, told before', { ...base, holder, lost: 'x' }, { cloud: gone }, 'keep'],
    ['used, and found again', { ...base, holder, lost: 'x' }, { cloud: there }, 'found'],
    ['used and lost, and not looked at', { ...base, holder, lost: 'x' }, {}, 'keep'],
    ...(['creating', 'attaching', 'leaving'] as const).flatMap(
      (state) =>
        [
          [state, { ...base, state }, {}, 'leave'],
          [`${state}, for a pod`, { ...base, state, holder }, { cloud: there }, 'leave'],
        ] as const,
    ),
  ]
  for (const [name, card, more, verdict] of cases) {
    const is = judge(card, { ...seen, ...more })
    assert.equal(typeof is === 'object' ? 'lose' : is, verdict, name)
  }
})

const cardArbitrary = fc
  .record({ state: fc.constantFrom(...CARD_STATES), port: fc.option(fc.nat(9)), isHeld: fc.boolean() })
  .map(({ state, port, isHeld }): Card => {
    const { port: _, ...rest } = base
    const of = isHeld ? { holder } : {}
    return { ...rest, ...of, id: newCardId(), state, ...(port === null ? {} : { port: portOf(`p${port}`) }) }
  })
const attachedArbitrary = fc.uniqueArray(fc.nat(14)).map((ports) => new Set(ports.map((port) => `p${port}`)))

test('a card more is never allowed when the limit is reached, whoever attached the others', () => {
  fc.assert(
    fc.property(fc.nat(30), attachedArbitrary, fc.array(cardArbitrary), (limit, attached, cards) => {
      const room = roomFor(limit, attached, cards)
      assert.ok(room === 0 || taken(attached, cards) + room === limit)
      assert.ok(taken(attached, cards) >= attached.size)
      // One without a port takes a place, and one that Nova tells of takes one, not two.
      const { port: _, ...unborn } = base
      assert.equal(taken(attached, [...cards, unborn]), taken(attached, cards) + 1)
      for (const port of attached)
        assert.ok(taken(attached, [...cards, { ...base, port: portOf(port) }]) === taken(attached, cards))
      // What pods can have altogether is what the others leave.
      assert.ok(placesFor(limit, attached, cards) >= room)
      assert.equal(placesFor(limit, attached, []), Math.max(0, limit - attached.size))
    }),
  )
})

test('the pool lacks what is neither idle nor on its way', () => {
  const { port: _, ...unborn } = base
  assert.equal(lacking(3, []), 3)
  assert.equal(lacking(3, [base, { ...unborn, state: 'creating' }]), 1)
  // For a pod, leaving, lost: none of them comes into the pool.
  const others: readonly Card[] = [
    { ...unborn, state: 'creating', holder },
    { ...base, state: 'leaving' },
    { ...base, lost: 'x' },
    { ...base, holder },
  ]
  assert.equal(lacking(3, others), 3)
  assert.equal(lacking(0, others), 0)
})
