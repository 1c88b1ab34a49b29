/** Runs cases over a directory of plugins, several at a time, each on a machine of its own. */

import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { messageOf } from '#cni/errors.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { Failed } from './call.ts'
import { fullId, type Case, type Verdict } from './case.ts'
import { Broken, Machine } from './machine.ts'
import { claimedVersions, type Target } from './target.ts'
import { Trial } from './trial.ts'

/** One case with all its calls, each of which has a deadline of its own. */
const CASE_MS = 120_000 * slowness
const DAEMON_MS = 10_000 * slowness

export interface Outcome {
  readonly test: Case
  readonly verdict: Verdict
  readonly ms: number
}

export interface RunOptions {
  readonly jobs: number
  /** How often the crash cases kill. */
  readonly kills: number
  readonly signal?: AbortSignal
  readonly onOutcome?: (outcome: Outcome) => void
}

/** The outcomes in the order of the cases. */
export async function runCases(
  target: Target,
  cases: readonly Case[],
  options: RunOptions,
): Promise<readonly Outcome[]> {
  const claimed = await claims(target, cases)
  const outcomes: (Outcome | undefined)[] = cases.map(() => undefined)
  let next = 0
  const work = async (): Promise<void> => {
    for (let i = next++; i < cases.length && options.signal?.aborted !== true; i = next++) {
      const test = cases[i]
      if (test === undefined) continue
      const started = performance.now()
      const verdict = await judge(target, test, claimed, options.kills)
      const outcome = { test, verdict, ms: performance.now() - started }
      outcomes[i] = outcome
      options.onOutcome?.(outcome)
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, work))
  return outcomes.filter((outcome) => outcome !== undefined)
}

type Claims = ReadonlyMap<string, readonly string[]>

async function claims(target: Target, cases: readonly Case[]): Promise<Claims> {
  await using machine = await Machine.make()
  const types = new Set(cases.flatMap(typesOf))
  const found = new Map<string, readonly string[]>()
  for (const type of types) if (target.types.has(type)) found.set(type, await claimedVersions(machine, target, type))
  return found
}

/** `chain` is about several types alike. */
const typesOf = ({ plugin, also = [] }: Case): readonly string[] => (plugin === 'chain' ? also : [plugin, ...also])

async function judge(target: Target, test: Case, claimed: Claims, kills: number): Promise<Verdict> {
  const types = typesOf(test)
  const missing = types.filter((type) => !target.types.has(type))
  if (missing.length > 0) return { is: 'absent', why: `the directory has no ${missing.join(', ')}` }
  const versions = (claimed.get(types[0] ?? '') ?? []).filter((version) =>
    types.every((type) => (claimed.get(type) ?? []).includes(version)),
  )
  if (test.since !== undefined && !versions.includes(test.since)) {
    return { is: 'unclaimed', why: `it claims ${versions.at(-1) ?? 'nothing'}, this is about ${test.since}` }
  }
  try {
    const why = obstacle(test)
    if (why !== undefined) return { is: 'skipped', why }
  } catch (error) {
    return { is: 'broken', why: messageOf(error) }
  }
  return attempt(target, test, versions, kills)
}

function obstacle(test: Case): string | undefined {
  const lacks = needsKernel(...(test.needs ?? []))
  if (lacks !== false) return lacks
  for (const [program, debianPackage] of Object.entries(test.programs ?? {})) {
    if (!inPath(program)) return `needs the program ${program}: apt-get install ${debianPackage}`
  }
  return undefined
}

const inPath = (program: string): boolean =>
  [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].some((folder) =>
    existsSync(join(folder, program)),
  )

async function attempt(target: Target, test: Case, versions: readonly string[], kills: number): Promise<Verdict> {
  try {
    await using machine = await Machine.make()
    if (target.daemon !== undefined) await startDaemon(machine, target.daemon)
    const trial = new Trial(machine, target, versions, kills)
    await inTime(test.run(trial), `the case took more than ${CASE_MS / 1000} s`)
    return { is: 'passed' }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    if (error instanceof Failed) return { is: 'failed', why }
    if (error instanceof Broken) return { is: 'broken', why }
    return { is: 'broken', why: `${fullId(test)}: ${error instanceof Error ? (error.stack ?? why) : why}` }
  }
}

async function startDaemon(machine: Machine, daemon: NonNullable<Target['daemon']>): Promise<void> {
  const child = machine.start(daemon.command)
  const deadline = Date.now() + DAEMON_MS
  while (!existsSync(machine.outside(daemon.socket))) {
    if (child.exitCode !== null) throw new Broken(`${daemon.command.join(' ')} ended with code ${child.exitCode}`)
    if (Date.now() > deadline) throw new Broken(`${daemon.command.join(' ')} does not listen on ${daemon.socket}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function inTime(work: Promise<unknown>, otherwise: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Failed(otherwise)), CASE_MS)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
