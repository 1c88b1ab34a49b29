/** `npm run conformance`: runs every case over one or more directories of CNI plugins. Exit code: 0 all passed, 1 something failed, 2 the suite itself did. */

import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { agentOf, dist } from './agent.ts'
import { fullId, type Case } from './case.ts'
import { reportMarkdown } from './markdown.ts'
import { reportJson, reportText, type Column } from './report.ts'
import { runCases, type Outcome } from './runner.ts'
import { merged, readReport } from './saved.ts'
import { cases } from './suite.ts'
import { openTarget, type Target } from './target.ts'

const ours = join(dist, 'cni')

interface Options {
  readonly bin: string
  readonly compare: readonly string[]
  readonly only?: readonly string[]
  readonly agent?: true
  readonly jobs: number
  readonly kills: number
  readonly from?: readonly string[]
  readonly list?: true
  readonly json?: true
  readonly markdown?: true
  readonly failures?: true
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1 || value > 64) throw new InvalidArgumentError('a number from 1 to 64')
  return value
}

const program = new Command('conformance')
  .description('Runs every case over a directory of CNI plugins, each case on a machine of its own made of namespaces')
  .option('--bin <dir>', 'the directory of plugins', ours)
  .option('--compare <dir...>', 'other directories, a column each; LABEL=DIR names one', [])
  .option('--agent', 'start the `heddle agent` beside --bin on each machine, so that its plugins are answered by it')
  .option('--only <text...>', 'cases whose name contains one of these, such as bridge/ or crash/')
  .option('--jobs <count>', 'cases at a time', count, Math.max(2, availableParallelism()))
  .option('--kills <count>', 'kills in each crash case', count, 6)
  .option('--from <file...>', 'show the reports of earlier runs, made with --json, and run nothing')
  .option('--list', 'list the cases and run none')
  .option('--failures', 'print only cases that did not pass everywhere')
  .option('--json', 'one JSON document instead of the table')
  .option('--markdown', 'tables for a document')
  .parse()
const options = program.opts<Options>()

const selected = cases.filter(
  (test) => options.only === undefined || options.only.some((text) => fullId(test).includes(text)),
)
if (selected.length === 0)
  program.error(`no case has a name that contains ${options.only?.join(' or ')}: --list lists them`)

const say = (text: string): void => void process.stderr.write(`conformance: ${text}\n`)

function targets(): readonly Target[] {
  const of = (text: string, daemon?: Target['daemon']): Target => {
    const at = text.indexOf('=')
    const directory = resolve(at < 0 ? text : text.slice(at + 1))
    return openTarget(at < 0 ? labelOf(directory) : text.slice(0, at), directory, daemon)
  }
  try {
    return [
      of(options.bin, options.agent === true ? agentOf(join(options.bin, '..')) : undefined),
      ...options.compare.map((text) => of(text)),
    ]
  } catch (error) {
    return program.error(error instanceof Error ? error.message : String(error))
  }
}

const labelOf = (directory: string): string => (directory === ours ? 'heddle' : directory)

function progress(label: string, all: readonly Case[]): (outcome: Outcome) => void {
  let done = 0
  let last = Date.now()
  return ({ test, verdict }) => {
    done++
    if (verdict.is === 'failed' || verdict.is === 'broken')
      say(`${label}: ${verdict.is} ${fullId(test)}: ${verdict.why}`)
    if (Date.now() - last < 5000 && done < all.length) return
    last = Date.now()
    say(`${label}: ${done} of ${all.length}`)
  }
}

async function measured(stop: AbortController): Promise<readonly Column[]> {
  if (process.getuid?.() !== 0)
    program.error('the cases make network namespaces, which needs root: sudo npm run conformance')
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  const columns: Column[] = []
  for (const target of targets()) {
    const started = performance.now()
    const onOutcome = progress(target.label, selected)
    const outcomes = await runCases(target, selected, { ...options, signal: stop.signal, onOutcome })
    const seconds = (performance.now() - started) / 1000
    columns.push({ label: target.label, directory: target.directory, outcomes, seconds })
  }
  return columns
}

function saved(files: readonly string[]): readonly Column[] {
  try {
    return merged(files.flatMap((file) => readReport(file, selected)))
  } catch (error) {
    return program.error(error instanceof Error ? error.message : String(error))
  }
}

if (options.list === true) {
  for (const test of selected) console.log(`${fullId(test)}  [${test.basis}] ${test.asserts}`)
} else {
  const stop = new AbortController()
  const columns = await (options.from === undefined ? measured(stop) : saved(options.from))
  if (options.json === true) console.log(JSON.stringify(reportJson(columns), null, 2))
  else if (options.markdown === true) console.log(reportMarkdown(columns))
  else console.log(reportText(columns, options.failures === true))
  const all = columns.flatMap(({ outcomes }) => outcomes.map(({ verdict }) => verdict.is))
  if (stop.signal.aborted) say('stopped: what is above is not complete')
  process.exitCode = stop.signal.aborted ? 130 : all.includes('broken') ? 2 : all.includes('failed') ? 1 : 0
}
