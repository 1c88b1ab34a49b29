/** What the shell of every plugin owes its caller, whatever the plugin does: environment, input, versions, errors. */

import type { JsonObject } from '#cni/json.ts'
import type { Basis, Case } from '../case.ts'
import { codeOf, Failed, outcome, type Answer, type Environment, type Verb } from '../call.ts'
import { Baseline } from '../state.ts'
import { demand, type Trial } from '../trial.ts'

const NETNS = '/run/netns/absent'

const complete: Environment = { CNI_CONTAINERID: 'c1', CNI_NETNS: NETNS, CNI_IFNAME: 'eth0' }

/** One call with one thing wrong. */
interface Wrong {
  readonly verb: Verb
  readonly env?: Environment
  readonly conf?: JsonObject
  readonly stdin?: string
  readonly what: string
}

/** With an address book that cannot fail: only what a case makes wrong is wrong. */
const confOf = (type: string, version: string): JsonObject => ({
  cniVersion: version,
  name: 'net1',
  type,
  ipam: { type: 'static', addresses: [{ address: '10.0.0.5/24' }] },
})

/** Each call must fail with one of the codes; afterwards nothing may have been made. */
async function allRefused(
  trial: Trial,
  type: string,
  calls: readonly Wrong[],
  codes: readonly number[],
): Promise<void> {
  const before = await Baseline.of(trial.machine)
  for (const one of calls) await refused(trial, type, one, codes)
  await trial.unchanged(before, 'after refused calls')
}

async function refused(trial: Trial, type: string, wrong: Wrong, codes: readonly number[]): Promise<Answer> {
  const answer = await trial.call(wrong.verb, {
    file: type,
    conf: { ...confOf(type, trial.version), ...wrong.conf },
    env: { ...complete, ...wrong.env },
    ...(wrong.stdin === undefined ? {} : { stdin: wrong.stdin }),
  })
  if (codes.includes(codeOf(answer))) return answer
  throw new Failed(`${wrong.verb} with ${wrong.what}: wanted code ${codes.join(' or ')}, got ${outcome(answer)}`)
}

const attachmentVerbs = ['ADD', 'DEL', 'CHECK'] as const
const verbsOf = (trial: Trial): readonly Verb[] =>
  attachmentVerbs.filter((verb) => verb !== 'CHECK' || trial.versions.includes('0.4.0'))

/** For each verb and each value of a variable one call. */
const badValues = (trial: Trial, key: string, values: readonly string[]): readonly Wrong[] =>
  verbsOf(trial).flatMap((verb) =>
    values.map((value) => ({ verb, env: { [key]: value }, what: `${key} ${JSON.stringify(value)}` })),
  )

type Row = readonly [id: string, basis: Basis, asserts: string, run: (t: Trial, type: string) => Promise<void>]

const without =
  (key: string) =>
  (t: Trial, type: string): Promise<void> => {
    const verbs: readonly Verb[] = key === 'CNI_NETNS' ? verbsOf(t).filter((verb) => verb !== 'DEL') : verbsOf(t)
    const calls = verbs.flatMap((verb) => [
      { verb, env: { [key]: undefined }, what: `no ${key}` },
      { verb, env: { [key]: '' }, what: `an empty ${key}` },
    ])
    return allRefused(t, type, calls, [4])
  }

const badStdin =
  (values: readonly string[], codes: readonly number[]) =>
  (t: Trial, type: string): Promise<void> =>
    allRefused(
      t,
      type,
      values.map((stdin) => ({ verb: 'ADD', stdin, what: `stdin ${JSON.stringify(stdin.slice(0, 40))}` })),
      codes,
    )

