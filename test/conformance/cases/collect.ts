/** STATUS and GC: the verbs of specification 1.1. */

import type { Case } from '../case.ts'
import { addressesOf } from '../shape.ts'
import { Baseline } from '../state.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { casesOf, type Row } from './rows.ts'

const always = (): boolean => true
const keepsState = (s: Subject): boolean => s.keepsState
/** A device that was moved may stay in a namespace that a plugin may assume to be gone. */
const staysOnHost = (s: Subject): boolean => s.keepsState && s.type !== 'host-device'
const SINCE = '1.1.0'

const rows: readonly Row[] = [
  ['status/ready', 'SPEC', 'STATUS of a network that can be served succeeds, and makes nothing', always, ready, SINCE],
  ['status/full', 'SPEC', 'STATUS of a network without a free address fails', (s) => s.hostLocal === true, full, SINCE],
  ['status/full-code', 'SPEC', 'and its code is 50', (s) => s.hostLocal === true, fullCode, SINCE],
  [
    'status/no-ipam',
    'SPEC',
    'STATUS fails where the IPAM plugin is missing',
    (s) => (s.also ?? []).includes('host-local'),
    noIpam,
    SINCE,
  ],
  ['gc/spares-valid', 'SPEC', 'GC leaves every valid attachment as it was', always, sparesValid, SINCE],
  [
    'gc/collects',
    'SPEC',
    'GC removes what an attachment that is not listed left on the host',
    staysOnHost,
    collects,
    SINCE,
  ],
  ['gc/netns-gone', 'SPEC', 'so it does after the namespace vanished', keepsState, netnsGone, SINCE],
  [
    'gc/addresses',
    'SPEC',
    'addresses of attachments that are not listed are free again',
    (s) => s.hostLocal === true,
    addressesFree,
    SINCE,
  ],
  ['gc/other-network', 'SPEC', 'GC touches nothing of another network', keepsState, otherNetwork, SINCE],
  [
    'gc/other-interface',
    'SPEC',
    'GC tells two interfaces of a container apart',
    (s) => s.makesLink || s.type === 'host-local',
    otherInterface,
    SINCE,
  ],
  ['gc/empty', 'SPEC', 'GC with nothing made, and twice, succeeds', always, empty, SINCE],
  ['gc/no-list', 'REF', 'GC without a list means that nothing is valid', keepsState, noList, SINCE],
  [
    'gc/broken-list',
    'OPS',
    'GC with a list that cannot be read is an error, and collects nothing',
    keepsState,
    brokenList,
    SINCE,
  ],
  ['gc/old-key', 'REF', 'GC honours the older key cni.dev/attachments', keepsState, oldKey, SINCE],
]

async function ready(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const before = await Baseline.of(t.machine)
  for (let i = 0; i < 2; i++) await pod.status()
  await t.unchanged(before, 'after STATUS')
}

/** Two addresses: .2 and .3. */
const tiny = {
  type: 'host-local',
  ranges: [[{ subnet: '10.88.0.0/24', rangeStart: '10.88.0.2', rangeEnd: '10.88.0.3' }]],
}

async function fill(t: Trial, s: Subject): Promise<void> {
  for (let i = 0; i < 2; i++) await (await t.pod(s)).add({ conf: { ipam: tiny } })
}

async function full(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.status({ conf: { ipam: tiny } }, 'while there are addresses')
  await fill(t, s)
  await pod.refused('STATUS', { conf: { ipam: tiny } }, [], 'without a free address')
}

async function fullCode(t: Trial, s: Subject): Promise<void> {
  await fill(t, s)
  await (await t.pod(s)).refused('STATUS', { conf: { ipam: tiny } }, [50], 'without a free address')
}

async function noIpam(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.refused('STATUS', { conf: { ipam: { ...tiny, type: 'no-such-ipam' } } }, [], 'without its IPAM plugin')
}

async function sparesValid(t: Trial, s: Subject): Promise<void> {
  const [one, two] = [await t.pod(s), await t.pod(s)]
  await one.add()
  await two.add()
  const before = await Baseline.of(t.machine)
  await one.gc([one, two])
  await t.unchanged(before, 'after GC')
  for (const pod of [one, two]) await pod.check({}, 'after GC')
}

