/** Addresses as several fixed IPs of the VM's own port. The port's list is one object: whoever writes it writes all of it. */

import { ipText } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { isCode, OpenStackError } from '#openstack/errors.ts'
import type { Port, WantedIp } from '#openstack/neutron/port.ts'
import { NothingDone, type Backing, type BackingEvent, type Ledger, type Seen, type View } from './backing.ts'
import { claimsOf } from './claim.ts'
import type { CloudApi } from './cloud.ts'
import type { Address, Intent } from './record.ts'

export interface FixedIpsOptions {
  readonly api: CloudApi
  readonly port: string
  readonly clock: Clock
  readonly random: () => number
  readonly failpoint: (name: string) => void
  readonly onEvent: (event: BackingEvent, ips: readonly IpText[]) => void
}

/** How old what was read may be for the next write to be made from it, ms. An older list would take what others added since for new. */
const FRESH_MS = 2_000
/** Writes of one step: others interleave, and it is done again. */
const TRIES = 5

const ipsOf = (port: Port): ReadonlySet<IpText> => new Set(port.fixed_ips.map(({ ip_address: ip }) => ip))

export class FixedIps implements Backing {
  readonly kind = 'fixed_ips'
  readonly #options: FixedIpsOptions
  #last: { readonly port: Port; readonly at: number } | undefined

  constructor(options: FixedIpsOptions) {
    this.#options = options
  }

  async observe(): Promise<View> {
    const port = await this.#get()
    const seen = port.fixed_ips.map(
      ({ ip_address: ip, subnet_id: subnet }) => [ip, { ip, subnet, port: port.id }] as const,
    )
    return { seen: new Map(seen), claims: claimsOf(port.tags) }
  }

