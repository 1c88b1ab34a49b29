/** Starts a storm in a machine of its own. */

import { parseJsonObject } from '#cni/json.ts'
import { Machine } from '../runtimes/machine.ts'
import type { Order, Report } from './driver.ts'

const driver = new URL('./driver.ts', import.meta.url).pathname

/** Its limit in milliseconds is for the whole of it. Throws when it does not end in time, or not by itself. */
export async function runStorm(order: Order, limitMs: number): Promise<Report> {
  await using machine = await Machine.open()
  const output = await machine.run([process.execPath, driver, JSON.stringify(order)], undefined, {}, limitMs)
  return reportOf(output)
}

function reportOf(text: string): Report {
  const { outcomes, given, agentKills, milliseconds, violations, left } = parseJsonObject(text, 'the report of a storm')
  const texts = (value: unknown): readonly string[] => (Array.isArray(value) ? value.map(String) : [String(value)])
  return {
    outcomes: Object.fromEntries(Object.entries(outcomes ?? {}).map(([how, times]) => [how, Number(times)])),
    given: Number(given),
    agentKills: Number(agentKills),
    milliseconds: Number(milliseconds),
    violations: texts(violations),
    left: texts(left),
  }
}

/** The report as lines for people. */
export function describeStorm({ seed, steps, pods, atOnce }: Order, report: Report): readonly string[] {
  const counts = Object.entries(report.outcomes).map(([how, times]) => `${times} ${how}`)
  return [
    `storm with seed ${seed}: ${steps} steps of ${pods} pods, ${atOnce} at once, in ${(report.milliseconds / 1000).toFixed(1)} s`,
    `calls: ${counts.join(', ')}`,
    `${report.given} addresses were given; the agent was killed ${report.agentKills} times`,
    ...report.violations.map((what) => `VIOLATION: ${what}`),
    ...report.left.map((line) => `LEFT: ${line}`),
  ]
}
