/** Compares what `heddle lab way` shows with what the commands beside it print. */

import assert from 'node:assert/strict'
import type { Way } from '#lab/way.ts'
import type { TestLab } from './harness.ts'

/** Every line that is shown is a line that the command beside it prints. */
export async function verifyWay(
  lab: TestLab,
  route: RegExp,
  outer: boolean,
  ...args: readonly string[]
): Promise<void> {
  const [way] = await lab.json<readonly Way[]>('way', ...args)
  assert.ok(way !== undefined)
  assert.equal(way.outer !== undefined, outer)
  assert.match(way.stops[1]?.entries[0]?.line ?? '', route)
  for (const { place, entries } of way.stops) {
    for (const { command, line, meaning } of entries) {
      assert.ok(line !== undefined, `${place}: ${command} shows nothing`)
      const [program = '', ...words] = command.split(' ')
      const printed = lab.inside(place, program, ...words).replace(/\s+/g, ' ')
      if (
        meaning === 'tunnel-device' ||
        meaning === 'arrival-device' ||
        meaning === 'ipip-device' ||
        meaning === 'udp-device'
      ) {
        for (const part of [/vxlan id \d+ .* dstport \d+ |ipip remote \S+ local \S+|tun type tun/, /mtu \d+/]) {
          for (const word of (part.exec(line)?.[0] ?? 'nothing').split(' ')) assert.ok(printed.includes(word), word)
        }
        continue
      }
      // A neighbour's state changes by itself between the two readings.
      const stable = (text: string): string => text.replace(/ (REACHABLE|STALE|DELAY|PROBE)\b/, '')
      assert.ok(stable(printed).includes(stable(line)), `${place}: ${command} prints ${printed}, shown was ${line}`)
    }
  }
}
