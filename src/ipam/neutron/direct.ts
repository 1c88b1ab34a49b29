/** Mode `direct`: no daemon; each call takes the lock of the port and asks Neutron itself, as a plugin by itself can. Slower by what Neutron takes, and as safe. */

import { hostname } from 'node:os'

import { CniError, messageOf, toCniError, tryAgain, unavailable } from '#cni/errors.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { familyOf } from '#ip/prefix.ts'
import { OpenStackError, isCode } from '#openstack/errors.ts'
import { systemClock } from '#sys/clock.ts'
import { Book } from './book.ts'
import { ClaimError } from './claim.ts'
import { openCloud } from './cloud.ts'
import type { NeutronConf } from './config.ts'
import { grantsOf } from './grant.ts'
import { hostCard } from './host-card.ts'
import { Keeper } from './keeper.ts'
import { LookupError } from './lookup.ts'
import { countsOf, readyOf } from './pool.ts'
import type { Address } from './record.ts'
import type { Grant } from './wire.ts'

export type Named = Attachment & { readonly network: string }

/** ms that a DEL, a GC or a CHECK waits for the lock. */
const LOCK_MS = 20_000

interface Session {
  readonly book: Book
  readonly keeper: Keeper
}

/** The port's lock, its journal and a client of the cloud, for one call. */
async function withKeeper<T>(
  conf: NeutronConf,
  host: PluginHost,
  ms: number,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const stop = new AbortController()
  const late = systemClock.timeout(ms, () => stop.abort(new Error(`not done within ${ms / 1000} s`)))
  const clock = systemClock
  try {
    using api = openCloud({ conf, clock, signal: stop.signal })
    await using book = await Book.open({ conf, clock, waitMs: ms })
    const keeper = new Keeper({
      conf,
      book,
      api,
      clock,
      random: Math.random,
      card: () => hostCard(host.netlink, conf.hostInterface),
      hostname,
      log: (level, message, fields) => host.log(level, message, fields),
      failpoint: (name) => host.failpoint(name),
      onEvent: () => {},
      signal: stop.signal,
    })
    return await work({ book, keeper })
  } finally {
    late[Symbol.dispose]()
  }
}

/** A failure of the cloud as CNI says it: 7 where the configuration is wrong, 11 for what may pass. */
export function cloudFailure(error: unknown): CniError {
  if (error instanceof CniError) return error
  if (isCode(error, 'config', 'no-endpoint'))
    return new CniError('invalidConfig', messageOf(error), undefined, { cause: error })
  if (error instanceof OpenStackError || error instanceof LookupError || error instanceof ClaimError)
    return tryAgain(messageOf(error), undefined, { cause: error })
  return toCniError(error)
}

/** Where the port is, and what became of it since the last call. */
async function attached({ keeper }: Session): Promise<void> {
  if (!keeper.attachKnown()) {
    await keeper.attach()
    if (keeper.isUnsettled) await keeper.reconcile()
    return
  }
  try {
    await keeper.reconcile()
  } catch (error) {
    if (!isCode(error, 'not-found')) throw error
    keeper.detach()
    await keeper.attach()
    await keeper.reconcile()
  }
}

/** ADD. Throws CniError 5, 7, 11. */
export async function addDirect(conf: NeutronConf, named: Named, host: PluginHost): Promise<readonly Grant[]> {
  try {
    const granted = await withKeeper(conf, host, conf.api.addDeadlineMs, async (session) => {
      const { book, keeper } = session
      await attached(session)
      const { facts } = keeper
      if (facts === undefined) throw tryAgain('the port of this node is not known')
      const { network, containerId, ifname } = named
      const held = book.pool.heldBy(named)
      const addresses = held.length > 0 ? held : await choose(session, conf)
      const owner = { network, containerId, ifname, boot: book.boot }
      await book.write({ is: 'assign', ips: addresses.map(({ ip }) => ip), owner, at: systemClock.wall() })
      host.failpoint('neutron.assigned')
      return { grants: grantsOf(addresses, facts), readyAt: Math.max(...addresses.map(({ readyAt }) => readyAt)) }
    })
    // Until the cloud lets its packets through; others need not wait for the lock meanwhile.
    const wait = Math.min(granted.readyAt - systemClock.wall(), conf.pool.settleMs)
    if (wait > 0) await systemClock.sleep(wait)
    return granted.grants
  } catch (error) {
    throw cloudFailure(error)
  }
}

