/** A condition on our Node that says why pods get no addresses here, so that `kubectl describe node` tells it. */

import type { Clock } from '#sys/clock.ts'
import type { Condition } from '#ipam/neutron/trouble.ts'
import { errorFields, type Log } from '../log.ts'
import type { NodeStatusApi } from '../own-node.ts'

/** True: an ADD may fail. Like the kubelet's own conditions, and NetworkUnavailable. */
export const CONDITION = 'NeutronAddressesUnavailable'

export interface NodeConditionOptions {
  readonly node: string
  readonly api: NodeStatusApi
  readonly log: Log
  readonly clock: Clock
  readonly random: () => number
}

const RETRY = { first: 1_000, longest: 60_000 } as const
/** ms between two patches that say the same: a Node that was made anew has none. */
const AGAIN_MS = 300_000
const MAX_MESSAGE = 1_024

export class NodeConditionTeller implements AsyncDisposable {
  readonly #options: NodeConditionOptions
  readonly #abort = new AbortController()
  #wanted: Condition | undefined
  #since = 0
  #isKnown = false
  #told: string | undefined
  #failures = 0
  #timer: Disposable | undefined
  #running: Promise<void> | undefined

  constructor(options: NodeConditionOptions) {
    this.#options = options
  }

  /** Undefined: all is well. */
  set(condition: Condition | undefined): void {
    const isSame =
      this.#isKnown && condition?.reason === this.#wanted?.reason && condition?.message === this.#wanted?.message
    if (isSame) return
    const { clock } = this.#options
    if (!this.#isKnown || (condition === undefined) !== (this.#wanted === undefined)) this.#since = clock.wall()
    this.#wanted = condition
    this.#isKnown = true
    this.#failures = 0
    this.#schedule(0)
  }

  #schedule(ms: number): void {
    if (this.#abort.signal.aborted || this.#running !== undefined) return
    this.#timer?.[Symbol.dispose]()
    this.#timer = this.#options.clock.timeout(ms, () => {
      this.#running = this.#tell().finally(() => {
        this.#running = undefined
        this.#schedule(this.#wait())
      })
    })
  }

  #wait(): number {
    if (this.#failures > 0) {
      const grown = Math.min(RETRY.longest, RETRY.first * 2 ** Math.min(this.#failures - 1, 10))
      return grown * (0.5 + this.#options.random())
    }
    return this.#told === this.#text() ? AGAIN_MS : 0
  }

  #text(): string {
    return JSON.stringify(this.#wanted ?? null)
  }

  async #tell(): Promise<void> {
    const { api, clock, log, node } = this.#options
    const wanted = this.#wanted
    const text = this.#text()
    const now = new Date(clock.wall()).toISOString()
    try {
      await api.patchStatus(
        node,
        {
          status: {
            conditions: [
              {
                type: CONDITION,
                status: wanted === undefined ? 'False' : 'True',
                reason: wanted?.reason ?? 'AddressesAvailable',
                message: (wanted?.message ?? 'pods get addresses from Neutron').slice(0, MAX_MESSAGE),
                lastTransitionTime: new Date(this.#since).toISOString(),
                lastHeartbeatTime: now,
              },
            ],
          },
        },
        this.#abort.signal,
      )
      this.#told = text
      this.#failures = 0
    } catch (error) {
      if (this.#abort.signal.aborted) return
      this.#failures += 1
      if (this.#failures === 1)
        log.warn(errorFields(error), `the condition ${CONDITION} of our Node cannot be set; it is tried again`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    this.#timer?.[Symbol.dispose]()
    await this.#running
  }
}
