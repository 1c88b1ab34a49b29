/** Crashes and crowds: killed at any moment, failing in the middle, many at once. */

import type { Case } from '../case.ts'
import { outcome } from '../call.ts'
import type { Pod } from '../pod.ts'
import { addressesOf } from '../shape.ts'
import { Baseline } from '../state.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { casesOf, type Row } from './rows.ts'

const keepsState = (s: Subject): boolean => s.keepsState
const delegates = (s: Subject): boolean => (s.also ?? []).includes('host-local')
const host = (s: Subject): boolean => s.hostLocal === true

const rows: readonly Row[] = [
  [
    'fail/full',
    'SPEC',
    'ADD without a free address fails; after the DEL nothing is left',
    host,
    (t, s) => full(t, s, false),
  ],
  ['fail/full-undone', 'OPS', 'such an ADD undoes all of itself at once', host, (t, s) => full(t, s, true)],
  ['fail/ipam-undone', 'OPS', 'an ADD whose IPAM plugin is missing undoes all of itself at once', delegates, noIpam],
  [
    'fail/route',
    'SPEC',
    'ADD fails when a route cannot be set; after the DEL nothing is left',
    delegates,
    (t, s) => badRoute(t, s, false),
  ],
  ['fail/route-undone', 'OPS', 'such an ADD undoes all of itself at once', delegates, (t, s) => badRoute(t, s, true)],
  [
    'crash/add-del',
    'OPS',
    'ADD killed at any moment, then DEL: the machine is as before',
    keepsState,
    (t, s) => crash(t, s, 'ADD', del),
  ],
  [
    'crash/add-del-no-netns',
    'OPS',
    'ADD killed, the namespace gone, then DEL: the machine is as before',
    keepsState,
    (t, s) => crash(t, s, 'ADD', delGone),
  ],
  [
    'crash/add-gc',
    'OPS',
    'ADD killed, the namespace gone, then GC: the machine is as before',
    keepsState,
    (t, s) => crash(t, s, 'ADD', gcGone),
    '1.1.0',
  ],
  [
    'crash/del-del',
    'OPS',
    'DEL killed at any moment, then DEL: the machine is as before',
    keepsState,
    (t, s) => crash(t, s, 'DEL', del),
  ],
  [
    'crash/del-gc',
    'OPS',
    'DEL killed, the namespace gone, then GC: the machine is as before',
    keepsState,
    (t, s) => crash(t, s, 'DEL', gcGone),
    '1.1.0',
  ],
  ['crash/add-again', 'OPS', 'ADD killed, DEL, and the same ADD works', keepsState, addAgain],
  [
    'crowd/add-del',
    'SPEC',
    'ADD of 8 pods at once, then DEL of all at once: the machine is as before',
    (s) => s.keepsState,
    crowd,
  ],
  ['crowd/unique', 'SPEC', '32 ADD at once: no address twice', host, unique],
]

type CleanUp = (t: Trial, pod: Pod) => Promise<void>

const del: CleanUp = (_, pod) => pod.del({}, 'after the crash')
const delGone: CleanUp = async (t, pod) => {
  await t.machine.removePod(pod.netns)
  await pod.del({}, 'after the crash, without the namespace')
}
const gcGone: CleanUp = async (t, pod) => {
  await t.machine.removePod(pod.netns)
  await pod.gc([], {}, 'after the crash')
}

/** Kills calls at moments that are spread evenly over the time that one takes. */
async function crash(t: Trial, s: Subject, verb: 'ADD' | 'DEL', cleanUp: CleanUp): Promise<void> {
  const first = await t.pod(s)
  await first.add()
  await first.del()
  await t.replug(s, first)
  const ms = await timeOf(first, verb)
  await t.unplug(s, first)
  const before = await Baseline.of(t.machine)
  for (let i = 0; i < t.kills; i++) {
    const pod = await t.pod(s)
    if (verb === 'DEL') await pod.add()
    await pod.request(verb, { killAfterMs: Math.max(1, (ms * (i + 0.5)) / t.kills) })
    await cleanUp(t, pod)
    await t.unplug(s, pod)
    if (t.machine.pods.has(pod.netns)) await t.machine.removePod(pod.netns)
    await t.unchanged(before, `after ${verb} was killed at ${Math.round((100 * (i + 0.5)) / t.kills)} % and cleaned up`)
  }
}

