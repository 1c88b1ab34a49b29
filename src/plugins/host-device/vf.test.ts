import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseNetConf } from '#cni/config.ts'
import { fakeHost } from '#cni/fake-host.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { VLAN_PROTOCOL } from '#netlink/link-vf.ts'
import { ERRNO } from '#sys/errno.ts'
import { FakeCard, fakeMac, FRESH } from './fake-card.ts'
import { applyVf, recordOf, restoreVf, wrongVf } from './vf.ts'
import { asksAnything, vfConf } from './vf-config.ts'

const inputOf = (raw: JsonObject): PluginInput => ({
  containerId: 'c1',
  netns: '',
  ifname: 'eth0',
  args: new Map(),
  path: [],
  config: parseNetConf({ cniVersion: '1.1.0', name: 'net1', type: 'host-device', ...raw }),
})
const settings = (raw: JsonObject) => vfConf(inputOf(raw), 'host-device').settings
const place = { pf: 'pf0', vf: 3 }
const EVERY: JsonObject = {
  vlan: 5,
  vlanQoS: 3,
  vlanProto: '802.1AD',
  mac: fakeMac(1).toUpperCase(),
  spoofchk: 'off',
  trust: 'on',
  link_state: 'enable',
  min_tx_rate: 10,
  max_tx_rate: 100,
}

test('every field and its defaults', () => {
  assert.ok(!asksAnything(settings({})))
  assert.deepEqual(settings(EVERY), {
    mac: fakeMac(1),
    vlan: { id: 5, qos: 3, protocol: VLAN_PROTOCOL['802.1ad'] },
    spoofCheck: false,
    trust: true,
    linkState: 'enable',
    rate: { min: 10, max: 100 },
  })
  assert.deepEqual(settings({ vlan: 5 }).vlan, { id: 5, qos: 0, protocol: VLAN_PROTOCOL['802.1q'] })
  assert.deepEqual(settings({ vlan: 0 }).vlan, { id: 0, qos: 0, protocol: VLAN_PROTOCOL['802.1q'] })
  assert.deepEqual(settings({ max_tx_rate: 0 }).rate, { min: 0, max: 0 })
  assert.ok(!asksAnything(settings({ spoofchk: '', trust: '', link_state: '', mac: '', vlan: null })))
  assert.equal(vfConf(inputOf({ trust: 'off' }), 'x').field, 'trust')
  assert.equal(vfConf(inputOf({}), 'x').field, undefined)
})

test('what is refused, with the field', () => {
  const bad: [JsonObject, RegExp][] = [
    [{ vlan: 4095 }, /vlan.*4095/],
    [{ vlan: 1, vlanQoS: 8 }, /vlanQoS.*8/],
    [{ vlan: 1, vlanProto: '802.3' }, /vlanProto.*802\.3/],
    [{ vlanQoS: 1 }, /"vlanQoS" without "vlan"/],
    [{ vlanProto: '802.1q' }, /"vlanProto" without "vlan"/],
    [{ vlan: 0, vlanQoS: 1 }, /"vlan" is 0/],
    [{ vlan: 0, vlanProto: '802.1ad' }, /"vlan" is 0/],
    [{ spoofchk: true }, /spoofchk.*true/],
    [{ trust: 'yes' }, /trust.*yes/],
    [{ link_state: 'up' }, /link_state.*up/],
    [{ min_tx_rate: -1 }, /min_tx_rate.*-1/],
    [{ mac: '01:00:00:00:00:01' }, /group/],
  ]
  for (const [raw, message] of bad) assert.throws(() => settings(raw), { code: 7, message }, JSON.stringify(raw))
})

test('only what is asked for is set, and put back as it was', () => {
  const wanted = settings(EVERY)
  const former = { ...FRESH, mac: fakeMac(9), vlan: { id: 7, qos: 1, protocol: 0x8100 }, trust: true }
  for (const [key, value] of Object.entries(wanted)) {
    const card = new FakeCard('pf0')
    card.functions[3] = former
    const record = recordOf(place, { [key]: value }, former)
    assert.deepEqual(Object.keys(record.before), [key])
    applyVf(card, place, { [key]: value }, 'x')
    assert.deepEqual(card.functions[3], { ...former, [key]: value })
    assert.equal(wrongVf(card, place, { [key]: value }), undefined)
    restoreVf(fakeHost(), card, record)
    assert.deepEqual(card.functions[3], former, key)
    assert.deepEqual([card.functions[2], card.functions[4]], [FRESH, FRESH])
    if (key !== 'trust') assert.match(wrongVf(card, place, { [key]: value }) ?? '', /has lost/)
  }
})

test('what the driver does not tell is put back as drivers have it', () => {
  const { before } = recordOf(place, settings(EVERY), {})
  assert.deepEqual(before, { ...FRESH, spoofCheck: true, trust: false })
  assert.equal(wrongVf({ read: () => ({}), write: () => {} }, place, settings(EVERY)), undefined)
  assert.match(wrongVf(new FakeCard('pf1'), place, settings(EVERY)) ?? '', /no function 3/)
})

test('a refusal names the setting; restoring goes on after one, and says so', () => {
  const card = new FakeCard('pf0')
  const wanted = settings(EVERY)
  const record = recordOf(place, wanted, FRESH)
  card.refuses = 'trust'
  assert.throws(() => applyVf(card, place, wanted, 'x'), {
    code: 7,
    message: /pf0 refuses \{"trust":true\}.*function 3/,
  })
  assert.throws(() => restoreVf(fakeHost(), card, record), { code: 11, message: /pf0.*function 3/ })
  assert.deepEqual(card.functions[3], FRESH)
  // What the driver cannot at all was never set.
  card.errno = ERRNO.EOPNOTSUPP
  restoreVf(fakeHost(), card, record)
})
