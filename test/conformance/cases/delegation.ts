/** What a plugin owes the IPAM plugin that it delegates to. The delegate is one of the suite's own, which remembers its calls. Source: CNI SPEC.md §4. */

import type { Case } from '../case.ts'
import type { JsonObject } from '#cni/json.ts'
import { codeOf, outcome } from '../call.ts'
import type { Pod, RequestOptions } from '../pod.ts'
import { ScriptedIpam, SCRIPTED, type Script } from '../scripted.ts'
import { readResult } from '../shape.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { casesOf, type Row } from './rows.ts'

const delegates = (s: Subject): boolean => (s.also ?? []).includes('host-local')

const rows: readonly Row[] = [
  ['delegate/input', 'SPEC', 'the IPAM plugin gets the same environment and the whole configuration', delegates, input],
  ['delegate/result', 'SPEC', 'its addresses, gateway and routes are in the result and in the pod', delegates, result],
  ['delegate/del', 'SPEC', 'DEL is passed on to it', delegates, (t, s) => passesOn(t, s, 'DEL')],
  ['delegate/check', 'SPEC', 'CHECK is passed on to it', delegates, (t, s) => passesOn(t, s, 'CHECK'), '0.4.0'],
  ['delegate/status', 'SPEC', 'STATUS is passed on to it', delegates, (t, s) => passesOn(t, s, 'STATUS'), '1.1.0'],
  ['delegate/gc', 'SPEC', 'GC is passed on to it, with the list', delegates, (t, s) => passesOn(t, s, 'GC'), '1.1.0'],
  [
    'delegate/status-error',
    'SPEC',
    'its error for STATUS is the answer, code and all',
    delegates,
    statusError,
    '1.1.0',
  ],
  ['delegate/check-error', 'SPEC', 'its error for CHECK is an error', delegates, checkError, '0.4.0'],
  ['delegate/add-error', 'SPEC', 'its error for ADD is the answer, code and all', delegates, addError],
  ['delegate/add-error-del', 'SPEC', 'after its failed ADD it gets a DEL', delegates, addErrorDel],
  ['delegate/later-error-del', 'SPEC', 'when what comes after its ADD fails, it gets a DEL', delegates, laterErrorDel],
  [
    'delegate/del-error',
    'OPS',
    'its error for DEL is reported, and the interface goes all the same',
    delegates,
    delError,
  ],
  [
    'delegate/no-address',
    'REF',
    'a result without an address is refused',
    delegates,
    (t, s) => badAnswer(t, s, { cniVersion: t.version }),
  ],
  ['delegate/no-json', 'OPS', 'an answer that is no JSON is refused', delegates, (t, s) => badAnswer(t, s, 'ready\n')],
  ['delegate/no-answer', 'OPS', 'no answer is refused', delegates, (t, s) => badAnswer(t, s, '')],
]

const given = (version: string): JsonObject => ({
  cniVersion: version,
  ips: [{ address: '10.88.0.77/24', gateway: '10.88.0.1', ...(version.startsWith('0.') ? { version: '4' } : {}) }],
  routes: [{ dst: '198.51.100.0/24', gw: '10.88.0.1' }],
  dns: { nameservers: ['192.0.2.53'], search: ['example.com'] },
})

interface Scene {
  readonly pod: Pod
  readonly ipam: ScriptedIpam
  readonly options: RequestOptions
}

async function scene(t: Trial, s: Subject, script: Script = {}): Promise<Scene> {
  const ipam = new ScriptedIpam(t.machine, { ADD: { print: given(t.version) }, ...script })
  const options = {
    conf: { ipam: { type: SCRIPTED, note: { kept: [1, 2] } } },
    env: { CNI_PATH: `${ipam.path}:${t.target.directory}`, CNI_ARGS: 'IgnoreUnknown=1;A=b' },
  }
  return { pod: await t.pod(s), ipam, options }
}

async function input(t: Trial, s: Subject): Promise<void> {
  const { pod, ipam, options } = await scene(t, s)
  await pod.add(options)
  const [call, ...more] = ipam.heard()
  demand(call !== undefined && more.length === 0, `it was called ${ipam.heard().length} times`)
  const wanted: Readonly<Record<string, string>> = {
    ...pod.environment,
    CNI_COMMAND: 'ADD',
    CNI_ARGS: 'IgnoreUnknown=1;A=b',
    CNI_PATH: options.env?.['CNI_PATH'] ?? '',
  }
  for (const [key, value] of Object.entries(wanted)) {
    demand(call.env[key] === value, `${key} was ${JSON.stringify(call.env[key])} instead of ${JSON.stringify(value)}`)
  }
  const { type, name, cniVersion, ipam: part } = call.stdin
  demand(type === s.type && name === pod.network && cniVersion === t.version, 'it did not get the whole configuration')
  demand(
    JSON.stringify(part) === JSON.stringify(options.conf?.['ipam']),
    'it did not get its part of the configuration as it is',
  )
}

