/** Processes told apart for certain: by pid and start time, and by a mark in their environment. */

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode } from '#sys/errno.ts'

/** A pid alone is used again; together with its start time (in clock ticks since boot, proc(5)) it names one process for ever. */
export interface ProcessId {
  readonly pid: number
  readonly startTime: number
}

/** Every process of a lab has this variable, set to the lab's id, and hands it on to its children. */
export const MARK = 'HEDDLE_LAB_ID'

/** The start time from the text of /proc/PID/stat; undefined for a zombie, which only waits to be reaped. */
export function startTimeIn(stat: string): number | undefined {
  // The command name stands in parentheses and may hold anything, spaces and parentheses too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const startTime = Number(fields[19])
  return fields[0] === 'Z' || fields[0] === 'X' || !Number.isSafeInteger(startTime) ? undefined : startTime
}

/** The process that has this pid now; undefined if there is none. */
export function processOf(pid: number): ProcessId | undefined {
  const stat = readProc(`/proc/${pid}/stat`)
  const startTime = stat === undefined ? undefined : startTimeIn(stat)
  return startTime === undefined ? undefined : { pid, startTime }
}

export const isAlive = ({ pid, startTime }: ProcessId): boolean => processOf(pid)?.startTime === startTime

/** All processes whose environment, as it was at their start, holds `MARK=id`; this one and its ancestors excepted. */
export function markedProcesses(id: string): ProcessId[] {
  const mark = `${MARK}=${id}`
  const spared = new Set(ancestry(process.pid))
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => !spared.has(pid))
    .filter((pid) => readProc(`/proc/${pid}/environ`)?.split('\0').includes(mark))
    .map(processOf)
    .filter((found) => found !== undefined)
}

function ancestry(pid: number): number[] {
  const line: number[] = []
  for (let at = pid; at > 1 && line.length < 64;) {
    line.push(at)
    const stat = readProc(`/proc/${at}/stat`)
    at = stat === undefined ? 0 : Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  }
  return line
}

/** Sends a signal if the process still is the one meant; false when it is gone. */
export function signal(target: ProcessId, name: NodeJS.Signals): boolean {
  if (!isAlive(target)) return false
  try {
    return process.kill(target.pid, name)
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false
    throw error
  }
}

/** What a killed process holds is taken down before it is gone: seconds where the machine is busy, or slow. */
const KILLED_MS = 15_000

/** Asks the processes to end, waits `graceMs`, then kills what is left. Resolves with those that even that did not end in time. */
export async function endProcesses(targets: readonly ProcessId[], graceMs: number): Promise<ProcessId[]> {
  let alive = targets.filter((target) => signal(target, 'SIGTERM'))
  alive = await remaining(alive, graceMs)
  for (const target of alive) signal(target, 'SIGKILL')
  return remaining(alive, KILLED_MS)
}

async function remaining(targets: readonly ProcessId[], ms: number): Promise<ProcessId[]> {
  const deadline = Date.now() + ms
  let alive = targets.filter(isAlive)
  while (alive.length > 0 && Date.now() < deadline) {
    await sleep(10)
    alive = alive.filter(isAlive)
  }
  return alive
}

/** Undefined when the process ends meanwhile, or is not ours to read. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined
    throw error
  }
}
