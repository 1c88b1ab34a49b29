/**
 * Keeps the kernel as it is wanted: takes contributions, applies what differs, and mends what others break.
 *
 * It never reads the whole kernel to make a small change. A mirror of what the kernel holds follows its events; a change
 * on either side marks keys, and only marked keys are compared. Source: the calculation of "Idea" in docs/architecture.md.
 */

import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { Contributions, type Claim, type Conflict } from './contributions.ts'
import { diff, type Operation } from './diff.ts'
import { keyOf, type Desired, type Key } from './entry.ts'
import type { Change, Failure, Kernel } from './kernel.ts'
import { NodeState } from './node-state.ts'
import { RetrySchedule } from './retry.ts'
import { same } from './same.ts'

export interface SyncReport {
  readonly operations: readonly Operation[]
  readonly failures: readonly Failure[]
}

export interface ReconcilerOptions {
  readonly kernel: Kernel
  readonly clock: Clock
  /** Between two readings of everything, which find what events did not tell. Default 30 s. */
  readonly resyncMs?: number
  /** After every round that did something. */
  readonly onSync?: (report: SyncReport, milliseconds: number) => void
  /** An entry was put right that nobody here had changed. */
  readonly onRepair?: (operation: Operation) => void
  /** Reading or applying broke down as a whole; it is tried again. */
  readonly onError?: (error: Error) => void
}

/** A key that others break more often than this in a second is answered at the pace of the retries: somebody fights over it. */
const MAX_REPAIRS = 4
const REPAIR_WINDOW_MS = 1000

export class Reconciler implements AsyncDisposable {
  readonly #kernel: Kernel
  readonly #options: ReconcilerOptions
  readonly #contributions = new Contributions()
  /** The mirror: what the kernel was last known to hold. */
  #seen = new NodeState()
  /** Keys to compare, and whether the change came from here. */
  readonly #dirty = new Map<Key, 'own' | 'foreign'>()
  readonly #retries: RetrySchedule<Key>
  readonly #resync: Disposable
  /** Repairs by key in the window that began at `#windowStart`. */
  readonly #repairs = new Map<Key, number>()
  #windowStart = 0
  #observed = false
  #leftoversMayGo = false
  /** Something happened while a run was ending. */
  #stirred = false
  #running: Promise<SyncReport> | undefined
  #closed = false

