/** Drives one client's state machine: opens its port while answers are awaited, keeps its timer, and carries out what it decides, in order. */

import { messageOf } from '#cni/errors.ts'
import type { Clock } from '#sys/clock.ts'

interface StateOf<L> {
  readonly phase: string
  readonly wakeAt?: number
  readonly lease?: L
  readonly problem?: string
}

interface StepOf<S, A> {
  readonly state: S
  readonly actions: readonly A[]
}

/** `machine4` or `machine6` with its client. */
export interface Machine<S, M, L, I, O> {
  start(now: number): StepOf<S, Action<L, I, O>>
  resume(lease: L, now: number): StepOf<S, Action<L, I, O>>
  timer(state: S, now: number): StepOf<S, Action<L, I, O>>
  message(state: S, message: M, now: number): StepOf<S, Action<L, I, O>>
}

/** Where messages go out and come in. */
export interface Port<O> extends Disposable {
  readonly send: (out: O) => void
}

export type Action<L, I, O> =
  | ({ readonly do: 'send' } & O)
  | ({ readonly do: 'intend' } & I)
  | { readonly do: 'bound'; readonly lease: L; readonly how: 'new' | 'renewed' | 'rebound' }
  | { readonly do: 'lost'; readonly lease: L; readonly why: string }

export interface RunnerOptions<M, L, I, O> {
  readonly clock: Clock
  /** Opens the port. May throw, and is then tried again with the next message. */
  readonly open: (onMessage: (message: M) => void, lease: L | undefined) => Promise<Port<O>>
  /** Each is awaited before what follows it. */
  readonly intend: (intent: I) => Promise<void>
  readonly bound: (lease: L, how: 'new' | 'renewed' | 'rebound') => Promise<void>
  readonly lost: (lease: L, why: string) => Promise<void>
  /** Something failed; it goes on. */
  readonly trouble: (what: string) => void
}

/** A timer of Node.js holds no longer than 2^31 ms; a longer wait is waited for in pieces. */
const LONGEST = 86_400_000
/** Messages that wait to be dealt with; a flood beyond it is dropped. */
const MAX_PENDING = 64

/** S: state, M: what comes in, L: a lease, I: what is intended, O: what goes out. */
export class Runner<S extends StateOf<L>, M, L, I extends object, O extends object> implements AsyncDisposable {
  readonly #machine: Machine<S, M, L, I, O>
  readonly #options: RunnerOptions<M, L, I, O>
  #state: S | undefined
  #port: Port<O> | undefined
  #timer: Disposable | undefined
  #work: Promise<void> = Promise.resolve()
  #pending = 0
  #isStopped = false

  constructor(machine: Machine<S, M, L, I, O>, options: RunnerOptions<M, L, I, O>) {
    this.#machine = machine
    this.#options = options
  }

  get state(): S | undefined {
    return this.#state
  }

  start(): void {
    this.#step((now) => this.#machine.start(now))
  }

  resume(lease: L): void {
    this.#step((now) => this.#machine.resume(lease, now))
  }

  /** Ends at once: nothing more is sent, the lease stays as it is. Resolves when what was under way has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true
    this.#timer?.[Symbol.dispose]()
    this.#close()
    await this.#work
    this.#close()
  }

  /** One decision after the other, each with its consequences. */
  #step(decide: (now: number) => StepOf<S, Action<L, I, O>>): void {
    if (this.#isStopped || this.#pending >= MAX_PENDING) return
    this.#pending++
    this.#work = this.#turn(this.#work, decide)
  }

  async #turn(before: Promise<void>, decide: (now: number) => StepOf<S, Action<L, I, O>>): Promise<void> {
    await before
    this.#pending--
    if (this.#isStopped) return
    const { state, actions } = decide(this.#options.clock.now())
    const isSame = state === this.#state
    this.#state = state
    for (const action of actions) {
      if (this.#isStopped) return
      const isDone = await this.#act(action, state)
      // What could not be written down is not asked for.
      if (!isDone && action.do === 'intend') break
    }
    if (state.phase === 'bound') this.#close()
    if (!isSame || actions.length > 0) this.#schedule(state)
  }

  async #act(action: Action<L, I, O>, state: S): Promise<boolean> {
    const { intend, bound, lost, trouble } = this.#options
    try {
      if (action.do === 'send') await this.#send(action, state)
      else if (action.do === 'intend') await intend(action)
      else if (action.do === 'bound') await bound(action.lease, action.how)
      else {
        // The port may be bound to the address that is lost.
        this.#close()
        await lost(action.lease, action.why)
      }
      return true
    } catch (error) {
      trouble(`${action.do}: ${messageOf(error)}`)
      return false
    }
  }

  async #send(action: O, state: S): Promise<void> {
    const { open } = this.#options
    this.#port ??= await open((message) => this.#heard(message), state.lease)
    if (this.#isStopped) return
    try {
      this.#port.send(action)
    } catch (error) {
      // The link may be another one by now: the next message opens anew.
      this.#close()
      throw error
    }
  }

  #heard(message: M): void {
    this.#step((now) =>
      this.#state === undefined ? this.#machine.start(now) : this.#machine.message(this.#state, message, now),
    )
  }

  #schedule({ wakeAt }: S): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    if (wakeAt === undefined || this.#isStopped) return
    const wait = Math.min(LONGEST, Math.max(1, Math.ceil(wakeAt - this.#options.clock.now())))
    this.#timer = this.#options.clock.timeout(wait, () => this.#tick())
  }

  #tick(): void {
    this.#step((now) => {
      const state = this.#state
      if (state === undefined) return this.#machine.start(now)
      const next = this.#machine.timer(state, now)
      // Woken early: the timer has to be set again.
      return next.state === state ? { state: { ...state }, actions: next.actions } : next
    })
  }

  #close(): void {
    this.#port?.[Symbol.dispose]()
    this.#port = undefined
  }
}
