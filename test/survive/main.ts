/** `npm run survive`: a table of what was lost while agents were restarted, killed and exchanged. Exit code 1 where a backend did worse than promised. */

import { parseArgs } from 'node:util'

import { table } from '../../src/cli/table.ts'
import { slowness } from '../slow.ts'
import { survive, type Round } from './survive.ts'

const { values } = parseArgs({
  options: {
    backends: { type: 'string', default: 'vxlan,host-gw,udp' },
    probes: { type: 'string', default: '20000' },
    rate: { type: 'string', default: '1000' },
    former: { type: 'string' },
  },
})

const TYPES = ['vxlan', 'host-gw', 'udp', 'ipip', 'wireguard']
const TUNNEL = 'udp'
/** So long may a backend be silent whose packets a process forwards, each time that process ends. */
const SILENCE_MS = 3_000

const number = (text: string, name: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 10_000_000) throw new Error(`--${name} ${text} is no count`)
  return value
}

const backends = values.backends.split(',')
for (const name of backends)
  if (!TYPES.includes(name)) throw new Error(`--backends: ${name} is none of ${TYPES.join(', ')}`)
const options = {
  probes: number(values.probes, 'probes'),
  perSecond: number(values.rate, 'rate'),
  former: values.former,
}

type Row = Round & { readonly backend: string; readonly isFine: boolean }
const rows: Row[] = []
for (const backend of backends) {
  process.stderr.write(`survive: ${backend}\n`)
  for (const round of await survive({ backend: { Type: backend }, ...options })) {
    const isFine = backend === TUNNEL ? round.silence <= SILENCE_MS * slowness : round.lost === 0
    rows.push({ backend, isFine, ...round })
  }
}
const right = 'right' as const
const page = table<Row>(
  [
    { title: 'BACKEND', value: ({ backend }) => backend },
    { title: 'AGENTS', value: ({ what }) => what },
    { title: 'STARTS', value: ({ starts }) => starts, align: right },
    { title: 'PROBES', value: ({ sent }) => sent, align: right },
    { title: 'LOST', value: ({ lost }) => lost, align: right },
    { title: 'SILENCE', value: ({ silence }) => `${Math.round(silence)} ms`, align: right },
    { title: '', value: ({ isFine }) => (isFine ? 'ok' : 'FAILED') },
  ],
  rows,
)
process.stdout.write(`${page}\n`)
if (rows.some(({ isFine }) => !isFine)) process.exitCode = 1