const rows: readonly Row[] = [
  ['version', 'SPEC', 'VERSION answers with cniVersion and supportedVersions', version],
  ['version-list', 'REF', 'VERSION claims what the reference does: 0.1.0 to 1.1.0', versionList],
  ['version-alone', 'SPEC', 'VERSION needs no other variable and no input', versionAlone],
  ['about', 'REF', 'without CNI_COMMAND it tells people what it is, on stderr, and succeeds', about],
  [
    'command',
    'SPEC',
    'an unknown CNI_COMMAND is code 4',
    (t, type) =>
      allRefused(
        t,
        type,
        ['add', 'ADD ', 'REMOVE'].map((verb) => ({
          verb: 'ADD',
          env: { CNI_COMMAND: verb },
          what: `the command ${verb}`,
        })),
        [4],
      ),
  ],
  ['container-missing', 'SPEC', 'no CNI_CONTAINERID is code 4 for ADD, DEL, CHECK', without('CNI_CONTAINERID')],
  ['netns-missing', 'SPEC', 'no CNI_NETNS is code 4 for ADD, CHECK', without('CNI_NETNS')],
  ['ifname-missing', 'SPEC', 'no CNI_IFNAME is code 4 for ADD, DEL, CHECK', without('CNI_IFNAME')],
  ['path-missing', 'REF', 'no CNI_PATH is code 4 for ADD, DEL, CHECK', without('CNI_PATH')],
  ['all-named', 'REF', 'all missing variables are named in one error', allNamed],
  [
    'container-form',
    'SPEC',
    'a CNI_CONTAINERID that could leave a folder or is no name is code 4',
    (t, type) =>
      allRefused(
        t,
        type,
        badValues(t, 'CNI_CONTAINERID', ['../../../tmp/x', 'a/b', '..', '.hidden', '-x', 'a b', 'a\nb', 'ä']),
        [4],
      ),
  ],
  [
    'ifname-form',
    'SPEC',
    'a CNI_IFNAME that the kernel would refuse is code 4',
    (t, type) =>
      allRefused(
        t,
        type,
        badValues(t, 'CNI_IFNAME', ['a/b', '..', '.', 'a b', 'a:b', 'a\tb', 'sixteen-bytes-00']),
        [4],
      ),
  ],
  [
    'ifname-bytes',
    'SPEC',
    'a CNI_IFNAME is measured in bytes, not in characters',
    (t, type) => allRefused(t, type, badValues(t, 'CNI_IFNAME', ['ääääääää']), [4]),
  ],
  [
    'network-missing',
    'SPEC',
    'no network name is code 7',
    (t, type) =>
      allRefused(
        t,
        type,
        [undefined, ''].map((name) => ({ verb: 'ADD', conf: { name }, what: `name ${String(name)}` })),
        [7],
      ),
  ],
  [
    'network-form',
    'SPEC',
    'a network name that could leave a folder is code 7',
    (t, type) =>
      allRefused(
        t,
        type,
        ['../x', 'a/b', '.x', 'a b', 'x\0'].map((name) => ({
          verb: 'ADD',
          conf: { name },
          what: `name ${JSON.stringify(name)}`,
        })),
        [7],
      ),
  ],
  [
    'network-form-del',
    'OPS',
    'DEL refuses such a name too, and touches no file',
    (t, type) =>
      allRefused(
        t,
        type,
        ['../x', '..'].map((name) => ({ verb: 'DEL', conf: { name }, what: `name ${name}` })),
        [7],
      ),
  ],
  [
    'network-type',
    'SPEC',
    'a network name that is no text is code 6 or 7',
    (t, type) => allRefused(t, type, [{ verb: 'ADD', conf: { name: 5 }, what: 'a number as name' }], [6, 7]),
  ],
  ['no-input', 'SPEC', 'no input is code 6', badStdin([''], [6])],
  [
    'not-json',
    'SPEC',
    'input that is no JSON is code 6',
    badStdin(['{', 'null null', 'name: net1', '{"name":"net1"', '\0\u0001'], [6]),
  ],
  ['not-an-object', 'SPEC', 'JSON that is no object is code 6 or 7', badStdin(['[]', '"net1"', '7', 'null'], [6, 7])],
  ['two-documents', 'SPEC', 'two documents are code 6', badStdin(['{"name":"net1"}{"name":"net2"}'], [6])],
  [
    'nesting',
    'OPS',
    'a hundred thousand brackets are an error, not a crash',
    badStdin(['['.repeat(100_000), `{"a":${'['.repeat(100_000)}`], [6]),
  ],
  ['byte-order-mark', 'SPEC', 'a byte order mark is code 6', badStdin(['\uFEFF{"name":"net1"}'], [6])],
  [
    'newer-version',
    'SPEC',
    'a cniVersion that it does not speak is code 1',
    (t, type) =>
      allRefused(
        t,
        type,
        ['9.9.9', '0.5.0', '2.0.0'].map((cniVersion) => ({
          verb: 'ADD',
          conf: { cniVersion },
          what: `cniVersion ${cniVersion}`,
        })),
        [1],
      ),
  ],
  [
    'newer-version-del',
    'SPEC',
    'so it is for DEL and CHECK',
    (t, type) =>
      allRefused(
        t,
        type,
        verbsOf(t)
          .filter((verb) => verb !== 'ADD')
          .map((verb) => ({ verb, conf: { cniVersion: '9.9.9' }, what: 'cniVersion 9.9.9' })),
        [1],
      ),
  ],
  [
    'no-version',
    'SPEC',
    'a cniVersion that is no version is code 1, 6 or 7',
    (t, type) =>
      allRefused(
        t,
        type,
        [
          { verb: 'ADD', conf: { cniVersion: 'newest' }, what: 'cniVersion newest' },
          { verb: 'ADD', conf: { cniVersion: 1 }, what: 'a number as cniVersion' },
        ],
        [1, 6, 7],
      ),
  ],
  [
    'own-namespace',
    'OPS',
    "the plugin's own namespace as CNI_NETNS is an error for ADD, and nothing is made",
    (t, type) => ownNamespace(t, type, 'ADD'),
  ],
  ['own-namespace-del', 'OPS', 'so it is for DEL', (t, type) => ownNamespace(t, type, 'DEL')],
  ['error-version', 'SPEC', 'the error says its cniVersion', errorVersion],
]

