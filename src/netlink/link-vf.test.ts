import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Reader, Writer } from '#codec/buffer.ts'
import { macFromBytes, parseMac } from '#ip/mac.ts'
import { readVf, setVfMessage, VLAN_PROTOCOL, vfLinkAttributes, type VfSettings } from './link-vf.ts'
import { ifinfomsg } from './link-peer.ts'

function bodyOf(pf: number, vf: number, settings: VfSettings): Uint8Array {
  const writer = new Writer()
  setVfMessage(pf, vf, settings).write(writer)
  return writer.copy()
}

test('the bytes are those of struct ifla_vf_*', () => {
  const mac = parseMac('02:00:00:00:00:01')
  const vlan = { id: 5, qos: 3, protocol: VLAN_PROTOCOL['802.1ad'] }
  const wanted = [
    `28000100 02000000 020000000001 ${'00'.repeat(26)}`,
    '18000c80 14000100 02000000 05000000 03000000 88a80000',
    '0c000400 02000000 01000000',
    '0c000900 02000000 00000000',
  ]
  const body = bodyOf(7, 2, { mac, vlan, spoofCheck: true, trust: false })
  assert.equal(Buffer.from(body.subarray(24)).toString('hex'), wanted.join('').replaceAll(' ', ''))
  assert.equal(Buffer.from(body.subarray(0, 16)).toString('hex'), '00000000070000000000000000000000')
  // Of the two that hold the others: their numbers, and lengths up to the end.
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  assert.deepEqual([view.getUint16(16, true), view.getUint16(18, true)], [body.length - 16, 0x8016])
  assert.deepEqual([view.getUint16(20, true), view.getUint16(22, true)], [body.length - 20, 1])
  assert.equal(
    Buffer.from(bodyOf(7, 1, { linkState: 'disable', rate: { min: 10, max: 200 } }).subarray(24)).toString('hex'),
    '0c000500010000000200000010000600010000000a000000c8000000',
  )
})

const settings: fc.Arbitrary<VfSettings> = fc.record(
  {
    mac: fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes),
    vlan: fc.record(
      { id: fc.nat(4094), qos: fc.nat(7), protocol: fc.constantFrom(...Object.values(VLAN_PROTOCOL)) },
      { noNullPrototype: true },
    ),
    spoofCheck: fc.boolean(),
    trust: fc.boolean(),
    linkState: fc.constantFrom('auto' as const, 'enable' as const, 'disable' as const),
    rate: fc.record({ min: fc.nat(0xffff_ffff), max: fc.nat(0xffff_ffff) }, { noNullPrototype: true }),
  },
  { noNullPrototype: true },
)

test('what is set reads the same', () => {
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), fc.nat(255), settings, (pf, vf, given) => {
      const reader = new Reader(bodyOf(pf, vf, given))
      assert.equal(ifinfomsg.read(reader).index, pf)
      const [info] = vfLinkAttributes.read(reader).vfs?.list ?? []
      assert.deepEqual(readVf(info ?? {}), {
        mac: given.mac,
        vlan: given.vlan,
        spoofCheck: given.spoofCheck,
        trust: given.trust,
        linkState: given.linkState,
        rate: given.rate,
      })
    }),
  )
})

test('a driver that knows no VLAN list tells the plain tag', () => {
  assert.deepEqual(readVf({ vlan: { vf: 0, vlan: 9, qos: 1 } }).vlan, { id: 9, qos: 1, protocol: 0x8100 })
})
