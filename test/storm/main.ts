/** `npm run storm`: a storm of any length. See tools/storm.mjs for its options. */

import { parseArgs } from 'node:util'

import { needsRoot } from '../namespace.ts'
import { describeStorm, runStorm } from './storm.ts'

/** The longest step is 60 s, of a shim whose agent does not answer; most are a thousandth of that. */
const STEP_LIMIT_MS = 2_000

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '2000' },
    seed: { type: 'string' },
    pods: { type: 'string', default: '48' },
    'at-once': { type: 'string', default: '32' },
  },
})

function whole(name: string, text: string, most: number): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 0 && value <= most) return value
  throw new Error(`--${name} is ${JSON.stringify(text)}: give a whole number up to ${most}`)
}

if (needsRoot !== false) throw new Error(needsRoot)
const order = {
  steps: whole('steps', values.steps, 1_000_000),
  seed: values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : whole('seed', values.seed, 2 ** 32),
  // The pool of addresses has 125.
  pods: Math.max(1, whole('pods', values.pods, 100)),
  atOnce: Math.max(1, whole('at-once', values['at-once'], 1000)),
}
process.stdout.write(`storm: seed ${order.seed}\n`)
const report = await runStorm(order, 60_000 + order.steps * STEP_LIMIT_MS)
for (const line of describeStorm(order, report)) process.stdout.write(`${line}\n`)
process.exitCode = report.violations.length + report.left.length === 0 ? 0 : 1
