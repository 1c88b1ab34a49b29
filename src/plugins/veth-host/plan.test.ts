import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import fc from 'fast-check'

import { formatIp, ip4, ipText } from '#ip/address.ts'
import { cidrOf, cidrText, containsCidr, formatCidr, ipNetText, parseCidr } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { LINK_LOCAL, LINK_LOCAL6 } from './config.ts'
import { disjoint, planOf, type PlanConf } from './plan.ts'

const conf: PlanConf = {
  gateways: { 4: LINK_LOCAL, 6: LINK_LOCAL6 },
  serviceCidrs: [cidrText('10.96.0.0/12'), cidrText('fd96::/112')],
  stackCidrs: [],
  nodeRoute: true,
  masqueradeServices: true,
}
const node = new Map<4 | 6, IpText>([
  [4, ipText('10.0.0.2')],
  [6, ipText('fd00::2')],
])
const own = (...addresses: string[]) => addresses.map((address) => ({ address: ipNetText(address) }))
const shown = (plan: ReturnType<typeof planOf>): readonly string[] =>
  plan.routes(7).map(({ dst, gateway, prefSrc }) => [dst, gateway ?? 'link', prefSrc].join(' ').trim())

describe('what goes over a leg', () => {
  test('of both families, in the order in which the kernel takes it', () => {
    const plan = planOf(conf, own('10.0.0.5/24', 'fd00::5/64'), node)
    assert.deepEqual(shown(plan), [
      '169.254.1.1/32 link',
      '10.0.0.2/32 169.254.1.1 10.0.0.5',
      '10.96.0.0/12 169.254.1.1 10.0.0.5',
      'fd00::2/128 fe80::1 fd00::5',
      'fd96::/112 fe80::1 fd00::5',
    ])
    assert.ok(plan.routes(7).every(({ oif }) => oif === 7))
    assert.deepEqual(plan.sources, [
      { pod: '10.0.0.5', node: '10.0.0.2', stack: [] },
      { pod: 'fd00::5', node: 'fd00::2', stack: [] },
    ])
  })

  test('only what the pod and the node have an address for', () => {
    assert.deepEqual(shown(planOf(conf, own('fd00::5/64'), node)), [
      'fd00::2/128 fe80::1 fd00::5',
      'fd96::/112 fe80::1 fd00::5',
    ])
    const nameless = planOf(conf, own('10.0.0.5/24'), new Map())
    assert.deepEqual(shown(nameless), ['169.254.1.1/32 link', '10.96.0.0/12 169.254.1.1 10.0.0.5'])
    assert.deepEqual(nameless.sources, [])
  })

  test('with more addresses the first is the source, and all of them are known', () => {
    const plan = planOf(conf, own('10.0.0.5/24', '10.0.0.6/24', '10.0.0.5/24'), node)
    assert.deepEqual(plan.ips, ['10.0.0.5', '10.0.0.6'])
    assert.ok(plan.routes(7).every(({ prefSrc }) => prefSrc === undefined || prefSrc === '10.0.0.5'))
    assert.equal(plan.sources.length, 2)
  })

  test('nothing that is not asked for; nothing twice', () => {
    const bare = { ...conf, serviceCidrs: [], nodeRoute: false, masqueradeServices: false }
    assert.deepEqual(shown(planOf(bare, own('10.0.0.5/24'), node)), ['169.254.1.1/32 link'])
    assert.deepEqual(planOf(bare, own('10.0.0.5/24'), node).sources, [])
    const twice = { ...conf, stackCidrs: [cidrText('10.96.0.0/12'), cidrText('10.0.0.2/32')] }
    const routes = shown(planOf(twice, own('10.0.0.5/24'), node))
    assert.equal(new Set(routes).size, routes.length)
    assert.equal(routes.length, 3)
  })
})

test('disjoint networks hold the same addresses, and none lies in another', () => {
  const cidr = fc
    .tuple(fc.nat(0xffff), fc.integer({ min: 0, max: 32 }))
    .map(([value, length]) => formatCidr(cidrOf(ip4(value * 0x10000), length)))
  fc.assert(
    fc.property(fc.array(cidr, { maxLength: 12 }), (given) => {
      const kept = disjoint(given).map(parseCidr)
      for (const one of given)
        assert.ok(
          kept.some((outer) => containsCidr(outer, parseCidr(one))),
          one,
        )
      for (const [i, a] of kept.entries())
        for (const b of kept.slice(i + 1)) assert.ok(!containsCidr(a, b) && !containsCidr(b, a), formatIp(a.ip))
    }),
  )
})
