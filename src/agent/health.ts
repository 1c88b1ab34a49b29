/** What the agent says about itself: a list of checks, each with the reason why it fails and since when. */

/** `required`: without it no pod can be served. `degraded`: pods are served, but something has to be mended. */
export type CheckWeight = 'required' | 'degraded'

export interface CheckState {
  readonly name: string
  readonly weight: CheckWeight
  readonly ok: boolean
  readonly reason: string
  /** RFC 3339. */
  readonly since: string
}

export interface Readiness {
  readonly ready: boolean
  readonly degraded: boolean
  readonly checks: readonly CheckState[]
}

export class Health {
  readonly #checks = new Map<string, CheckState>()
  readonly #now: () => number
  #beat: number

  /** `now` in milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
    this.#beat = now()
  }

  /** Registers a check as failing for `reason`, in the order in which they are shown. */
  expect(name: string, weight: CheckWeight, reason: string): void {
    this.#put({ name, weight, ok: false, reason })
  }

  /** What nobody answers for any more. */
  drop(name: string): void {
    this.#checks.delete(name)
  }

  pass(name: string, reason = ''): void {
    this.#change(name, true, reason)
  }

  fail(name: string, reason: string): void {
    this.#change(name, false, reason)
  }

  isPassing(name: string): boolean {
    return this.#checks.get(name)?.ok ?? false
  }

  /** The main loop is alive. */
  beat(): void {
    this.#beat = this.#now()
  }

  /** Milliseconds since the last sign of life. */
  silence(): number {
    return this.#now() - this.#beat
  }

  readiness(): Readiness {
    const checks = [...this.#checks.values()]
    return {
      ready: checks.every(({ ok, weight }) => ok || weight === 'degraded'),
      degraded: checks.some(({ ok }) => !ok),
      checks,
    }
  }

  #change(name: string, ok: boolean, reason: string): void {
    const before = this.#checks.get(name)
    if (before === undefined || (before.ok === ok && before.reason === reason)) return
    this.#put({ name, weight: before.weight, ok, reason }, before.ok === ok ? before.since : undefined)
  }

  #put(state: Omit<CheckState, 'since'>, since = new Date(this.#now()).toISOString()): void {
    this.#checks.set(state.name, { ...state, since })
  }
}
