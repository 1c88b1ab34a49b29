/** CHECK: right after ADD it passes, and whatever an outsider breaks it finds. */

import type { Case } from '../case.ts'
import type { Subject } from '../subject.ts'
import type { Trial } from '../trial.ts'
import { casesOf, needsOf, type Row } from './rows.ts'

const rows: readonly Row[] = [
  [
    'check/after-add',
    'SPEC',
    'CHECK passes right after ADD, twice, and changes nothing',
    () => true,
    afterAdd,
    '0.4.0',
  ],
  ['check/old-version', 'SPEC', 'so it does with a configuration of 0.4.0', () => true, oldVersion, '0.4.0'],
  [
    'check/others',
    'SPEC',
    'CHECK tolerates what others add: an address, a route, an interface',
    (s) => s.role === 'main' && s.makesLink,
    others,
    '0.4.0',
  ],
  ['check/no-result', 'SPEC', 'CHECK without prevResult is refused', (s) => s.makesLink, noResult, '0.4.0'],
  [
    'check/after-del',
    'SPEC',
    'CHECK after DEL fails',
    (s) => s.makesLink || s.type === 'host-local',
    afterDel,
    '0.4.0',
  ],
  [
    'check/stranger',
    'SPEC',
    'CHECK of a container that was never added fails',
    (s) => s.makesLink || s.type === 'host-local',
    stranger,
    '0.4.0',
  ],
]

async function afterAdd(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  for (const why of ['right after ADD', 'again']) await pod.check({}, why)
}

async function oldVersion(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add({ version: '0.4.0' })
  await pod.check({ version: '0.4.0' })
}

async function others(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const { machine } = t
  await machine.in(pod.netns, 'ip', 'address', 'add', '192.0.2.9/32', 'dev', pod.ifname)
  await machine.in(pod.netns, 'ip', 'route', 'add', '198.51.100.0/24', 'dev', pod.ifname)
  await machine.in(pod.netns, 'ip', 'link', 'add', 'other0', 'type', 'bridge')
  await pod.check({}, 'after a later plugin added something')
}

async function noResult(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await pod.refused('CHECK', { prevResult: undefined }, [], 'without prevResult')
}

async function afterDel(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const prevResult = await pod.add()
  await pod.del()
  await pod.refused('CHECK', { prevResult }, [], 'after DEL')
}

async function stranger(t: Trial, s: Subject): Promise<void> {
  const [pod, other] = [await t.pod(s), await t.pod(s)]
  const prevResult = await pod.add()
  await other.refused('CHECK', { prevResult }, [], 'of a container that was never added')
}

/** One case for each thing that can be damaged. */
const damageCases = (subject: Subject): readonly Case[] =>
  subject.damages.map((damage) => ({
    ...needsOf(subject),
    id: `check/${damage.id}`,
    asserts: `CHECK fails after ${damage.what}`,
    basis: damage.basis ?? 'SPEC',
    since: '0.4.0',
    run: async (t) => {
      const pod = await t.pod(subject)
      await pod.add()
      await pod.check({}, 'before the damage')
      await damage.apply(t, pod)
      await pod.refused('CHECK', {}, [], `after ${damage.what}`)
    },
  }))

/** One case for each configuration that is to be refused. */
export const refusalCases = (subject: Subject): readonly Case[] =>
  subject.refusals.map((refusal) => ({
    ...needsOf(subject),
    id: `config/${refusal.id}`,
    asserts: `${refusal.what} is refused; after the DEL nothing is left`,
    basis: refusal.basis ?? 'REF',
    run: async (t) => {
      const [second, before] = await t.second(subject)
      const { type: _type, ...conf } = refusal.change(second.conf)
      const lacking = Object.keys(second.conf).filter((key) => !(key in conf) || conf[key] === undefined)
      const left = Object.fromEntries(lacking.map((key) => [key, key === 'type' ? subject.type : undefined]))
      await t.refusedAdd(subject, second, { conf: { ...conf, ...left } }, before, `with ${refusal.what}`)
    },
  }))

export const checkCases = (subject: Subject): readonly Case[] => [...casesOf(subject, rows), ...damageCases(subject)]
