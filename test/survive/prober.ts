/** Echo requests at a steady pace in several directions at once, each counted once: answered, or lost. */

import { performance } from 'node:perf_hooks'

import type { IpText } from '#ip/text.ts'
import { Pinger } from '#lab/probe/pinger.ts'
import { slowness } from '../slow.ts'

export interface Direction {
  /** Path of the namespace that asks. */
  readonly netns: string
  readonly to: IpText
}

export interface Count {
  readonly sent: number
  readonly lost: number
  /** The longest time in which one direction had no answer, from the last request that was answered to the next one, in milliseconds; 0 where none was lost. */
  readonly silence: number
}

const TICK_MS = 5
/** After so long without an answer a request is lost. */
const TIMEOUT_MS = 2_000

interface Line {
  readonly direction: Direction
  readonly pinger: Pinger
  readonly answered: Map<number, boolean>
  readonly times: number[]
}

export class Prober implements Disposable {
  readonly #lines: readonly Line[]
  readonly #perSecond: number
  readonly #outstanding = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | undefined
  #start = 0
  #due = 0

  /** `perSecond`: requests of all directions together. */
  constructor(directions: readonly Direction[], perSecond: number) {
    this.#perSecond = perSecond
    this.#lines = directions.map((direction) => ({
      direction,
      pinger: new Pinger(direction.netns, 4),
      answered: new Map(),
      times: [],
    }))
  }

  get sent(): number {
    return this.#lines.reduce((sum, { times }) => sum + times.length, 0)
  }

  start(): void {
    this.#start = performance.now()
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Stops, and waits for what is under way. The count begins anew with the next start. */
  async stop(): Promise<Count> {
    clearInterval(this.#timer)
    await Promise.all(this.#outstanding)
    const counts = this.#lines.map(countOf)
    for (const { answered, times } of this.#lines) {
      answered.clear()
      times.length = 0
    }
    this.#due = 0
    return {
      sent: counts.reduce((sum, { sent }) => sum + sent, 0),
      lost: counts.reduce((sum, { lost }) => sum + lost, 0),
      silence: Math.max(...counts.map(({ silence }) => silence)),
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    for (const { pinger } of this.#lines) pinger[Symbol.dispose]()
  }

  /** What this thread was too late for is not made up for: a burst is no steady pace. */
  #tick(): void {
    const wanted = ((performance.now() - this.#start) * this.#perSecond) / 1000
    const most = Math.ceil((this.#perSecond * TICK_MS * 4) / 1000)
    const now = Math.min(most, Math.floor(wanted - this.#due))
    this.#due = Math.floor(wanted)
    for (let i = 0; i < now; i++) {
      const line = this.#lines[(this.#due + i) % this.#lines.length]
      if (line !== undefined) this.#ask(line)
    }
  }

  #ask(line: Line): void {
    const asked = ask(line, line.times.push(performance.now()) - 1)
    this.#outstanding.add(asked)
    void asked.finally(() => this.#outstanding.delete(asked))
  }
}

/** One try: a request that is sent again hides a loss. */
async function ask({ direction, pinger, answered }: Line, n: number): Promise<void> {
  const timeoutMs = TIMEOUT_MS * slowness
  const { kind } = await pinger.ping(direction.to, { timeoutMs, retryMs: timeoutMs * 2 })
  answered.set(n, kind === 'reply')
}

function countOf({ answered, times }: Pick<Line, 'answered' | 'times'>): Count {
  let lost = 0
  let silence = 0
  let last = times[0] ?? 0
  let isSilent = false
  for (const [n, time] of times.entries()) {
    if (answered.get(n) !== true) {
      lost++
      isSilent = true
      silence = Math.max(silence, time - last)
      continue
    }
    if (isSilent) silence = Math.max(silence, time - last)
    isSilent = false
    last = time
  }
  return { sent: times.length, lost, silence }
}
