/** Asks every question of a check, from inside the namespaces, without a process. */

import { setImmediate } from 'node:timers/promises'

import type { Family } from '#ip/text.ts'
import { netnsPath } from '../paths.ts'
import { POD_PORT, UNDERLAY_MTU } from '../plan.ts'
import { Pinger, type PingResult } from '../probe/pinger.ts'
import { messageOf } from '../error.ts'
import { askTcp, askUdp, learnPathMtu, type Answer, type Question } from './ask.ts'
import {
  casesFor,
  missing,
  responders,
  type Check,
  type PathMtuCheck,
  type PortCheck,
  type SourceCheck,
} from './cases.ts'
import { summarize, type Outcome, type Report } from './report.ts'
import { tcpResponder, udpResponder } from './responder.ts'
import type { LabView } from './view.ts'

export interface RunOptions {
  /** Milliseconds for each question, its repetitions included. */
  readonly timeoutMs?: number
  /** Other questions than those of a lab with a backend. */
  readonly checks?: readonly Check[] | undefined
}

/** Sources that ask at the same time: more would only wait for this thread. */
const SOURCES_AT_ONCE = 8
const ASKED_IN_ONE_GO = 32
/** The outside's service that tells pods how they are seen. */
const OUTSIDE_PORT = 7
/** More than one window of full-size segments, so that a path that loses long packets does not pass. */
const TCP_BYTES = 65_536

/** Checks a lab. Never rejects for what is broken in it: that is the report. */
export async function runCheck(view: LabView, options: RunOptions = {}): Promise<Report> {
  const timeoutMs = options.timeoutMs ?? 2000
  const checks = options.checks ?? casesFor(view)
  using stack = new DisposableStack()
  for (const family of view.families) {
    stack.use(udpResponder(view.outside, family, OUTSIDE_PORT))
    for (const pod of responders(checks)) {
      stack.use(udpResponder(pod, family, POD_PORT))
      stack.use(tcpResponder(pod, family, POD_PORT))
    }
  }
  const outcomes = await inTurn(bySource(checks), SOURCES_AT_ONCE, (own) => askAll(own, timeoutMs))
  return summarize([...outcomes.flat(), ...unaddressed(view)])
}

/** A pod without an address of one of the lab's families cannot be asked anything, and that is a failure. */
const unaddressed = (view: LabView): Outcome[] =>
  missing(view).map(({ pod, family }) => ({
    check: {
      kind: 'reach',
      group: 'pod-pod',
      family,
      from: pod,
      to: pod,
      ip: view.outside.ips[0] ?? pod.ips[0] ?? noIp(),
    },
    ok: false,
    detail: `${pod.name} has no IPv${family} address`,
  }))

const noIp = (): never => {
  throw new Error('a lab has at least one address')
}

function bySource(checks: readonly Check[]): Check[][] {
  return [...Map.groupBy(checks, ({ from }) => from.namespace).values()]
}

async function inTurn<T, R>(items: readonly T[], atOnce: number, run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const queue = [...items.entries()]
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) results[next[0]] = await run(next[1])
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return results
}

/** All questions from one source. */
async function askAll(checks: readonly Check[], timeoutMs: number): Promise<Outcome[]> {
  using stack = new DisposableStack()
  const pingers = new Map<string, Pinger>()
  const pinger = (namespace: string, family: Family, df: boolean): Pinger => {
    const key = `${family} ${df}`
    const known = pingers.get(key) ?? stack.use(new Pinger(netnsPath(namespace), family, { df }))
    pingers.set(key, known)
    return known
  }
  const answered = async (check: Check): Promise<Outcome> => {
    try {
      return await ask(check, timeoutMs, pinger)
    } catch (error) {
      return { check, ok: false, detail: messageOf(error) }
    }
  }
  const outcomes: Promise<Outcome>[] = []
  for (const [i, check] of checks.entries()) {
    // Hundreds of questions in one go would keep this thread from the answers for seconds.
    if (i % ASKED_IN_ONE_GO === ASKED_IN_ONE_GO - 1) await setImmediate()
    outcomes.push(answered(check))
  }
  // Awaited here: the pingers live until the last answer.
  return await Promise.all(outcomes)
}

async function ask(
  check: Check,
  timeoutMs: number,
  pinger: (namespace: string, family: Family, df: boolean) => Pinger,
): Promise<Outcome> {
  const { family, ip, from } = check
  switch (check.kind) {
    case 'reach': {
      const result = await pinger(from.namespace, family, false).ping(ip, { timeoutMs })
      return { check, ok: result.kind === 'reply', ...said(result, timeoutMs) }
    }
    case 'size': {
      const result = await pinger(from.namespace, family, true).ping(ip, { timeoutMs, packetLength: check.length })
      return { check, ok: result.kind === check.expect, ...said(result, timeoutMs) }
    }
    case 'source':
      return heardAs(check, await askUdp(question(check, OUTSIDE_PORT, timeoutMs)))
    case 'port':
      return heardBy(check, await askPort(check, timeoutMs))
    default:
      return learned(check, await learnPathMtu(question(check, check.port, timeoutMs), UNDERLAY_MTU))
  }
}

const question = ({ from, family, ip }: Check, port: number, timeoutMs: number): Question => ({
  namespace: from.namespace,
  family,
  ip,
  port,
  timeoutMs,
})

const askPort = (check: PortCheck, timeoutMs: number): Promise<Answer> =>
  check.protocol === 'udp'
    ? askUdp(question(check, check.port, timeoutMs))
    : askTcp(question(check, check.port, timeoutMs), TCP_BYTES)

function said(result: PingResult, timeoutMs: number): { detail: string; ms?: number } {
  switch (result.kind) {
    case 'reply':
      return { detail: `${result.ms.toFixed(2)} ms`, ms: result.ms }
    case 'too-big':
      return { detail: result.mtu === undefined ? 'EMSGSIZE' : `ICMP: too big, MTU ${result.mtu}` }
    case 'unreachable':
      return { detail: result.reason }
    default:
      return { detail: `no answer in ${timeoutMs / 1000} s` }
  }
}

function heardAs(check: SourceCheck, answer: Answer): Outcome {
  if ('failed' in answer) return { check, ok: false, detail: answer.failed }
  const ok = answer.source === check.source && answer.name === check.to.name
  return { check, ok, detail: `seen as ${answer.source}${ok ? '' : `, expected ${check.source}`}` }
}

function heardBy(check: PortCheck, answer: Answer): Outcome {
  if ('failed' in answer) return { check, ok: false, detail: answer.failed }
  const complete = check.protocol === 'udp' || answer.bytes === TCP_BYTES
  const ok = answer.name === check.pod.name && complete
  return { check, ok, detail: `${check.protocol}: ${answer.name} heard ${answer.bytes} bytes from ${answer.source}` }
}

function learned(check: PathMtuCheck, mtu: number | undefined): Outcome {
  if (mtu === undefined) return { check, ok: false, detail: 'no ICMP answer to a packet that is too big' }
  return { check, ok: mtu === check.pod.mtu, detail: `path MTU ${mtu}` }
}
