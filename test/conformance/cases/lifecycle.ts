/** What every plugin owes a runtime from ADD to DEL: results in every version, idempotence, nothing left. */

import type { Case } from '../case.ts'
import { outcome, shorten } from '../call.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, checkShape, readResult } from '../shape.ts'
import { Baseline } from '../state.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { casesOf, type Row } from './rows.ts'

const always = (): boolean => true
const keepsState = (s: Subject): boolean => s.keepsState
const makesLink = (s: Subject): boolean => s.makesLink

const rows: readonly Row[] = [
  [
    'life/result',
    'SPEC',
    'the result is right: interfaces, sandbox, indices, addresses that the pod really has',
    always,
    result,
  ],
  ['life/result-versions', 'SPEC', 'the result has the shape of each version claimed', always, resultVersions],
  [
    'life/version-missing',
    'SPEC',
    'no cniVersion means 0.1.0, and so does the result',
    (s) => s.role !== 'chained',
    versionMissing,
  ],
  ['life/add-del', 'SPEC', 'ADD and DEL: the machine is as before', keepsState, addDel],
  [
    'life/restores',
    'OPS',
    'DEL leaves the interface as it was before ADD, without resting on its removal',
    (s) => s.role === 'chained' && s.type !== 'sbr',
    restores,
  ],
  ['life/del-twice', 'SPEC', 'a second and a third DEL succeed', always, delTwice],
  ['life/del-before-add', 'SPEC', 'DEL without an ADD succeeds and makes nothing', always, delBeforeAdd],
  ['life/del-no-netns', 'SPEC', 'DEL without CNI_NETNS succeeds', always, delWithoutNetns],
  ['life/del-netns-gone', 'SPEC', 'DEL after the namespace vanished succeeds and leaves nothing', always, delNetnsGone],
  [
    'life/del-other-netns',
    'OPS',
    'DEL when CNI_NETNS is a plain file succeeds and releases the rest',
    always,
    delPlainFile,
  ],
  ['life/del-no-result', 'SPEC', 'DEL without prevResult leaves nothing', always, (t, s) => delWith(t, s, undefined)],
  ['life/del-null-result', 'REF', 'DEL with prevResult null leaves nothing', always, (t, s) => delWith(t, s, null)],
  [
    'life/del-broken-result',
    'OPS',
    'DEL with a prevResult that cannot be read still leaves nothing',
    keepsState,
    delBrokenResult,
  ],
  [
    'life/del-link-gone',
    'SPEC',
    'DEL after its interface was deleted succeeds and leaves nothing',
    makesLink,
    delLinkGone,
  ],
  [
    'life/del-rules-gone',
    'OPS',
    'DEL after the firewall was flushed succeeds and leaves nothing',
    keepsState,
    delRulesGone,
  ],
]

async function result(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const document = await pod.add()
  checkShape(document, t.version)
  const { interfaces, ips } = readResult(document)
  if (s.role === 'ipam') {
    demand(interfaces.length === 0, 'an IPAM plugin names interfaces')
    demand(ips.length > 0, 'there is no address')
    demand(
      ips.every((ip) => ip.interface === undefined),
      'an IPAM plugin gives an address an interface',
    )
    return
  }
  const name = s.type === 'loopback' ? 'lo' : pod.ifname
  const index = interfaces.findIndex((link) => link.name === name && link.sandbox === pod.netns)
  demand(index >= 0, `no interface ${name} with sandbox ${pod.netns}: ${shorten(JSON.stringify(interfaces))}`)
  const links = await shown(t, pod, 'link', name)
  demand(
    interfaces[index]?.mac === links[0]?.['address'],
    `the MAC is ${String(links[0]?.['address'])}, the result says ${String(interfaces[index]?.mac)}`,
  )
  for (const ip of ips) {
    demand(
      ip.interface !== undefined && interfaces[ip.interface]?.name === name,
      `${ip.address} has not the index of ${name}`,
    )
    await hasAddress(t, pod, name, ip.address)
  }
}

async function shown(
  t: Trial,
  pod: Pod,
  what: 'link' | 'address',
  name: string,
): Promise<readonly Record<string, unknown>[]> {
  const text = await t.machine.in(pod.netns, 'ip', '-j', what, 'show', name)
  const list: unknown = JSON.parse(text)
  return Array.isArray(list) ? list : []
}