async function result(t: Trial, s: Subject): Promise<void> {
  const { pod, options } = await scene(t, s)
  const document = await pod.add(options)
  const { ips, routes } = readResult(document)
  demand(
    ips.length === 1 && ips[0]?.address === '10.88.0.77/24' && ips[0].gateway === '10.88.0.1',
    'the address is not in the result',
  )
  demand(
    routes.some(({ dst }) => dst === '198.51.100.0/24'),
    'the route is not in the result',
  )
  const shown = await t.machine.in(pod.netns, 'ip', 'route', 'show', '198.51.100.0/24')
  demand(shown.includes('via 10.88.0.1'), 'the pod does not have the route')
  // The others have the DNS of their own configuration, or none.
  if (s.type === 'bridge' || s.type === 'ptp')
    demand(JSON.stringify(document['dns'] ?? null).includes('192.0.2.53'), 'the DNS is not in the result')
}

async function passesOn(t: Trial, s: Subject, verb: 'DEL' | 'CHECK' | 'STATUS' | 'GC'): Promise<void> {
  const { pod, ipam, options } = await scene(t, s)
  await pod.add(options)
  ipam.does({})
  if (verb === 'DEL') await pod.del(options)
  else if (verb === 'CHECK') await pod.check(options)
  else if (verb === 'STATUS') await pod.status(options)
  else await pod.gc([pod], options)
  demand(ipam.verbs().includes(verb), `it heard ${ipam.verbs().join(', ') || 'nothing'}`)
  const list = ipam.heard()[0]?.stdin['cni.dev/valid-attachments']
  if (verb === 'GC') demand(Array.isArray(list) && list.length === 1, 'it did not get the list of attachments')
}

const refusal = (code: number): { readonly print: JsonObject; readonly exit: number } => ({
  print: { cniVersion: '1.0.0', code, msg: 'the book is lost' },
  exit: 1,
})

async function statusError(t: Trial, s: Subject): Promise<void> {
  const { pod, options } = await scene(t, s, { STATUS: refusal(51) })
  await pod.refused('STATUS', options, [51], 'whose IPAM plugin answered 51')
}

async function checkError(t: Trial, s: Subject): Promise<void> {
  const { pod, ipam, options } = await scene(t, s)
  await pod.add(options)
  ipam.does({ CHECK: refusal(123) })
  await pod.refused('CHECK', options, [], 'whose IPAM plugin found something')
}

async function addError(t: Trial, s: Subject): Promise<void> {
  const { pod, options } = await scene(t, s, { ADD: refusal(11) })
  const answer = await pod.refused('ADD', options)
  demand(codeOf(answer) === 11 && outcome(answer).includes('the book is lost'), `the answer is ${outcome(answer)}`)
}

async function addErrorDel(t: Trial, s: Subject): Promise<void> {
  const { pod, ipam, options } = await scene(t, s, { ADD: refusal(11) })
  await pod.refused('ADD', options)
  demand(ipam.verbs().includes('DEL'), `it heard ${ipam.verbs().join(', ')}`)
}

async function laterErrorDel(t: Trial, s: Subject): Promise<void> {
  const routes = [{ dst: '198.51.100.0/24', gw: '203.0.113.1' }]
  const { pod, ipam, options } = await scene(t, s, { ADD: { print: { ...given(t.version), routes } } })
  await pod.refused('ADD', options, [], 'with a gateway that is nowhere')
  demand(ipam.verbs().includes('DEL'), `it heard ${ipam.verbs().join(', ')}`)
}

async function delError(t: Trial, s: Subject): Promise<void> {
  const { pod, ipam, options } = await scene(t, s)
  await pod.add(options)
  ipam.does({ DEL: refusal(100) })
  await pod.refused('DEL', options, [], 'whose IPAM plugin failed')
  const { code } = await t.machine.run(['ip', 'link', 'show', pod.ifname], '', pod.netns)
  demand(code !== 0, `${pod.ifname} is still in the pod`)
}

async function badAnswer(t: Trial, s: Subject, print: JsonObject | string): Promise<void> {
  const { pod, options } = await scene(t, s, { ADD: { print } })
  await pod.refused('ADD', options, [], `with the answer ${JSON.stringify(print)}`)
}

export const delegationCases = (subject: Subject): readonly Case[] => casesOf(subject, rows)
