/** The short form of `npm run survive`, without another version. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsRoot } from '../agent/cluster.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { survive } from './survive.ts'

/** Backends whose packets the kernel forwards lose nothing; a process of its own may fall silent, and not for long. */
const SILENCE_MS = 3_000

const backends: readonly (readonly [string, object, string | false])[] = [
  ['vxlan', { Type: 'vxlan' }, needsRoot],
  ['host-gw', { Type: 'host-gw' }, needsRoot],
  ['udp', { Type: 'udp' }, needsRoot],
  ['ipip', { Type: 'ipip' }, needsKernel('ipip')],
  ['wireguard', { Type: 'wireguard' }, needsKernel('wireguard')],
]

/** The virtual machine takes minutes for each: there only those that need its kernel. */
const ofKernel = ['ipip', 'wireguard']
const here = slowness > 1 ? backends.filter(([name]) => ofKernel.includes(name)) : backends

for (const [name, backend, skip] of here) {
  test(
    `${name}: agents end and are killed, and no packet is lost`,
    { skip, timeout: 120_000 * slowness },
    async (t) => {
      const probes = slowness > 1 ? 200 : 800
      const rounds = await survive({ backend, probes, perSecond: slowness > 1 ? 40 : 500, former: undefined })
      for (const { what, sent, lost, silence, starts } of rounds) {
        t.diagnostic(`${what}: ${lost} of ${sent} lost, ${starts} starts, silence ${Math.round(silence)} ms`)
        assert.ok(sent >= probes && starts >= 2)
        if (name === 'udp') assert.ok(silence <= SILENCE_MS * slowness, `silent for ${Math.round(silence)} ms`)
        else assert.equal(lost, 0, `${what}: ${lost} of ${sent} lost`)
      }
    },
  )
}
