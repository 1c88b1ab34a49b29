/** What ADD accepts and what it refuses: repeated, with foreign fields, in bad places; what a chained plugin passes on. */

import { isObject } from '#cni/json.ts'
import type { Case } from '../case.ts'
import { Failed, shorten } from '../call.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, checkShape, readResult } from '../shape.ts'
import { Baseline } from '../state.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { casesOf, type Row } from './rows.ts'

const always = (): boolean => true
/** What tuning keeps is in files whose names, by their format, have no network in them. */
const knowsNetwork = (s: Subject): boolean => s.keepsState && s.type !== 'tuning'
/** Those that look at CNI_ARGS. */
const readsArgs = (s: Subject): boolean =>
  ['bridge', 'host-local', 'static', 'macvlan', 'tap', 'tuning'].includes(s.type)
const makesLink = (s: Subject): boolean => s.makesLink
const main = (s: Subject): boolean => s.role === 'main'
const chained = (s: Subject): boolean => s.role === 'chained'

/** containerd's. */
const KUBERNETES_ARGS =
  'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=5f3c'

const rows: readonly Row[] = [
  ['life/re-add', 'SPEC', 'ADD after DEL works again', always, reAdd],
  ['life/add-twice', 'SPEC', 'a second ADD is refused, and the first one stays whole', makesLink, addTwice],
  [
    'life/two-interfaces',
    'SPEC',
    'two attachments of a container: DEL of one leaves the other',
    (s) => makesLink(s) || s.type === 'host-local',
    twoInterfaces,
  ],
  ['life/two-networks', 'OPS', 'DEL in another network touches nothing', knowsNetwork, twoNetworks],
  [
    'life/kubernetes-args',
    'REF',
    'the CNI_ARGS that containerd sends are accepted',
    always,
    (t, s) => addWith(t, s, { CNI_ARGS: KUBERNETES_ARGS }),
  ],
  [
    'life/unknown-args',
    'REF',
    'CNI_ARGS that it does not know are refused without IgnoreUnknown',
    readsArgs,
    unknownArgs,
  ],
  [
    'life/unknown-fields',
    'SPEC',
    'fields it does not know, and unused runtimeConfig, do no harm',
    always,
    unknownFields,
  ],
  ['life/large-config', 'OPS', 'a configuration with a megabyte of labels is accepted', always, largeConfig],
  [
    'life/path-list',
    'SPEC',
    'delegates are searched in all folders of CNI_PATH',
    (s) => (s.also ?? []).length > 0,
    pathList,
  ],
  [
    'life/netns-absent',
    'SPEC',
    'ADD with a namespace that does not exist fails',
    main,
    (t, s) => badNetns(t, s, '/run/netns/absent', false),
  ],
  [
    'life/netns-undone',
    'OPS',
    'such an ADD undoes all of itself at once',
    main,
    (t, s) => badNetns(t, s, '/run/netns/absent', true),
  ],
  [
    'life/netns-file',
    'OPS',
    'ADD with a plain file as namespace fails and undoes all of itself',
    main,
    (t, s) => badNetns(t, s, '/run/plain', true),
  ],
  [
    'life/name-taken',
    'SPEC',
    'ADD fails when the pod has an interface of that name, and touches it not',
    makesLink,
    (t, s) => nameTaken(t, s, false),
  ],
  ['life/name-undone', 'OPS', 'such an ADD undoes all of itself at once', makesLink, (t, s) => nameTaken(t, s, true)],
  ['life/name-kept', 'OPS', 'the DEL after it does not take the interface that is not its own', makesLink, nameKept],
  ['life/pass-on', 'SPEC', 'the previous result is passed on whole', chained, passOn],
  ['life/no-previous', 'REF', 'ADD without prevResult is refused', chained, noPrevious],
  [
    'life/broken-previous',
    'SPEC',
    'a prevResult that is none is refused, and nothing is made',
    chained,
    brokenPrevious,
  ],
]
async function reAdd(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  for (let round = 0; round < 3; round++) {
    checkShape(await pod.add(), t.version)
    await pod.del()
    await t.replug(s, pod)
  }
}

async function addTwice(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const before = await Baseline.of(t.machine)
  await pod.refused('ADD', {}, [], 'a second time')
  await t.unchanged(before, 'after the refused ADD')
  if (t.version >= '0.4.0') await pod.check({}, 'of the first ADD')
}

async function twoInterfaces(t: Trial, s: Subject): Promise<void> {
  const containerId = 'two'
  const one = await t.pod(s, { containerId })
  const two = await t.pod(s, { containerId, ifname: 'net1', netns: one.netns })
  const addresses = [...addressesOf(await one.add()), ...addressesOf(await two.add())]
  demand(new Set(addresses).size === addresses.length, `both have ${addresses.join(', ')}`)
  await one.del()
  if (t.version >= '0.4.0') await two.check({}, 'of the other attachment')
  await two.del()
}

async function twoNetworks(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.add()
  const before = await Baseline.of(t.machine)
  const elsewhere = await t.machine.pod()
  await pod.request('DEL', { conf: { name: 'net2' }, prevResult: undefined, env: { CNI_NETNS: elsewhere } })
  await t.machine.removePod(elsewhere)
  await t.unchanged(before, 'after DEL in another network')
}

