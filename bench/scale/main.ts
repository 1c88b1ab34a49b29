/** `npm run scale`: thousands of nodes simulated, and a lab of a hundred. */

import { parseArgs } from 'node:util'

import { removeLeftovers } from '../bed/bed.ts'
import { machine, machineText } from '../machine.ts'
import { memory } from '../memory.ts'
import { labScale } from './lab.ts'
import { rowTable, type Row } from './row.ts'
import { simulate } from './simulated.ts'

const { values } = parseArgs({
  options: {
    peers: { type: 'string', default: '5000' },
    flapping: { type: 'string', default: '500' },
    nodes: { type: 'string', default: '100' },
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: 'simulated,memory,lab' },
  },
})

const count = (name: 'peers' | 'flapping' | 'nodes' | 'runs'): number => {
  const value = Number(values[name])
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} ${values[name]} is no count`)
  return value
}

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))
const { signal } = stop
const progress = (text: string): void => void process.stderr.write(`scale: ${text}\n`)
const runs = count('runs')
const parts: Readonly<Record<string, () => Promise<readonly Row[]>>> = {
  simulated: () => simulate({ peers: count('peers'), flapping: count('flapping'), runs, signal, progress }),
  memory: async () =>
    (await memory.run({ runs, signal, progress })).map(({ what, ours: value }) => ({ what, value, unit: 'MB' })),
  lab: () => labScale({ nodes: count('nodes'), runs, signal, progress }),
}

removeLeftovers()
progress(machineText(machine()))
const rows: Row[] = []
for (const name of values.only.split(',')) {
  const part = parts[name]
  if (part === undefined) throw new Error(`--only: ${name} is none of ${Object.keys(parts).join(', ')}`)
  rows.push(...(await part()))
}
process.stdout.write(`${rowTable(rows)}\n`)
