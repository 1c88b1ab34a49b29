/** `npm run bench`: measures, prints the machine and one table. Speed is reported, never asserted: the exit code tells only whether it worked. */

import { Command, InvalidArgumentError } from 'commander'
import { attach } from './attach.ts'
import { removeLeftovers } from './bed/bed.ts'
import type { Benchmark } from './benchmark.ts'
import { burst } from './burst.ts'
import { join } from './join.ts'
import { machine, machineText } from './machine.ts'
import { met, type Measurement } from './measurement.ts'
import { memory } from './memory.ts'
import { peers } from './peers.ts'
import { plugins } from './plugins.ts'
import { measurementTable } from './table.ts'
import { relay, throughput } from './throughput.ts'
import { wire } from './wire.ts'

const BENCHMARKS: readonly Benchmark[] = [attach, plugins, burst, wire, peers, join, throughput, relay, memory]

function count(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('a number of pairs, from 1 on')
  return value
}

const program = new Command('bench')
  .description('Heddle against the reference plugins and against what is made by hand, as ratios')
  .option('--only <name...>', `of ${BENCHMARKS.map(({ name }) => name).join(', ')}`)
  .option('--runs <count>', 'counted pairs of each benchmark', count)
  .option('--json', 'one JSON document instead of the table')
  .addHelpText('after', `\n${BENCHMARKS.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n')}`)
  .parse()
const options = program.opts<{ only?: string[]; runs?: number; json?: true }>()

for (const name of options.only ?? []) {
  if (!BENCHMARKS.some((one) => one.name === name)) program.error(`there is no benchmark ${name}: --help lists them`)
}
if (process.getuid?.() !== 0) program.error('benchmarks make network namespaces, which needs root: sudo npm run bench')

const stop = new AbortController()
// Once: whoever insists is let go at once.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))
}

const note = (text: string): void => void process.stderr.write(`bench: ${text}\n`)
const here = machine()
const found: (Measurement & { readonly benchmark: string })[] = []
const skipped: { readonly benchmark: string; readonly why: string }[] = []
const failed: { readonly benchmark: string; readonly why: string }[] = []

removeLeftovers()
note(machineText(here))
for (const { name, obstacle, run } of BENCHMARKS) {
  if (options.only !== undefined && !options.only.includes(name)) continue
  const why = obstacle?.()
  if (why !== undefined) {
    skipped.push({ benchmark: name, why })
    note(`${name}: skipped: ${why}`)
    continue
  }
  const started = performance.now()
  try {
    const progress = (text: string): void => note(`${name}: ${text}`)
    const lines = await run({ runs: options.runs, signal: stop.signal, progress })
    found.push(...lines.map((line) => ({ benchmark: name, ...line })))
    note(`${name}: done in ${((performance.now() - started) / 1000).toFixed(1)} s`)
  } catch (error) {
    if (stop.signal.aborted) break
    const text = error instanceof Error ? error.message : String(error)
    failed.push({ benchmark: name, why: text })
    note(`${name}: failed: ${text}`)
  }
}

if (options.json === true) {
  const results = found.map((one) => ({ ...one, met: met(one) }))
  console.log(JSON.stringify({ machine: here, at: new Date().toISOString(), results, skipped, failed }, null, 2))
} else {
  console.log(`\n${machineText(here)}\n\n${measurementTable(found)}`)
}
if (stop.signal.aborted) note('stopped: what is above is not complete')
process.exitCode = stop.signal.aborted ? 130 : failed.length > 0 ? 1 : 0
