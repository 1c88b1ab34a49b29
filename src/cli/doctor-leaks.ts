import { setTimeout as sleep } from 'node:timers/promises'

import { Command } from 'commander'

import { LeakFinder, type Round } from '#agent/leaks/finder.ts'
import { judge, type Leftover, type Unclaimed } from '#agent/leaks/judge.ts'
import { observeLeaks } from '#agent/leaks/observe.ts'
import { removeLeftover } from '#agent/leaks/remove.ts'
import { openHost } from '#cni/runtime/host.ts'
import { registry } from '#plugins/registry.ts'
import { CliError, EXIT_FAILED, usageError } from './fail.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { table, type Column } from './table.ts'

interface Options {
  readonly fix?: boolean
  readonly json?: boolean
  readonly root?: string
  readonly wait?: string
}

type Outcome = 'removed' | 'left' | 'failed' | 'gone'

interface Found {
  readonly leftover: Leftover
  readonly outcome: Outcome
  readonly reason?: string
}

/** `heddle doctor leaks`: prints what attachments left behind, and removes it when asked to. */
export function leaksCommand(): Command {
  return (
    new Command('leaks')
      .summary(say('leaks.summary'))
      .description(say('leaks.description'))
      .option('--fix', say('leaks.fix'))
      .option('--json', say('leaks.json'))
      .option('--root <directory>', say('leaks.root'))
      .option('--wait <seconds>', say('leaks.wait'))
      // `doctor` has options of the same names, which it takes wherever they stand.
      .action((_options: Options, command: Command) => run(command.optsWithGlobals<Options>()))
  )
}

async function run(options: Options): Promise<void> {
  const wait = waitOf(options.wait ?? '2')
  if (process.getuid?.() !== 0)
    throw new CliError('NOT_PERMITTED', say('leaks.notRoot'), { remedy: say('leaks.notRootRemedy') })
  const given = options.root ?? process.env['HEDDLE_ROOT'] ?? ''
  using host = openHost({ root: given === '/' ? '' : given, log })
  const finder = new LeakFinder({
    look: async () => judge(await observeLeaks({ host, withAddresses: true })),
    remove: (leftover) =>
      options.fix === true
        ? // Calls of the agent and of standalone programs hold the attachment's lock, and so does this.
          removeLeftover(leftover, { host, registry, alone: (_owner, job) => job() })
        : Promise.resolve(false),
  })
  const first = await finder.round()
  if (first.leftovers.length > 0) await sleep(wait * 1000)
  const second = first.leftovers.length > 0 ? await finder.round() : first
  const seen = new Set(first.leftovers.map(({ key }) => key))
  const twice = second.leftovers.filter(({ key }) => seen.has(key))
  const found = twice.map((leftover) => outcomeOf(leftover, second, options.fix === true))
  process.stdout.write(`${options.json === true ? document(found, second.unclaimed) : page(found, second.unclaimed)}\n`)
  if (found.some(({ outcome }) => outcome === 'left' || outcome === 'failed')) process.exitCode = EXIT_FAILED
}

function waitOf(value: string): number {
  if (/^\d{1,3}(\.\d+)?$/.test(value) && Number(value) <= 600) return Number(value)
  throw usageError(say('leaks.badWait', { value }), say('leaks.badWaitRemedy'))
}

function outcomeOf(leftover: Leftover, { removed, failed }: Round, fix: boolean): Found {
  if (!fix) return { leftover, outcome: 'left' }
  if (removed.includes(leftover)) return { leftover, outcome: 'removed' }
  const failure = failed.find((one) => one.leftover === leftover)
  return failure === undefined ? { leftover, outcome: 'gone' } : { leftover, outcome: 'failed', reason: failure.reason }
}

/** Keys and codes are for programs, and the same in every language. */
function document(found: readonly Found[], unclaimed: readonly Unclaimed[]): string {
  const describe = ({ kind, owner, object, reason, detail }: Leftover | Unclaimed) => ({
    kind,
    network: owner?.network,
    containerID: owner?.containerId,
    ifname: owner?.ifname,
    object,
    reason,
    detail,
  })
  const leftovers = found.map(({ leftover, outcome, reason }) => ({ ...describe(leftover), outcome, failure: reason }))
  return JSON.stringify({ leftovers, unclaimed: unclaimed.map(describe) }, undefined, 2)
}

function page(found: readonly Found[], unclaimed: readonly Unclaimed[]): string {
  const parts: string[] = []
  if (found.length === 0) parts.push(style('good', say('leaks.none')))
  else {
    const rows = table(
      [...columnsOf((row: Found) => row.leftover), { title: say('leaks.column.outcome'), value: told, style: styleOf }],
      found,
    )
    parts.push(`${style('heading', say('leaks.found', { count: found.length }))}\n${rows}`, ...countsOf(found))
  }
  if (unclaimed.length > 0) {
    const rows = table(
      columnsOf((row: Unclaimed) => row),
      unclaimed,
    )
    parts.push(`${style('warning', say('leaks.unclaimed', { count: unclaimed.length }))}\n${rows}`)
  }
  return parts.join('\n\n')
}

function columnsOf<Row>(of: (row: Row) => Leftover | Unclaimed): readonly Column<Row>[] {
  return [
    { title: say('leaks.column.kind'), value: (row) => say(`leaks.kind.${of(row).kind}`) },
    { title: say('leaks.column.network'), value: (row) => of(row).owner?.network },
    { title: say('leaks.column.container'), value: (row) => of(row).owner?.containerId?.slice(0, 20) },
    { title: say('leaks.column.interface'), value: (row) => of(row).owner?.ifname },
    { title: say('leaks.column.object'), value: (row) => of(row).object },
    { title: say('leaks.column.why'), value: (row) => why(of(row)) },
  ]
}

const why = ({ reason, detail }: Leftover | Unclaimed): string => say(`leaks.reason.${reason}`, { detail })

const told = ({ outcome, reason = '' }: Found): string =>
  outcome === 'failed' ? say('leaks.outcome.failed', { reason }) : say(`leaks.outcome.${outcome}`)

const styleOf = ({ outcome }: Found) => (outcome === 'left' ? 'warning' : outcome === 'failed' ? 'bad' : 'good')

function countsOf(found: readonly Found[]): readonly string[] {
  const count = (outcome: Outcome): number => found.filter((one) => one.outcome === outcome).length
  const [removed, left, failed] = [count('removed'), count('left'), count('failed')]
  return [
    ...(removed > 0 ? [style('good', say('leaks.fixed', { count: removed }))] : []),
    ...(left > 0 ? [style('warning', say('leaks.left', { count: left }))] : []),
    ...(failed > 0 ? [style('bad', say('leaks.failed', { count: failed }))] : []),
  ]
}

function log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void {
  if (level === 'warn' || level === 'error') process.stderr.write(`heddle: ${level}: ${message}\n`)
}
