/** `heddle doctor`: what usually keeps a pod network from working, looked for on this node. */

import { Command } from 'commander'

import { agentPaths } from '#agent/paths.ts'
import { defaultDirectories } from '#doctor/collect/cni.ts'
import { readMachine } from '#doctor/collect/machine.ts'
import { CHECK_NAMES, type Cause, type CheckName, type Finding, type State } from '#doctor/finding.ts'
import { judge } from '#doctor/judge.ts'
import { leaksCommand } from './doctor-leaks.ts'
import { EXIT_FAILED, usageError } from './fail.ts'
import { fill, say } from './language.ts'
import { style, type Style } from './style.ts'
import { table } from './table.ts'

interface Flags {
  readonly json?: boolean
  readonly all?: boolean
  readonly only?: readonly CheckName[]
  readonly root?: string
  readonly bin?: string
  readonly conf?: string
  readonly kubeconfig?: string
  readonly kubeApiUrl?: string
  readonly node?: string
}

/** `heddle doctor`; what is to be looked for besides has commands of its own below it. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description(say('doctor.description'))
    .option('--all', say('doctor.all'))
    .option('--only <checks>', say('doctor.only'), checkNames)
    .option('--json', say('doctor.json'))
    .option('--root <directory>', say('doctor.root'))
    .option('--bin <directory>', say('doctor.bin'))
    .option('--conf <directory>', say('doctor.conf'))
    .option('--kubeconfig <file>', say('doctor.kubeconfig'))
    .option('--kube-api-url <url>', say('doctor.kubeApiUrl'))
    .option('--node <name>', say('doctor.node'))
    .addCommand(leaksCommand())
    .action(run)
}

/** @throws {CliError} USAGE for a check that there is not */
function checkNames(text: string): readonly CheckName[] {
  return text.split(',').map((wanted) => {
    const name = CHECK_NAMES.find((one) => one === wanted.trim())
    if (name === undefined)
      throw usageError(`there is no check "${wanted}"`, `the checks are ${CHECK_NAMES.join(', ')}`)
    return name
  })
}

async function run(flags: Flags): Promise<void> {
  const paths = agentPaths(flags.root === undefined ? {} : { root: flags.root })
  const usual = defaultDirectories(paths.root)
  const facts = await readMachine({
    paths,
    confDirectory: flags.conf ?? usual.conf,
    binDirectory: flags.bin ?? usual.bin,
    kubeconfig: flags.kubeconfig,
    kubeApiUrl: flags.kubeApiUrl,
    node: flags.node,
  })
  const findings = judge(facts, flags.only)
  const isHealthy = !findings.some(({ state }) => state === 'problem')
  const text =
    flags.json === true
      ? JSON.stringify({ ok: isHealthy, findings }, undefined, 2)
      : textOf(findings, flags.all === true)
  process.stdout.write(`${text}\n`)
  if (!isHealthy) process.exitCode = EXIT_FAILED
}

const STYLES: Readonly<Record<State, Style>> = { ok: 'good', warning: 'warning', problem: 'bad', unknown: 'dim' }

function textOf(findings: readonly Finding[], all: boolean): string {
  const count = (state: State): number => findings.filter((finding) => finding.state === state).length
  const sums = { fine: count('ok'), unknown: count('unknown'), problems: count('problem'), warnings: count('warning') }
  const overview = all ? [tableOf(findings), ''] : []
  const troubles = findings.flatMap((finding) =>
    finding.cause === undefined ? [] : [troubleOf(finding, finding.cause), ''],
  )
  const sum = sums.problems + sums.warnings === 0 ? say('doctor.healthy', sums) : say('doctor.sum', sums)
  return [...overview, ...troubles, sum].join('\n')
}

const tableOf = (findings: readonly Finding[]): string =>
  table<Finding>(
    [
      { title: say('doctor.column.check'), value: ({ check }) => check },
      {
        title: say('doctor.column.state'),
        value: ({ state }) => say(`doctor.state.${state}`),
        style: ({ state }) => STYLES[state],
      },
      { title: say('doctor.column.evidence'), value: ({ evidence }) => evidence.join('; ') },
    ],
    findings,
  )

/** One line of cause, then what was seen, then what to do. */
function troubleOf({ check, state, evidence, commands }: Finding, cause: Cause): string {
  const head = `${style(STYLES[state], say(`doctor.state.${state}`))} ${style('name', check)}: ${sentenceOf(cause)}`
  const seen = evidence.map((line, i) => `  ${style('dim', i === 0 ? say('doctor.seen') : ' '.repeat(4))}  ${line}`)
  const todo = commands.map((line) => `  ${style('heading', '$')} ${line}`)
  return [head, ...seen, ...todo].join('\n')
}

function sentenceOf(cause: Cause): string {
  const { code, ...values } = cause
  return fill(`doctor.cause.${code}`, values)
}