const sinceCheck: readonly Row[] = [
  [
    'check-too-old',
    'SPEC',
    'CHECK with a configuration older than 0.4.0 is code 1',
    (t, type) => allRefused(t, type, [{ verb: 'CHECK', conf: { cniVersion: '0.3.1' }, what: 'cniVersion 0.3.1' }], [1]),
  ],
]

const sinceGc: readonly Row[] = [
  [
    'gc-too-old',
    'SPEC',
    'GC and STATUS with a configuration older than 1.1.0 are code 1',
    (t, type) =>
      allRefused(
        t,
        type,
        (['GC', 'STATUS'] as const).map((verb) => ({ verb, conf: { cniVersion: '1.0.0' }, what: 'cniVersion 1.0.0' })),
        [1],
      ),
  ],
  [
    'gc-path',
    'REF',
    'no CNI_PATH is code 4 for GC and STATUS',
    (t, type) =>
      allRefused(
        t,
        type,
        (['GC', 'STATUS'] as const).map((verb) => ({ verb, env: { CNI_PATH: undefined }, what: 'no CNI_PATH' })),
        [4],
      ),
  ],
]

async function version(t: Trial, type: string): Promise<void> {
  const answer = await t.call('VERSION', { file: type, conf: { cniVersion: '1.0.0' } })
  const { cniVersion, supportedVersions } = answer.document ?? {}
  demand(answer.code === 0, `VERSION failed: ${outcome(answer)}`)
  demand(typeof cniVersion === 'string', 'the answer has no cniVersion')
  demand(
    Array.isArray(supportedVersions) &&
      supportedVersions.length > 0 &&
      supportedVersions.every((one) => typeof one === 'string'),
    'the answer has no list supportedVersions',
  )
}

