/** What becomes of each thing that flanneld has left on this node when Heddle's agent takes its place. Pure. */

import { keyOf, textOf, type FlannelEntry } from './entry.ts'
import type { Facts } from './facts.ts'
import { judgeEntries, type Verdict } from './stale.ts'

export const PARTS = [
  'process',
  'unit',
  'daemonset',
  'net-conf',
  'subnet-file',
  'device',
  'route',
  'neighbour',
  'fdb',
  'iptables',
  'nftables',
  'conflist',
  'plugin',
  'drop-in',
] as const
export type Part = (typeof PARTS)[number]

/**
 * keep: stays as it is. take-over: the agent goes on with it as it is. agent-removes: the agent removes it when its own is in place.
 * remove, replace, create: --apply does it. by-hand: the operator does it. unknown: cannot be told. problem: in the way.
 */
export type Fate =
  | 'keep'
  | 'take-over'
  | 'agent-removes'
  | 'remove'
  | 'replace'
  | 'create'
  | 'by-hand'
  | 'unknown'
  | 'problem'

/** Why, or what to do: a message's code. */
export type Note =
  | 'replace-image'
  | 'already-heddle'
  | 'replace-process'
  | 'replace-unit'
  | 'restart-unit'
  | 'no-flanneld-command'
  | 'unreadable'
  | 'in-etcd'
  | 'no-file'
  | 'same-file'
  | 'same-device'
  | 'ends-with-flanneld'
  | 'stale'
  | 'no-cluster'
  | 'same-rules'
  | 'other-rules'
  | 'old-version'
  | 'broken'
  | 'kept-copy'
  | 'unreadable-cluster'

export interface Step {
  readonly part: Part
  readonly object: string
  readonly fate: Fate
  readonly note?: Note
  /** What the note speaks of: an error, a version. */
  readonly detail?: string
  /** How many things it stands for, where that is not one. */
  readonly count?: number
}

export interface MigrationPlan {
  readonly steps: readonly Step[]
  /** What --apply takes away. */
  readonly stale: readonly FlannelEntry[]
  readonly installs: boolean
  /** Content of the drop-in to write. */
  readonly dropIn: { readonly path: string; readonly text: string } | undefined
}

export function planMigration(facts: Facts): MigrationPlan {
  const judge = judgeEntries(facts)
  const verdicts = facts.entries.map((entry) => ({ entry, verdict: judge(entry) }))
  const stale = verdicts.filter(({ verdict }) => verdict === 'stale').map(({ entry }) => entry)
  const { dropIn } = facts
  const writes = dropIn?.text !== undefined && dropIn.text !== dropIn.now
  return {
    steps: [
      ...runnerSteps(facts),
      ...fileSteps(facts),
      ...deviceSteps(facts),
      ...entrySteps(verdicts),
      ...ruleSteps(facts),
      ...cniSteps(facts),
      ...dropInSteps(facts),
    ],
    stale: uniqueByKey(stale),
    installs: facts.install?.actions.some(({ do: what }) => what !== 'keep' && what !== 'leave') ?? false,
    dropIn: writes && dropIn.text !== undefined ? { path: dropIn.path, text: dropIn.text } : undefined,
  }
}

const uniqueByKey = (entries: readonly FlannelEntry[]): readonly FlannelEntry[] => [
  ...new Map(entries.map((entry) => [keyOf(entry), entry])).values(),
]

function runnerSteps({ processes, unit, daemonSets, dropIn }: Facts): readonly Step[] {
  const found: Step[] = processes.map(({ pid, args, home, unit: name }) => ({
    part: 'process',
    object: [`flanneld (${pid})`, ...args].join(' '),
    fate: 'by-hand',
    note: home === 'pod' ? 'replace-image' : name === undefined ? 'replace-process' : 'replace-unit',
    ...(name === undefined ? {} : { detail: name }),
  }))
  if (unit !== undefined && dropIn === undefined)
    found.push({ part: 'unit', object: unit.path, fate: 'by-hand', note: 'replace-unit', detail: 'flanneld.service' })
  if (typeof daemonSets === 'string')
    found.push({ part: 'daemonset', object: '-', fate: 'unknown', note: 'unreadable-cluster', detail: daemonSets })
  else
    for (const { namespace, name, images, isHeddle } of daemonSets)
      found.push({
        part: 'daemonset',
        object: `${namespace}/${name} (${images.join(', ')})`,
        fate: isHeddle ? 'keep' : 'by-hand',
        note: isHeddle ? 'already-heddle' : 'replace-image',
      })
  return found
}

/** With flanneld's own address book in etcd, the network configuration is there too. Source: flannel's main.go. */
const usesEtcd = ({ processes, unit }: Facts): boolean =>
  [...processes.map(({ args }) => args.join(' ')), ...(unit === undefined ? [] : [unit.command])].some(
    (command) => /etcd-/.test(command) && !/kube-subnet-mgr/.test(command),
  )