/** How long a call takes now that everything shared is there. */
async function timeOf(pod: Pod, verb: 'ADD' | 'DEL'): Promise<number> {
  const add = await pod.request('ADD')
  demand(add.code === 0, `ADD failed: ${outcome(add)}`)
  const deleted = await pod.request('DEL')
  demand(deleted.code === 0, `DEL failed: ${outcome(deleted)}`)
  return verb === 'ADD' ? add.ms : deleted.ms
}

async function addAgain(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await pod.del()
  await t.replug(s, pod)
  const ms = await timeOf(pod, 'ADD')
  for (let i = 0; i < t.kills; i++) {
    await t.replug(s, pod)
    await pod.request('ADD', { killAfterMs: Math.max(1, (ms * (i + 0.5)) / t.kills) })
    await pod.del({}, 'after the crash')
    await t.replug(s, pod)
    await pod.add()
    await pod.del()
  }
}

const tiny = {
  type: 'host-local',
  ranges: [[{ subnet: '10.88.0.0/24', rangeStart: '10.88.0.2', rangeEnd: '10.88.0.3' }]],
}

async function noIpam(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  await t.undoneAdd(s, second, { conf: { ipam: { ...tiny, type: 'no-such-ipam' } } }, before)
}

async function full(t: Trial, s: Subject, atOnce: boolean): Promise<void> {
  const conf = { ipam: tiny }
  for (let i = 0; i < 2; i++) await (await t.pod(s)).add({ conf })
  const netns = await t.machine.pod()
  const before = await Baseline.of(t.machine)
  const pod = await t.pod(s, { netns })
  if (atOnce) await t.undoneAdd(s, pod, { conf }, before, 'without a free address')
  else await t.refusedAdd(s, pod, { conf }, before, 'without a free address')
}

async function badRoute(t: Trial, s: Subject, atOnce: boolean): Promise<void> {
  const [second, before] = await t.second(s)
  const routes = [{ dst: '198.51.100.0/24', gw: '203.0.113.1' }]
  const options = { conf: { ipam: { ...tiny, routes } } }
  if (atOnce) await t.undoneAdd(s, second, options, before, 'with a route through a gateway that is nowhere')
  else await t.refusedAdd(s, second, options, before, 'with a route through a gateway that is nowhere')
}

async function crowd(t: Trial, s: Subject): Promise<void> {
  const before = await t.afterFirst(s)
  const pods: Pod[] = []
  for (let i = 0; i < 8; i++) pods.push(await t.pod(s))
  await Promise.all(pods.map((pod) => pod.add()))
  if (t.version >= '0.4.0') await Promise.all(pods.map((pod) => pod.check()))
  await Promise.all(pods.map((pod) => pod.del()))
  for (const pod of pods) {
    await t.unplug(s, pod)
    await t.machine.removePod(pod.netns)
  }
  await t.unchanged(before, 'after all DEL')
}

async function unique(t: Trial, s: Subject): Promise<void> {
  const pods: Pod[] = []
  // From nothing: the shared parts (a bridge, folders) are made by all at once.
  for (let i = 0; i < 32; i++) pods.push(await t.pod(s))
  const results = await Promise.all(pods.map((pod) => pod.add()))
  const addresses = results.flatMap(addressesOf)
  demand(addresses.length === pods.length, `${pods.length} pods have ${addresses.length} addresses`)
  demand(new Set(addresses).size === addresses.length, `an address was given twice: ${addresses.join(' ')}`)
  await Promise.all(pods.map((pod) => pod.del()))
}

export const crashCases = (subject: Subject): readonly Case[] => casesOf(subject, rows)