async function addWith(t: Trial, s: Subject, env: Readonly<Record<string, string>>): Promise<void> {
  const pod = await t.pod(s)
  await pod.add({ env })
  await pod.del({ env })
}

async function unknownArgs(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  await pod.refused('ADD', { env: { CNI_ARGS: 'COLOUR=blue' } }, [], 'with CNI_ARGS COLOUR=blue')
}

async function unknownFields(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const runtimeConfig = pod.conf['runtimeConfig']
  const conf = {
    'x-note': { any: [1, null, 'text'] },
    args: { cni: { labels: [{ key: 'app', value: 'web' }] } },
    runtimeConfig: {
      ...(isObject(runtimeConfig) ? runtimeConfig : {}),
      'io.kubernetes.cri.pod-annotations': { a: 'b' },
    },
    'cni.dev/attachments': [],
  }
  await pod.add({ conf })
  await pod.del({ conf })
}

async function largeConfig(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const conf = { args: { cni: { labels: [{ key: 'filler', value: 'x'.repeat(1 << 20) }] } } }
  await pod.add({ conf })
  await pod.del({ conf })
}

async function pathList(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const env = { CNI_PATH: `/run/absent:/run:${t.target.directory}` }
  await pod.add({ env })
  await pod.del({ env })
}

async function badNetns(t: Trial, s: Subject, netns: string, atOnce: boolean): Promise<void> {
  await t.machine.do('touch', '/run/plain')
  const [second, before] = await t.second(s)
  const options = { env: { CNI_NETNS: netns } }
  if (atOnce) await t.undoneAdd(s, second, options, before)
  else await t.refusedAdd(s, second, options, before)
}

/** A pod whose name for the interface is taken by a link of its own. */
async function takenPod(t: Trial, s: Subject): Promise<Pod> {
  const pod = await t.pod(s)
  await t.machine.in(pod.netns, 'ip', 'link', 'add', pod.ifname, 'type', 'bridge')
  return pod
}

const linksIn = (t: Trial, pod: Pod): Promise<string> =>
  t.machine.in(pod.netns, 'ip', '-o', 'link', 'show', 'type', 'bridge')

async function nameTaken(t: Trial, s: Subject, atOnce: boolean): Promise<void> {
  const first = await t.pod(s)
  await first.add()
  await first.del()
  const second = await takenPod(t, s)
  const before = await Baseline.of(t.machine)
  const links = await linksIn(t, second)
  await second.refused('ADD')
  demand((await linksIn(t, second)) === links, 'the interface that was there is not as it was')
  if (atOnce) await t.unchanged(before, 'after the refused ADD')
}

async function nameKept(t: Trial, s: Subject): Promise<void> {
  const pod = await takenPod(t, s)
  const links = await linksIn(t, pod)
  await pod.refused('ADD')
  await pod.request('DEL')
  demand((await linksIn(t, pod)) === links, 'the interface that was there is gone')
}

async function passOn(t: Trial, s: Subject): Promise<void> {
  for (const version of t.versions.filter((one) => one >= (s.oldest ?? '0.3.0'))) {
    const pod = await t.pod(s)
    const { interfaces, ips, routes } = readResult(await pod.add({ version }))
    const given = pod.before ?? { interfaces: [], ips: [], routes: [] }
    for (const [index, link] of given.interfaces.entries()) {
      demand(
        interfaces[index]?.name === link.name && (interfaces[index]?.sandbox ?? '') === (link.sandbox ?? ''),
        `${version}: interface ${index} is not ${link.name}`,
      )
    }
    demand(
      JSON.stringify(ips.map(plainIp)) === JSON.stringify(given.ips.map(plainIp)),
      `${version}: addresses ${shorten(JSON.stringify(ips))}`,
    )
    demand(
      JSON.stringify(routes.map(plainRoute)) === JSON.stringify(given.routes.map(plainRoute)),
      `${version}: routes ${shorten(JSON.stringify(routes))}`,
    )
    await pod.del({ version })
  }
}

const plainIp = (ip: {
  readonly address: string
  readonly gateway?: string
  readonly interface?: number
}): readonly unknown[] => [ip.address, ip.gateway, ip.interface]
const plainRoute = (route: { readonly dst: string; readonly gw?: string }): readonly unknown[] => [route.dst, route.gw]

async function noPrevious(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const before = await Baseline.of(t.machine)
  await pod.refused('ADD', { prevResult: undefined }, [], 'without prevResult')
  await t.unchanged(before, 'after the refused ADD')
}

async function brokenPrevious(t: Trial, s: Subject): Promise<void> {
  const pod = await t.pod(s)
  const before = await Baseline.of(t.machine)
  for (const prevResult of [
    { cniVersion: t.version, interfaces: 'none' },
    { cniVersion: t.version, ips: [{ address: 'ten' }] },
    { cniVersion: '9.9.9' },
  ]) {
    const answer = await pod.request('ADD', { prevResult })
    if (answer.code === 0) throw new Failed(`ADD succeeded with prevResult ${JSON.stringify(prevResult)}`)
  }
  await t.unchanged(before, 'after the refused ADD')
}

export const addingCases = (subject: Subject): readonly Case[] => casesOf(subject, rows)