async function collects(t: Trial, s: Subject): Promise<void> {
  const [first, kept, netns] = [await t.pod(s), await t.pod(s), await t.machine.pod()]
  await first.add()
  await first.del()
  await t.unplug(s, first)
  await kept.add()
  const before = await Baseline.of(t.machine)
  const stale = await t.pod(s, { netns })
  await stale.add()
  await kept.gc([kept])
  if (s.role === 'chained') await t.unplug(s, stale)
  // What is inside of the namespace may stay: the specification lets a plugin assume that it is gone.
  const left = (await before.changes()).filter((line) => !line.includes(stale.netns))
  demand(left.length === 0, `after GC this is left: ${left.slice(0, 4).join(' | ')}`)
  await kept.check({}, 'of the valid one after GC')
}

async function netnsGone(t: Trial, s: Subject): Promise<void> {
  const before = await t.afterFirst(s)
  const stale = await t.pod(s)
  await stale.add()
  await t.machine.removePod(stale.netns)
  await stale.gc([])
  await t.leftNothing(s, stale, before, 'after GC')
}

async function addressesFree(t: Trial, s: Subject): Promise<void> {
  const conf = { ipam: tiny }
  const [one, two, three] = [await t.pod(s), await t.pod(s), await t.pod(s)]
  const kept = addressesOf(await one.add({ conf }))
  const stale = addressesOf(await two.add({ conf }))
  await t.machine.removePod(two.netns)
  await one.gc([one], { conf })
  const given = addressesOf(await three.add({ conf }))
  demand(
    given[0] === stale[0] && given[0] !== kept[0],
    `the third pod got ${given.join()}, ${stale.join()} was free, ${kept.join()} was held`,
  )
}

async function otherNetwork(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const before = await Baseline.of(t.machine)
  await pod.gc([], { conf: { name: 'net2' } }, 'of another network')
  await pod.gc([], { conf: { name: 'net' } }, 'of a network whose name begins alike')
  await t.unchanged(before, 'after GC of another network')
  await pod.check({}, 'after GC of another network')
}

async function otherInterface(t: Trial, s: Subject): Promise<void> {
  const containerId = 'two'
  const one = await t.pod(s, { containerId })
  const two = await t.pod(s, { containerId, ifname: 'net1', netns: one.netns })
  await one.add({ conf: { ipam: tiny } })
  await two.add({ conf: { ipam: tiny } })
  await two.gc([two], { conf: { ipam: tiny } })
  await two.check({ conf: { ipam: tiny } }, 'of the valid interface after GC')
  const three = await t.pod(s)
  await three.add({ conf: { ipam: tiny } })
}

async function empty(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const before = await Baseline.of(t.machine)
  for (let i = 0; i < 2; i++) await pod.gc([])
  await t.unchanged(before, 'after GC of nothing')
}

async function noList(t: Trial, s: Subject): Promise<void> {
  const before = await t.afterFirst(s)
  const stale = await t.pod(s)
  await stale.add()
  await t.machine.removePod(stale.netns)
  const answer = await stale.request('GC')
  demand(answer.code === 0, 'GC without a list failed')
  await t.leftNothing(s, stale, before, 'after GC')
}

async function brokenList(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const before = await Baseline.of(t.machine)
  for (const list of ['all', [5], [{ containerID: 7 }], { containerID: 'x' }]) {
    await pod.refused(
      'GC',
      { conf: { 'cni.dev/valid-attachments': list } },
      [],
      `with the list ${JSON.stringify(list)}`,
    )
  }
  await t.unchanged(before, 'after the refused GC')
}

async function oldKey(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const before = await Baseline.of(t.machine)
  const answer = await pod.request('GC', {
    conf: { 'cni.dev/attachments': [{ containerID: pod.containerId, ifname: pod.ifname }] },
  })
  demand(answer.code === 0, 'GC with the older key failed')
  await t.unchanged(before, 'after GC')
  await pod.check({}, 'after GC')
}

export const collectCases = (subject: Subject): readonly Case[] => casesOf(subject, rows)
