import type { Lease } from 'kubernetes-types/coordination/v1.js'
import type { KubeClient } from './client.ts'
import { backoff, systemClock } from './clock.ts'
import type { Clock } from './clock.ts'
import { errorOfFailure, KubeError } from './errors.ts'
import type { Stored } from './resource.ts'
import { leases } from './resources.ts'

/** What a leader may ask before it writes: a process that was stopped for a while does not know that its time is over until it looks. */
export interface Term {
  /** Milliseconds, by the own clock, in which nobody else can be leading yet; 0 when they are over. */
  readonly left: () => number
}

/** How a leader is elected. Times in milliseconds; defaults are those of client-go. */
export interface LeaseLockOptions {
  readonly client: KubeClient
  readonly namespace: string
  readonly name: string
  /** Who this candidate is: another text for every process. */
  readonly identity: string
  /** Runs while this candidate leads. The signal aborts as soon as it no longer does; the work must then stop. */
  readonly lead: (signal: AbortSignal, term: Term) => Promise<void>
  readonly signal: AbortSignal
  /** How long others wait for a renewal before they take over. Default 15 s. */
  readonly leaseDuration?: number
  /** How long the leader tries to renew before it gives up. Default 10 s: less than others wait. */
  readonly renewDeadline?: number
  /** Time between attempts. Default 2 s. */
  readonly retryPeriod?: number
  readonly onError?: (error: KubeError) => void
  readonly clock?: Clock
  readonly random?: () => number
}

/** A time as leases write it (`metav1.MicroTime`). */
const microTime = (): string => new Date().toISOString().replace('Z', '000Z')

interface Observed {
  readonly version: string
  /** When this version was first seen, by the own clock: clocks of different machines are never compared. */
  readonly since: number
}

/** What became of an attempt to have or keep the lease; `theirs`: another candidate has it, and in time. */
type Attempt = 'ours' | 'theirs' | 'failed'

/**
 * Takes part in an election through a `coordination.k8s.io` Lease, until the signal aborts; leads again and again as it
 * is elected. Every write names the resourceVersion it replaces, so two candidates cannot both succeed. A term counts
 * from before the request that renewed it, and ends by the own clock before others may take over, whatever the API
 * server does. The lock is advisory all the same: what has no term to ask, or no time left to finish in, must be guarded
 * otherwise.
 */
export async function runElected(options: LeaseLockOptions): Promise<void> {
  const { client, namespace, name, identity, signal } = options
  const clock = options.clock ?? systemClock
  const random = options.random ?? Math.random
  const duration = options.leaseDuration ?? 15_000
  const renewDeadline = options.renewDeadline ?? 10_000
  const retry = options.retryPeriod ?? 2000
  let observed: Observed | undefined

  const spec = (lease: Stored<Lease> | undefined): NonNullable<Lease['spec']> => {
    const before = lease?.spec
    const mine = before?.holderIdentity === identity
    const now = microTime()
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.max(1, Math.ceil(duration / 1000)),
      acquireTime: mine ? (before.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (before?.leaseTransitions ?? 0) + (mine || lease === undefined ? 0 : 1),
    }
  }

  /** One attempt to have or keep the lease. */
  const acquire = async (call: AbortSignal): Promise<Attempt> => {
    const timeout = Math.min(renewDeadline, 10_000)
    let lease: Stored<Lease> | undefined
    try {
      lease = await client.get(leases, { namespace, name }, { signal: call, timeout })
    } catch (error) {
      if (!(error instanceof KubeError && error.code === 'not-found')) throw error
    }
    if (lease === undefined) {
      await client.create(leases, { metadata: { name, namespace }, spec: spec(undefined) }, { signal: call, timeout })
      return 'ours'
    }
    const { resourceVersion } = lease.metadata
    if (observed?.version !== resourceVersion) observed = { version: resourceVersion, since: clock.now() }
    const holder = lease.spec?.holderIdentity ?? ''
    const theirs = (lease.spec?.leaseDurationSeconds ?? duration / 1000) * 1000
    if (holder !== '' && holder !== identity && clock.now() - observed.since < theirs) return 'theirs'
    // What others wrote beside it (labels, annotations) stays.
    const metadata = { ...lease.metadata, name, namespace, resourceVersion }
    const written = await client.update(leases, { metadata, spec: spec(lease) }, { signal: call, timeout })
    observed = { version: written.metadata.resourceVersion, since: clock.now() }
    return 'ours'
  }

  const attempt = async (call: AbortSignal): Promise<Attempt> => {
    try {
      return await acquire(call)
    } catch (cause) {
      const error = errorOfFailure(cause, `LEASE ${namespace}/${name}`)
      // Losing a race is no failure.
      if (error.code !== 'conflict' && error.code !== 'already-exists' && error.code !== 'aborted')
        options.onError?.(error)
      return 'failed'
    }
  }

  /** Gives the lease back, so that the next leader need not wait. */
  const release = async (): Promise<void> => {
    try {
      const lease = await client.get(leases, { namespace, name }, { timeout: retry })
      if (lease.spec?.holderIdentity !== identity) return
      const { resourceVersion } = lease.metadata
      const empty = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime() }
      const metadata = { ...lease.metadata, name, namespace, resourceVersion }
      await client.update(leases, { metadata, spec: empty }, { timeout: retry })
    } catch (cause) {
      options.onError?.(errorOfFailure(cause, `LEASE ${namespace}/${name}`))
    }
  }

  while (!signal.aborted) {
    const began = clock.now()
    if ((await attempt(signal)) !== 'ours') {
      await clock.sleep(backoff(1, { base: retry, cap: retry }, random), signal)
      continue
    }
    let until = began + renewDeadline
    const left = (): number => Math.max(0, until - clock.now())
    const term = new AbortController()
    const end = (): void => {
      until = 0
      term.abort()
    }
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    const work = options.lead(term.signal, { left }).finally(end)
    // Handled below; a rejection before then must not be taken for an unhandled one.
    work.catch(() => {})
    while (!term.signal.aborted) {
      await clock.sleep(retry, term.signal)
      if (term.signal.aborted) break
      const asked = clock.now()
      const inTime = new AbortController()
      void clock.sleep(left(), inTime.signal).then(() => inTime.abort())
      const result = await attempt(AbortSignal.any([term.signal, inTime.signal]))
      inTime.abort()
      if (result === 'ours' && left() > 0) until = asked + renewDeadline
      else if (result !== 'failed' || left() === 0) end()
    }
    signal.removeEventListener('abort', end)
    try {
      await work
    } catch (cause) {
      options.onError?.(errorOfFailure(cause, `LEASE ${namespace}/${name}`))
    }
    await release()
    if (!signal.aborted) await clock.sleep(retry, signal)
  }
}