/** The oldest version that the reference's plugin claims, where it is not 0.1.0. */
const oldestClaimed: Readonly<Record<string, string>> = { bandwidth: '0.3.0', vrf: '0.3.1', firewall: '0.4.0' }
const published = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

async function versionList(t: Trial, type: string): Promise<void> {
  const wanted = published.slice(published.indexOf(oldestClaimed[type] ?? '0.1.0'))
  const lacking = wanted.filter((one) => !t.versions.includes(one))
  demand(lacking.length === 0, `it does not claim ${lacking.join(', ')}`)
}

async function versionAlone(t: Trial, type: string): Promise<void> {
  const env = { CNI_CONTAINERID: undefined, CNI_PATH: undefined, CNI_ARGS: undefined }
  for (const stdin of ['', 'not json']) {
    const answer = await t.call('VERSION', { file: type, conf: {}, env, stdin })
    demand(answer.code === 0, `VERSION with stdin ${JSON.stringify(stdin)}: ${outcome(answer)}`)
  }
}

async function about(t: Trial, type: string): Promise<void> {
  const answer = await t.call('VERSION', { file: type, conf: {}, env: { CNI_COMMAND: undefined }, stdin: '' })
  demand(answer.code === 0, `without CNI_COMMAND: ${outcome(answer)}`)
  demand(answer.document === undefined, 'it printed a document on stdout')
  demand(answer.stderr.includes(t.version), `stderr names no version: ${JSON.stringify(answer.stderr.slice(0, 80))}`)
}

async function allNamed(t: Trial, type: string): Promise<void> {
  const keys = ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH']
  const env = Object.fromEntries(keys.map((key) => [key, undefined]))
  const answer = await refused(t, type, { verb: 'ADD', env, what: 'no variables' }, [4])
  const { msg = '', details = '' } = answer.document ?? {}
  const text = `${JSON.stringify(msg)} ${JSON.stringify(details)}`
  const silent = keys.filter((key) => !text.includes(key))
  demand(silent.length === 0, `the error does not name ${silent.join(', ')}`)
}

async function ownNamespace(t: Trial, type: string, verb: Verb): Promise<void> {
  const before = await Baseline.of(t.machine)
  const conf = { ...confOf(type, t.version), ...ownNamespaceConf[type] }
  const answer = await t.call(verb, { file: type, conf, env: { ...complete, CNI_NETNS: '/proc/self/ns/net' } })
  demand(answer.code !== 0, `${verb} in its own namespace succeeded`)
  await t.unchanged(before, `after the refused ${verb}`)
}

/** Enough of a configuration to get to work, so that only the namespace is wrong. */
const ownNamespaceConf: Readonly<Record<string, JsonObject>> = {
  bridge: { bridge: 'br9', ipam: {} },
  tuning: { sysctl: { 'net.ipv4.conf.all.arp_filter': '0' } },
  'host-local': { ipam: { type: 'host-local', subnet: '10.0.0.0/24' } },
  tap: { ipam: {}, owner: 0, group: 0 },
}

async function errorVersion(t: Trial, type: string): Promise<void> {
  const answer = await refused(t, type, { verb: 'ADD', env: { CNI_IFNAME: 'a/b' }, what: 'a bad CNI_IFNAME' }, [4])
  demand(typeof answer.document?.['cniVersion'] === 'string', 'the error document has no cniVersion')
}

/** These cases for one type. */
export function contractCases(type: string): readonly Case[] {
  const of =
    (since?: '0.4.0' | '1.1.0') =>
    ([name, basis, asserts, run]: Row): Case => ({
      id: `contract/${name}`,
      plugin: type,
      asserts,
      basis,
      ...(since === undefined ? {} : { since }),
      run: (trial) => run(trial, type),
    })
  return [...rows.map(of()), ...sinceCheck.map(of('0.4.0')), ...sinceGc.map(of('1.1.0'))]
}