async function hasAddress(t: Trial, pod: Pod, name: string, address: string): Promise<void> {
  const text = await t.machine.in(pod.netns, 'ip', '-o', 'address', 'show', name)
  const [ip = '', length = ''] = address.split('/')
  demand(text.includes(` ${ip}/${length} `), `${name} does not have the address ${address}`)
}

async function resultVersions(t: Trial, s: Subject): Promise<void> {
  const versions = t.versions.filter((version) => version >= (s.oldest ?? '0.1.0'))
  demand(versions.length > 0, 'it claims no version')
  for (const version of versions) {
    const pod = await t.pod(s)
    const document = await pod.add({ version })
    const isLoopback = s.type === 'loopback' && version < '0.3.0'
    if (!isLoopback) checkShape(document, version)
    if (s.role !== 'main' || s.hostLocal === true) demand(addressesOf(document).length > 0, `${version}: no address`)
    await pod.del({ version }, `of version ${version}`)
  }
}

async function versionMissing(t: Trial, s: Subject): Promise<void> {
  demand(t.versions.includes('0.1.0'), 'it does not claim 0.1.0')
  const pod = await t.pod(s)
  const answer = await pod.request('ADD', { conf: { cniVersion: undefined } })
  demand(answer.code === 0, outcome(answer))
  const { cniVersion, ips } = answer.document ?? {}
  demand(cniVersion === '0.1.0' && ips === undefined, `the result is of version ${JSON.stringify(cniVersion)}`)
}

async function addDel(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  await second.add()
  const made = await before.changes(0)
  demand(made.length > 0, 'ADD made nothing that can be seen')
  await second.del()
  await t.hasDevice(s, second)
  await t.leftNothing(s, second, before, 'after DEL')
}

async function delTwice(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  const prevResult = await second.add()
  for (const why of ['', 'again', 'a third time']) await second.del(previousFor(t, { prevResult }), why)
  await t.leftNothing(s, second, before, 'after three DEL')
}

/** prevResult is for configurations from 0.4.0 on. */
const previousFor = <T extends object>(t: Trial, options: T): T | Record<string, never> =>
  t.version >= '0.4.0' ? options : {}

async function delBeforeAdd(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  await second.del({}, 'without an ADD')
  await t.leftNothing(s, second, before, 'after DEL without an ADD')
}

async function delWithoutNetns(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await pod.del({ env: { CNI_NETNS: '' } }, 'with an empty CNI_NETNS')
  await pod.del({ env: { CNI_NETNS: undefined } }, 'without CNI_NETNS')
}

async function delNetnsGone(t: Trial, s: Subject): Promise<void> {
  const before = await t.afterFirst(s)
  const pod = await t.pod(s)
  await pod.add()
  await t.machine.removePod(pod.netns)
  await pod.del({}, 'after its namespace vanished')
  await t.leftNothing(s, pod, before, 'after DEL')
}

async function restores(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await pod.del()
  await t.replug(s, pod)
  const before = await Baseline.of(t.machine)
  await pod.add()
  await pod.del()
  await t.unchanged(before, 'after DEL')
}

async function delPlainFile(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await t.machine.do('touch', '/run/plain')
  await pod.del({ env: { CNI_NETNS: '/run/plain' } }, 'with a plain file as CNI_NETNS')
}

async function delWith(t: Trial, s: Subject, prevResult: null | undefined): Promise<void> {
  const [second, before] = await t.second(s)
  await second.add()
  await second.del({ prevResult })
  await t.leftNothing(s, second, before, 'after DEL')
}

async function delBrokenResult(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  await second.add()
  await second.del({ prevResult: { cniVersion: t.version, ips: 'none', interfaces: 5 } }, 'with a broken prevResult')
  await t.leftNothing(s, second, before, 'after DEL')
}

async function delLinkGone(t: Trial, s: Subject): Promise<void> {
  const [second, before] = await t.second(s)
  await second.add()
  await t.machine.in(second.netns, 'ip', 'link', 'delete', second.ifname)
  await second.del({}, 'after its interface was deleted')
  if (s.type === 'host-device') return
  await t.leftNothing(s, second, before, 'after DEL')
}

async function delRulesGone(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  await t.machine.do('nft', 'flush', 'ruleset')
  await pod.del({}, 'after the firewall was flushed')
  const ruleset = await t.machine.do('nft', '-s', 'list', 'ruleset')
  demand(!ruleset.includes(pod.containerId) && !/10\.(88|99)\.0\.\d/.test(ruleset), 'DEL left a rule of its own')
}

export const lifecycleCases = (subject: Subject): readonly Case[] => casesOf(subject, rows)