function fileSteps(facts: Facts): readonly Step[] {
  const {
    netConf: { path, conf },
    subnetFile,
  } = facts
  const netConf: Step =
    typeof conf === 'string'
      ? usesEtcd(facts)
        ? { part: 'net-conf', object: path, fate: 'unknown', note: 'in-etcd' }
        : { part: 'net-conf', object: path, fate: 'problem', note: 'unreadable', detail: conf }
      : {
          part: 'net-conf',
          object: `${path} (${[conf.backend.type, ...Object.values(conf.network)].join(', ')})`,
          fate: 'keep',
          note: 'same-file',
        }
  const { content } = subnetFile
  const file: Step =
    typeof content === 'object'
      ? {
          part: 'subnet-file',
          object: `${subnetFile.path} (${content.subnets.join(', ')})`,
          fate: 'take-over',
          note: 'same-file',
        }
      : {
          part: 'subnet-file',
          object: subnetFile.path,
          fate: 'unknown',
          note: content === undefined ? 'no-file' : 'broken',
          ...(content === undefined ? {} : { detail: content }),
        }
  return [netConf, file]
}

/** A program's TUN device ends with the program; flanneld deletes its WireGuard device when it ends. */
const ENDS = new Set(['tun', 'wireguard'])

const deviceSteps = ({ devices }: Facts): readonly Step[] =>
  devices.map(({ name, kind, mac, mtu }) => ({
    part: 'device',
    object: [name, kind, ...(mac === undefined ? [] : [mac]), `mtu ${mtu}`].join(' '),
    fate: 'take-over',
    note: ENDS.has(kind) ? 'ends-with-flanneld' : 'same-device',
  }))

const PART_OF = { route: 'route', neigh: 'neighbour', fdb: 'fdb' } as const

/** What stays is counted, what goes is named. */
function entrySteps(verdicts: readonly { readonly entry: FlannelEntry; readonly verdict: Verdict }[]): readonly Step[] {
  return (['route', 'neigh', 'fdb'] as const).flatMap((kind) => {
    const of = verdicts.filter(({ entry }) => entry.kind === kind)
    const count = (wanted: Verdict): number => of.filter(({ verdict }) => verdict === wanted).length
    const [fresh, unknown] = [count('fresh'), count('unknown')]
    const devices = (wanted: Verdict): string =>
      [...new Set(of.filter(({ verdict }) => verdict === wanted).map(({ entry }) => entry.dev))].join(', ')
    const part = PART_OF[kind]
    const steps: Step[] = []
    if (fresh > 0) steps.push({ part, object: devices('fresh'), fate: 'take-over', count: fresh })
    if (unknown > 0)
      steps.push({ part, object: devices('unknown'), fate: 'unknown', note: 'no-cluster', count: unknown })
    for (const { entry, verdict } of of)
      if (verdict === 'stale') steps.push({ part, object: textOf(entry), fate: 'remove', note: 'stale' })
    return steps
  })
}

function ruleSteps({ rules, netConf: { conf } }: Facts): readonly Step[] {
  const mode = typeof conf === 'string' ? undefined : conf.rules
  return rules.map(({ kind, name, rules: count }) => {
    const isSame = kind === 'iptables' && mode === 'iptables'
    const fate = mode === undefined ? 'unknown' : isSame ? 'take-over' : 'agent-removes'
    return {
      part: kind,
      object: name,
      fate,
      ...(mode === undefined ? {} : { note: isSame ? 'same-rules' : 'other-rules' }),
      ...(count === undefined ? {} : { count }),
    }
  })
}

function cniSteps({ confs, plugins: folder, install }: Facts): readonly Step[] {
  const lists = confs.files
    .filter(({ types, error }) => error !== undefined || types.includes('flannel'))
    .map(({ file, error }): Step => ({
      part: 'conflist',
      object: `${confs.directory}/${file}`,
      fate: error === undefined ? 'keep' : 'problem',
      note: error === undefined ? 'old-version' : 'broken',
      ...(error === undefined ? {} : { detail: error }),
    }))
  if (install === undefined) return [...lists, { part: 'plugin', object: folder, fate: 'keep' }]
  const plugins = install.actions.flatMap((action): Step[] => {
    if (!('file' in action) || action.do === 'keep') return []
    const object = action.file.path
    if (action.do === 'create') return [{ part: 'plugin', object, fate: 'create' }]
    return [{ part: 'plugin', object, fate: 'replace', ...(action.do === 'take-over' ? { note: 'kept-copy' } : {}) }]
  })
  return [...lists, ...plugins]
}

function dropInSteps({ dropIn, unit }: Facts): readonly Step[] {
  if (dropIn === undefined) return []
  const { path: object, text, now } = dropIn
  if (text === undefined)
    return [
      { part: 'drop-in', object, fate: 'problem', note: 'no-flanneld-command', detail: unit?.command ?? 'no unit' },
    ]
  if (now === text) return [{ part: 'drop-in', object, fate: 'keep', note: 'already-heddle' }]
  return [{ part: 'drop-in', object, fate: now === undefined ? 'create' : 'replace', note: 'restart-unit' }]
}
