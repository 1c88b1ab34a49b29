import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { addToIp, compareIp, formatIp, parseIp, type Ip, type IpText } from '#ip/address.ts'
import { capacityOf, isFull, isGateway, nextFree } from './allocator.ts'
import { formatRangeSet, parseRangeSets, rangeOfSet, refuseOverlappingSets, type RangeSet } from './range.ts'

const setOf = (...ranges: object[]): RangeSet => parseRangeSets([ranges], 'ipam.ranges')[0]!

/** Every address of a set in order, by the plainest way there is. */
function enumerate(set: RangeSet): IpText[] {
  const all: IpText[] = []
  for (const range of set) {
    for (let ip: Ip = range.start; compareIp(ip, range.end) <= 0; ip = addToIp(ip, 1)) {
      if (!isGateway(set, ip)) all.push(formatIp(ip))
    }
  }
  return all
}

const anySet = fc
  .array(
    fc.record({ from: fc.integer({ min: 0, max: 14 }), size: fc.integer({ min: 1, max: 12 }), gateway: fc.nat(15) }),
    {
      minLength: 1,
      maxLength: 3,
    },
  )
  .chain((parts) => fc.constantFrom(4, 6).map((family) => ({ parts, family })))
  .map(({ parts, family }) => {
    const text = (net: number, n: number): string =>
      family === 4 ? `10.0.${net}.${n}` : `fd00:${net}::${n.toString(16)}`
    return setOf(
      ...parts.map(({ from, size, gateway }, i) => ({
        subnet: `${text(i, 0)}/${family === 4 ? 24 : 120}`,
        rangeStart: text(i, from + 1),
        rangeEnd: text(i, from + size),
        gateway: text(i, gateway + 1),
      })),
    )
  })

test('the allocator agrees with a plain model over any sequence of takes and releases', () => {
  fc.assert(
    fc.property(
      anySet,
      fc.array(fc.oneof(fc.constant('take' as const), fc.nat(40)), { maxLength: 80 }),
      (set, steps) => {
        const all = enumerate(set)
        assert.equal(capacityOf(set), BigInt(all.length))
        const taken = new Set<IpText>()
        let last: Ip | undefined
        for (const step of steps) {
          if (step === 'take') {
            const start = last === undefined ? 0 : all.findIndex((ip) => ip === formatIp(last!)) + 1
            const expected = [...all.slice(start), ...all.slice(0, start)].find((ip) => !taken.has(ip))
            const got = nextFree(set, taken, last)
            assert.equal(got?.text, expected)
            assert.equal(isFull(set, [...taken].map(parseIp)), expected === undefined)
            if (got === undefined) continue
            assert.ok(rangeOfSet(set, got.ip) === got.range && !taken.has(got.text))
            taken.add(got.text)
            last = got.ip
          } else {
            const victim = [...taken][step % Math.max(taken.size, 1)]
            if (victim !== undefined) taken.delete(victim)
          }
        }
      },
    ),
  )
})

test('a round robin that starts from an address outside the set starts at the beginning', () => {
  const set = setOf({ subnet: '10.1.0.0/29' })
  assert.equal(nextFree(set, new Set<IpText>(), parseIp('192.168.0.1'))?.text, '10.1.0.2')
  assert.equal(nextFree(set, new Set<IpText>(), parseIp('10.1.0.6'))?.text, '10.1.0.2')
})

test('the end of the address space ends the search', () => {
  const set = setOf({ subnet: '255.255.255.252/30', rangeStart: '255.255.255.254', rangeEnd: '255.255.255.255' })
  const taken = new Set(['255.255.255.254', '255.255.255.255'].map((t) => formatIp(parseIp(t))))
  assert.equal(nextFree(set, taken, parseIp('255.255.255.255')), undefined)
  assert.equal(nextFree(set, new Set<IpText>(), parseIp('255.255.255.255'))?.text, '255.255.255.254')
})

test('defaults of a range are those of the reference plugin', () => {
  assert.equal(formatRangeSet(setOf({ subnet: '10.1.0.0/24' })), '10.1.0.1-10.1.0.254')
  assert.equal(formatRangeSet(setOf({ subnet: 'fd00:10::/64' })), 'fd00:10::1-fd00:10::ffff:ffff:ffff:ffff')
  assert.equal(formatIp(setOf({ subnet: '10.1.0.0/24' })[0]!.gateway), '10.1.0.1')
})

test('a huge range is never counted address by address', () => {
  const set = setOf({ subnet: 'fd00::/16' })
  assert.equal(isFull(set, []), false)
  assert.equal(nextFree(set, new Set<IpText>())?.text, 'fd00::2')
})

test('a range that cannot work is refused with its field', () => {
  const bad: [object[], RegExp][] = [
    [[], /ranges\[0\] is empty/],
    [[{}], /subnet/],
    [[{ subnet: '10.1.0.0' }], /ranges\[0\]\[0\]\.subnet is "10\.1\.0\.0"/],
    [[{ subnet: '10.1.0.1/24' }], /host bits.*10\.1\.0\.0\/24/],
    [[{ subnet: '10.1.0.0/31' }], /too small/],
    [[{ subnet: '10.1.0.0/32' }], /too small/],
    [[{ subnet: 'fd00::/127' }], /too small/],
    [[{ subnet: '10.1.0.0/24', rangeStart: '10.2.0.5' }], /rangeStart 10\.2\.0\.5 is not in the subnet/],
    [[{ subnet: '10.1.0.0/24', rangeEnd: '10.2.0.5' }], /rangeEnd/],
    [[{ subnet: '10.1.0.0/24', rangeStart: 'x' }], /rangeStart is "x"/],
    [[{ subnet: '10.1.0.0/24', gateway: 'fd00::1' }], /gateway fd00::1 is not of the family/],
    [
      [{ subnet: '10.1.0.0/24', rangeStart: '10.1.0.9', rangeEnd: '10.1.0.5' }],
      /rangeStart 10\.1\.0\.9 lies after rangeEnd/,
    ],
    [[{ subnet: '10.1.0.0/24' }, { subnet: 'fd00::/64' }], /mixes IPv4 and IPv6/],
    [[{ subnet: '10.1.0.0/16' }, { subnet: '10.1.5.0/24' }], /ranges\[0\]\[1\].*overlaps.*ranges\[0\]\[0\]/],
    [[{ subnet: 5 }], /subnet/],
  ]
  for (const [ranges, message] of bad)
    assert.throws(() => setOf(...ranges), { code: 7, message }, JSON.stringify(ranges))
  const sets = parseRangeSets([[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.1.0.128/25' }]], 'ipam.ranges')
  assert.throws(() => refuseOverlappingSets(sets), { code: 7, message: /overlaps/ })
})