  async plan(_subnet: string, count: number): Promise<Pick<Intent, 'count' | 'before'>> {
    return { count, before: [...ipsOf(await this.#fresh())] }
  }

  async grow(intent: Intent, ledger: Ledger): Promise<readonly Seen[]> {
    const { count, subnet } = intent
    const wanted: readonly WantedIp[] = Array.from({ length: count }, () => ({ subnet_id: subnet }))
    const { before, after } = await this.#write((port) => [...listOf(port), ...wanted])
    this.#options.failpoint('neutron.put')
    const known = new Set([...before, ...ledger.own, ...ledger.kept, ...ledger.foreign])
    const fresh = after.fixed_ips.filter(({ ip_address: ip, subnet_id: of }) => of === subnet && !known.has(ip))
    const needed = new Map(after.fixed_ips.map((fixed) => [fixed.ip_address, fixed.subnet_id]))
    const held = ipsOf(await this.#verify(after, needed, new Set()))
    return fresh
      .filter(({ ip_address: ip }) => held.has(ip))
      .map(({ ip_address: ip, subnet_id: of }) => ({ ip, subnet: of, port: after.id }))
  }

  recover(intent: Intent, view: View, ledger: Ledger): Promise<readonly Seen[]> {
    const known = new Set([...intent.before, ...ledger.own, ...ledger.kept, ...ledger.foreign])
    return Promise.resolve(
      [...view.seen.values()].filter(({ ip, subnet }) => subnet === intent.subnet && !known.has(ip)),
    )
  }

  async shrink(addresses: readonly Address[], ledger: Ledger): Promise<void> {
    const leaving = new Set(addresses.map(({ ip }) => ip))
    const refused = addresses.find(({ ip }) => ledger.own.has(ip))
    if (refused !== undefined) throw new OpenStackError('config', `${refused.ip} is the node's own address`)
    const { after } = await this.#write((port) =>
      listOf(port).filter(({ ip_address: ip }) => ip === undefined || !leaving.has(ip)),
    )
    this.#options.failpoint('neutron.shrunk')
    const needed = new Map(
      after.fixed_ips.flatMap((fixed) =>
        leaving.has(fixed.ip_address) ? [] : [[fixed.ip_address, fixed.subnet_id] as const],
      ),
    )
    await this.#verify(after, needed, leaving)
  }

  async restore(addresses: readonly Address[]): Promise<readonly IpText[]> {
    const add = (more: readonly Address[]) => (port: Port) => {
      const held = ipsOf(port)
      const missing = more
        .filter(({ ip }) => !held.has(ip))
        .map(({ ip, subnet }) => ({ ip_address: ip, subnet_id: subnet }))
      return [...listOf(port), ...missing]
    }
    try {
      await this.#write(add(addresses))
      return []
    } catch (error) {
      const told = error instanceof NothingDone ? error.cause : error
      if (!isCode(told, 'address-in-use', 'bad-request')) throw told
    }
    // One of them is somebody else's by now: the others come back all the same.
    const lost: IpText[] = []
    for (const address of addresses) {
      try {
        await this.#write(add([address]))
      } catch (error) {
        const told = error instanceof NothingDone ? error.cause : error
        if (!isCode(told, 'address-in-use', 'bad-request')) throw told
        lost.push(address.ip)
      }
    }
    return lost
  }

  async #get(): Promise<Port> {
    const { api, port, clock } = this.#options
    const read = await api.ports.get(port, await api.turn())
    this.#last = { port: read, at: clock.now() }
    return read
  }

  async #fresh(): Promise<Port> {
    const { clock } = this.#options
    return this.#last !== undefined && clock.now() - this.#last.at < FRESH_MS ? this.#last.port : this.#get()
  }

  /** Writes a list made from what the port has; anew when it has another revision by then. @throws NothingDone where it was refused */
  async #write(
    make: (port: Port) => readonly WantedIp[],
  ): Promise<{ readonly before: ReadonlySet<IpText>; readonly after: Port }> {
    const { api, clock, random, onEvent } = this.#options
    for (let attempt = 1; ; attempt++) {
      const port = await this.#fresh().catch((error: unknown) => {
        throw new NothingDone(error)
      })
      const before = ipsOf(port)
      this.#last = undefined
      try {
        const turn = await api.turn()
        const after = await api.ports.update(
          port.id,
          { fixed_ips: make(port) },
          { ...turn, revision: port.revision_number },
        )
        return { before, after }
      } catch (error) {
        if (!(error instanceof OpenStackError) || error.perhapsDone) throw error
        if (error.code !== 'precondition' || attempt >= TRIES) throw new NothingDone(error)
        onEvent('precondition', [])
        await clock.sleep(50 + random() * 200 * attempt)
      }
    }
  }

  /**
   * Reads back. Where somebody wrote in between (an address is missing, one is back, or the revision went on), the full list is written again: what others added
   * stays, what was there before is there again, and a back end that lost the order of the writes (OVN) is brought in line by it.
   */
  async #verify(written: Port, needed: ReadonlyMap<IpText, string>, leaving: ReadonlySet<IpText>): Promise<Port> {
    const { api, onEvent } = this.#options
    let revision = written.revision_number
    for (let attempt = 1; ; attempt++) {
      const port = await this.#get()
      const held = ipsOf(port)
      const missing = [...needed].filter(([ip]) => !held.has(ip))
      const back = [...held].filter((ip) => leaving.has(ip))
      if (missing.length === 0 && back.length === 0 && port.revision_number === revision) return port
      if (attempt > TRIES) {
        if (missing.length === 0 && back.length === 0) return port
        throw new OpenStackError('conflict', 'others write the list of this port all the time: only one may', {
          object: `PUT port ${port.id}`,
          perhapsDone: true,
        })
      }
      onEvent('interleaved', [...missing.map(([ip]) => ip), ...back])
      const list = [
        ...listOf(port).filter(({ ip_address: ip }) => ip === undefined || !leaving.has(ip)),
        ...missing.map(([ip, subnet]) => ({ ip_address: ip, subnet_id: subnet })),
      ]
      this.#last = undefined
      revision = (await api.ports.update(port.id, { fixed_ips: list }, await api.turn())).revision_number
      // A write that changes nothing shows the revision of before, and counts all the same.
      if (missing.length === 0 && back.length === 0) revision += 1
      onEvent(
        'repaired',
        missing.map(([ip]) => ip),
      )
    }
  }
}

const listOf = (port: Port): readonly { readonly ip_address?: IpText; readonly subnet_id: string }[] =>
  port.fixed_ips.map(({ ip_address: ip, subnet_id: subnet }) => ({ ip_address: ipText(ip), subnet_id: subnet }))