/** One address of each family: one that lies ready, or a new one. */
async function choose({ book, keeper }: Session, conf: NeutronConf): Promise<readonly Address[]> {
  const chosen: Address[] = []
  const subnets =
    keeper.facts?.subnets.filter(({ id }) => conf.subnetIds.length === 0 || conf.subnetIds.includes(id)) ?? []
  for (const family of [4, 6] as const) {
    const own = subnets.filter(({ cidr }) => familyOf(cidr) === family)
    if (own.length === 0) continue
    const now = (): number => systemClock.wall()
    const ids = new Set(own.map(({ id }) => id))
    const find = (): Address | undefined =>
      // What has not settled yet is waited for.
      readyOf(book.pool, family, Number.POSITIVE_INFINITY).find(
        ({ subnet, readyAt }) => ids.has(subnet) && readyAt <= now() + conf.pool.settleMs,
      )
    let address = find()
    let failure: unknown
    for (const { id } of own) {
      if (address !== undefined) break
      const { total, leaving } = countsOf(book.pool, family, now())
      if (conf.pool.max !== 0 && total - leaving >= conf.pool.max)
        throw tryAgain('no address is free', `pool.max is ${conf.pool.max}, and all of them are given out`)
      try {
        await keeper.grow(id, 1)
        address = find()
      } catch (error) {
        if (!Keeper.isExhausted(error)) throw error
        failure = error
      }
    }
    if (address === undefined) throw failure ?? tryAgain('no address came from Neutron', 'the runtime will try again')
    chosen.push(address)
  }
  if (chosen.length === 0) throw tryAgain('none of subnetIds is known on this node')
  return chosen
}

/** DEL and GC: frees in the journal, which is enough; then tells Neutron, if it answers. What it was not told the next call tells it. Throws CniError 5, 7, 11. */
export async function freeDirect(
  conf: NeutronConf,
  isOver: (address: Address) => boolean,
  host: PluginHost,
): Promise<void> {
  if (!(await freeOffline(conf, isOver, host))) return
  try {
    await withKeeper(conf, host, LOCK_MS, async (session) => {
      await attached(session)
      const { book, keeper } = session
      await keeper.shrink(book.pool.inState('free'))
    })
  } catch (error) {
    host.log('warn', `Neutron was not told that addresses are free; the next call tells it: ${messageOf(error)}`)
  }
}

/** Frees in the journal only. True where there was something. Throws CniError 5 or 11. */
export async function freeOffline(
  conf: NeutronConf,
  isOver: (address: Address) => boolean,
  host: PluginHost,
): Promise<boolean> {
  const clock = systemClock
  await using book = await Book.open({ conf, clock, waitMs: LOCK_MS })
  const ips = [...book.pool.addresses.values()]
    .filter((one) => one.state === 'assigned' && isOver(one))
    .map(({ ip }) => ip)
  if (ips.length === 0) return false
  host.failpoint('neutron.freeing')
  const at = clock.wall()
  await book.write({ is: 'free', ips, at, readyAt: at + conf.pool.cooldownMs })
  host.failpoint('neutron.freed')
  return true
}

/** CHECK. Throws CniError 5 or 11. */
export async function heldDirect(conf: NeutronConf, named: Named): Promise<ReadonlySet<string>> {
  await using book = await Book.open({ conf, clock: systemClock, waitMs: LOCK_MS })
  return new Set(book.pool.heldBy(named).map(({ ip }) => ip))
}

/** STATUS: whether the credential is good and the cloud answers. Throws CniError 7 or 50. */
export async function statusDirect(conf: NeutronConf): Promise<void> {
  try {
    using api = openCloud({ conf, clock: systemClock, signal: AbortSignal.timeout(LOCK_MS) })
    await api.ports.list({ name: 'heddle:status:none' }, await api.turn())
  } catch (error) {
    const told = cloudFailure(error)
    if (told.kind !== 'tryAgain') throw told
    throw unavailable(`neutron-ipam: ${told.msg}`, 'pods that run keep their addresses')
  }
}
