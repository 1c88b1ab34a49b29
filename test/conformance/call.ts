/** One start of a plugin, as a runtime makes it, and what holds for every answer whatever the verb. */

import { isObject, type JsonObject } from '#cni/json.ts'
import { slowness } from '../slow.ts'
import type { Machine } from './machine.ts'
import { run, type Ran } from './process.ts'

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'

/** No call of these cases has a reason to take longer. A runtime waits one to four minutes. */
const DEADLINE_MS = 15_000 * slowness

/** What a plugin did wrong: the case has failed. */
export class Failed extends Error {
  override readonly name = 'Failed'
}

/** The environment of a call; undefined leaves a variable out. */
export type Environment = Readonly<Record<string, string | undefined>>

export interface Call {
  /** File name below the directory under test. */
  readonly file: string
  readonly env: Environment
  readonly stdin: string
  readonly killAfterMs?: number
  readonly deadlineMs?: number
}

export interface Answer extends Ran {
  /** The JSON document on stdout; undefined where it is empty. */
  readonly document: JsonObject | undefined
  /** What the call was, for messages. */
  readonly what: string
}

/** Runs a plugin and holds its answer against the rules of every answer. A call that is killed on purpose has none. */
export async function call(machine: Machine, directory: string, request: Call): Promise<Answer> {
  const env = Object.fromEntries(
    Object.entries({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...request.env }).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value]],
    ),
  )
  const ran = await run([...machine.entry(), `${directory}/${request.file}`], {
    env,
    input: request.stdin,
    deadlineMs: request.deadlineMs ?? DEADLINE_MS,
    ...(request.killAfterMs === undefined ? {} : { killAfterMs: request.killAfterMs }),
  })
  const what = `${request.file} ${env['CNI_COMMAND'] ?? 'without CNI_COMMAND'}`
  if (ran.late) throw new Failed(`${what} was not done after ${Math.round(ran.ms)} ms`)
  if (request.killAfterMs !== undefined) return { ...ran, document: undefined, what }
  if (ran.code === null) throw new Failed(`${what} was ended by a signal`)
  return { ...ran, document: documentOf(ran, what), what }
}

/** stdout is empty or exactly one JSON object; a failure has the protocol's error, a stack trace is nobody's business. */
function documentOf(ran: Ran, what: string): JsonObject | undefined {
  const trace = /^\s+at .*:\d+:\d+\)?$|^goroutine \d+ \[/m.exec(ran.stdout + ran.stderr)
  if (trace !== null) throw new Failed(`${what} printed a stack trace: ${shorten(trace[0])}`)
  if (ran.stdout.trim() === '') {
    if (ran.code !== 0) throw new Failed(`${what} failed without an error on stdout: ${shorten(ran.stderr)}`)
    return undefined
  }
  const document = parsed(ran.stdout)
  if (!isObject(document)) throw new Failed(`${what}: stdout is not one JSON object: ${shorten(ran.stdout)}`)
  if (ran.code !== 0) {
    const { code, msg } = document
    if (typeof code !== 'number' || !Number.isInteger(code) || code < 1 || typeof msg !== 'string' || msg === '') {
      throw new Failed(`${what} failed without code and msg: ${shorten(ran.stdout)}`)
    }
  }
  return document
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** For messages: one line, not too long. */
export const shorten = (text: string, length = 240): string => {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length > length ? `${line.slice(0, length - 3)}...` : line
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** The error's code and text of a failed call, `success` otherwise. */
export function outcome(answer: Answer): string {
  if (answer.code === 0) return 'success'
  const { code, msg, details } = answer.document ?? {}
  return shorten(
    `code ${JSON.stringify(code)}: ${textOf(msg)}${typeof details === 'string' && details !== '' ? `; ${details}` : ''}`,
  )
}

export const codeOf = (answer: Answer): number => {
  const code = answer.code === 0 ? 0 : answer.document?.['code']
  return typeof code === 'number' ? code : -1
}
