/** Allowed address pairs of the VM's port: what may leave and reach the VM beside its own addresses. */

import type { CidrText } from '#ip/text.ts'
import { isCode, OpenStackError } from '#openstack/errors.ts'
import type { Port, WantedPair } from '#openstack/neutron/port.ts'
import type { Clock } from '#sys/clock.ts'
import type { BackingEvent } from './backing.ts'
import type { CloudApi } from './cloud.ts'

const TRIES = 5

export interface PairsOptions {
  readonly api: CloudApi
  readonly port: string
  readonly clock: Clock
  readonly random: () => number
  readonly onEvent: (event: BackingEvent) => void
}

/** All pairs of a port, others' among them, are one list: it is read before it is written, and read back. */
export class Pairs {
  readonly #options: PairsOptions

  constructor(options: PairsOptions) {
    this.#options = options
  }

  async get(): Promise<Port> {
    const { api, port } = this.#options
    return api.ports.get(port, await api.turn())
  }

  /** @throws OpenStackError `over-quota`: ten is the usual limit */
  add(pairs: readonly CidrText[]): Promise<void> {
    return this.#change(new Set(pairs), new Set())
  }

  remove(pairs: readonly CidrText[]): Promise<void> {
    return this.#change(new Set(), new Set(pairs))
  }

  async #change(add: ReadonlySet<CidrText>, remove: ReadonlySet<string>): Promise<void> {
    const { api, clock, random, onEvent } = this.#options
    for (let attempt = 1; ; attempt++) {
      const port = await this.get()
      const held = new Set<string>(port.allowed_address_pairs.map(({ ip_address: ip }) => ip))
      const missing = [...add].filter((pair) => !held.has(pair))
      if (missing.length === 0 && ![...remove].some((pair) => held.has(pair))) return
      if (attempt > TRIES)
        throw new OpenStackError('conflict', 'others write the address pairs of this port all the time', {
          object: `PUT port ${port.id}`,
          perhapsDone: true,
        })
      if (attempt > 1) onEvent('interleaved')
      const list: WantedPair[] = missing.map((ip) => ({ ip_address: ip }))
      for (const { ip_address: ip, mac_address: mac } of port.allowed_address_pairs)
        if (!remove.has(ip)) list.push({ ip_address: ip, ...(mac === undefined ? {} : { mac_address: mac }) })
      try {
        await api.ports.update(
          port.id,
          { allowed_address_pairs: list },
          { ...(await api.turn()), revision: port.revision_number },
        )
      } catch (error) {
        if (!isCode(error, 'precondition')) throw error
        onEvent('precondition')
        await clock.sleep(50 + random() * 200 * attempt)
      }
    }
  }
}