  private constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#kernel = options.kernel
    this.#retries = new RetrySchedule(options.clock, (keys) => {
      for (const key of keys) this.#mark(key, 'own')
      this.#wake()
    })
    this.#resync = options.clock.interval(options.resyncMs ?? 30_000, () => {
      this.#guard(() => this.#observe('foreign'))
      this.#wake()
    })
  }

  /** Follows what happens from now on, and reads what is there with the first round. Nothing is changed until something is wanted. */
  static open(options: ReconcilerOptions): Reconciler {
    const reconciler = new Reconciler(options)
    options.kernel.watch(
      () => reconciler.#wake(),
      (key) => reconciler.#contributions.wanted.get(key) !== undefined,
    )
    return reconciler
  }

  /** Replaces everything that one source wants. Takes effect with the next `sync`, which starts by itself. */
  set(source: string, entries: readonly Desired[]): void {
    const changed = this.#contributions.set(source, entries)
    if (changed.size === 0) return
    for (const key of changed) {
      this.#retries.forget(key)
      this.#mark(key, 'own')
    }
    this.#wake()
  }

  remove(source: string): void {
    this.set(source, [])
  }

  sources(): MapIterator<string> {
    return this.#contributions.sources()
  }

  /**
   * From now on what is ours and wanted by nobody is removed. Until this is called leftovers of a former life stay, because
   * at start nobody knows yet which of them will be wanted again.
   */
  removeLeftovers(): void {
    if (this.#leftoversMayGo) return
    this.#leftoversMayGo = true
    for (const key of this.#seen.keys()) if (this.#contributions.wanted.get(key) === undefined) this.#mark(key, 'own')
    this.#wake()
  }

  /** Applies everything that is due. Resolves when nothing more is, or only what failed and will be tried again. */
  async sync(): Promise<SyncReport> {
    const reports: SyncReport[] = []
    // What was marked while a run was ending belongs to the next one.
    while (this.#running !== undefined) reports.push(await this.#running)
    reports.push(await this.#run())
    return {
      operations: reports.flatMap((report) => report.operations),
      failures: reports.flatMap((report) => report.failures),
    }
  }

  /** What is wanted in sum. */
  get wanted(): NodeState {
    return this.#contributions.wanted
  }

  /** What the kernel was last known to hold of it. */
  get seen(): NodeState {
    return this.#seen
  }

  /** Who put an entry here, and why. */
  explain(key: Key): readonly Claim[] {
    return this.#contributions.explain(key)
  }

  conflicts(): Conflict[] {
    return this.#contributions.conflicts()
  }

  /** Keys that could not be put right yet. */
  get failing(): number {
    return this.#retries.size
  }

  /** Leaves the kernel as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#resync[Symbol.dispose]()
    this.#retries[Symbol.dispose]()
    await this.#running
    this.#kernel[Symbol.dispose]()
  }

  #wake(): void {
    if (this.#closed) return
    if (this.#running === undefined) void this.#run()
    else this.#stirred = true
  }

  #run(): Promise<SyncReport> {
    // Contributions that are made in one go are applied in one go.
    const run = Promise.resolve()
      .then(() => this.#rounds())
      .catch((error: unknown): SyncReport => {
        this.#broken(error)
        this.#postpone()
        return { operations: [], failures: [] }
      })
      .finally(() => {
        this.#running = undefined
        if (this.#dirty.size > 0 || this.#stirred) this.#wake()
        this.#stirred = false
      })
    this.#running = run
    return run
  }

  async #rounds(): Promise<SyncReport> {
    const operations: Operation[] = []
    const failures: Failure[] = []
    if (!this.#observed) this.#observe('own')
    while (!this.#closed) {
      this.#drain()
      const { due, causes } = this.#take()
      if (due.length === 0) break
      const started = this.#options.clock.now()
      const failed = await this.#apply(due)
      this.#settle(due, failed, causes)
      this.#drain()
      operations.push(...due)
      failures.push(...failed)
      this.#options.onSync?.({ operations: due, failures: failed }, this.#options.clock.now() - started)
    }
    return { operations, failures }
  }

  /** What was not wanted when everything was read is looked up now, where writing it blindly would fail or disturb. */
  #look(key: Key): void {
    const want = this.wanted.get(key)
    if (want === undefined || this.#seen.get(key) !== undefined) return
    const have = this.#kernel.look(want)
    if (have !== undefined) this.#seen.put(have)
  }

  async #apply(due: readonly Operation[]): Promise<readonly Failure[]> {
    try {
      return await this.#kernel.apply(due)
    } catch (thrown) {
      this.#broken(thrown)
      const error = thrown instanceof Error ? thrown : new Error(String(thrown))
      return due.map((operation) => ({ operation, error }))
    }
  }

  /** Leaves everything marked to the retries. */
  #postpone(): void {
    for (const key of this.#dirty.keys()) this.#retries.add(key)
    this.#dirty.clear()
  }

  #take(): { due: Operation[]; causes: ReadonlyMap<Key, 'own' | 'foreign'> } {
    const causes = new Map(this.#dirty)
    this.#dirty.clear()
    for (const key of causes.keys()) this.#look(key)
    return { due: diff(this.wanted, this.#seen, causes.keys()), causes }
  }

  /** Brings the mirror in line, schedules what failed, and reports repairs. */
  #settle(due: readonly Operation[], failed: readonly Failure[], causes: ReadonlyMap<Key, 'own' | 'foreign'>): void {
    const broken = new Set(failed.map((failure) => failure.operation))
    for (const operation of due) {
      const key = keyOf(operation.entry)
      if (broken.has(operation)) {
        this.#retries.add(key)
        continue
      }
      this.#retries.forget(key)
      this.#assume(operation, key)
      if (causes.get(key) !== 'own' && this.wanted.get(key) !== undefined) this.#repaired(key, operation)
    }
  }

  #repaired(key: Key, operation: Operation): void {
    const now = this.#options.clock.now()
    if (now - this.#windowStart >= REPAIR_WINDOW_MS) {
      this.#repairs.clear()
      this.#windowStart = now
    }
    this.#repairs.set(key, (this.#repairs.get(key) ?? 0) + 1)
    this.#options.onRepair?.(operation)
  }

  /** What was done is there, until an event tells otherwise. */
  #assume({ do: verb, entry }: Operation, key: Key): void {
    if (verb !== 'remove') this.#seen.put(entry, key)
    else if (entry.kind === 'link') this.#seen.deleteDevice(entry.name)
    else this.#seen.delete(key)
  }

  #drain(): void {
    const changes = this.#kernel.drain()
    if (changes === 'overrun') this.#observe('foreign')
    else for (const change of changes) this.#follow(change)
  }

  #follow(change: Change): void {
    switch (change.what) {
      case 'seen':
        this.#note(this.#seen.put(change.entry))
        break
      case 'gone':
        if (this.#seen.delete(change.key) !== undefined) this.#note(change.key)
        break
      case 'value': {
        const entry = this.#seen.get(change.key) ?? this.wanted.get(change.key)
        if (entry?.kind === 'sysctl') this.#note(this.#seen.put({ ...entry, value: change.value }))
        break
      }
      case 'device-gone':
        for (const key of this.#seen.deleteDevice(change.name)) this.#note(key)
        break
      case 'routes-gone':
        this.#followRoutes(change.dev, change.ip)
        break
      case 'device-up':
        for (const key of this.wanted.onDevice(change.name)) this.#note(key)
        break
      default:
        change satisfies never
    }
  }

  #followRoutes(dev: string, ip: IpText | undefined): void {
    const keys = ip === undefined ? this.#seen.onDevice(dev) : [...this.#seen.keys()]
    for (const key of keys) {
      const entry = this.#seen.get(key)
      if (entry?.kind !== 'route' || familyOf(entry.dst) !== 4 || (ip !== undefined && entry.src !== ip)) continue
      this.#seen.delete(key)
      this.#note(key)
    }
  }

  #observe(cause: 'own' | 'foreign'): void {
    const before = this.#seen
    this.#seen = this.#kernel.observe(this.wanted)
    this.#observed = true
    for (const key of new Set([...before.keys(), ...this.#seen.keys(), ...this.wanted.keys()])) this.#note(key, cause)
  }

  /** Marks a key when the mirror is not as wanted. */
  #note(key: Key, cause: 'own' | 'foreign' = 'foreign'): void {
    const want = this.wanted.get(key)
    const have = this.#seen.get(key)
    if (want === undefined) {
      if (have !== undefined && this.#leftoversMayGo) this.#mark(key, cause)
    } else if (have === undefined || !same(want, have)) {
      // What failed waits for its turn, unless the world has changed for it.
      this.#mark(key, cause)
    } else {
      this.#dirty.delete(key)
      this.#retries.forget(key)
    }
  }

  #mark(key: Key, cause: 'own' | 'foreign'): void {
    const inWindow = this.#options.clock.now() - this.#windowStart < REPAIR_WINDOW_MS
    if (cause === 'foreign' && inWindow && (this.#repairs.get(key) ?? 0) >= MAX_REPAIRS) this.#retries.add(key)
    else if (this.#dirty.get(key) !== 'own') this.#dirty.set(key, cause)
  }

  #guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#broken(error)
    }
  }

  #broken(error: unknown): void {
    this.#options.onError?.(error instanceof Error ? error : new Error(String(error)))
  }
}
