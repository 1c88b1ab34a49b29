/** Care for the cards of a network between calls: what was left half done, what the cloud has changed, and the pool. */

import { readMarkText } from '#openstack/mark.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { bootId } from '#sys/bootid.ts'
import { systemClock } from '#sys/clock.ts'
import { isIdle } from './card.ts'
import type { Home } from './cloud.ts'
import { bringBack, findCard, rest } from './device.ts'
import { cardsOf, type Engine } from './engine.ts'
import { judge, lacking, placesFor, type Attached, type Seen } from './plan.ts'

/** What a round has found. */
export interface Round {
  /** Cards that pods of the server have or can have; undefined where the cloud was not asked. */
  readonly places: number | undefined
  /** The pool could not be filled: the server has no place. */
  readonly isAtLimit: boolean
  /** The first thing that kept it from something. */
  readonly error: unknown
}

interface Look {
  readonly home: Home
  readonly attached: Attached
  readonly ports: ReadonlySet<string>
  readonly named: readonly Port[]
}

/**
 * Takes care of all cards of the network that nobody works on; with `isFull` it compares them with the cloud. Then fills the pool, where
 * `isFilling`. Goes on after an error; throws one only where the cloud could not be looked at.
 */
export async function runRound(
  engine: Engine,
  { isFull, isFilling }: { readonly isFull: boolean; readonly isFilling: boolean },
): Promise<Round> {
  const { conf, book, clock = systemClock } = engine.options
  const begun = clock.wall()
  const errors: unknown[] = []
  const seen = isFull ? await look(engine) : undefined
  // Before cards go, whose ports would then count as others'.
  const places =
    seen === undefined ? undefined : placesFor(conf.deviceLimit, seen.attached, cardsOf(book, seen.home.server))
  let idle = 0
  for (const { id } of book.list().filter(({ network }) => network === conf.network)) {
    try {
      const cloud = seen === undefined ? undefined : { attached: seen.attached, ports: seen.ports }
      if (await tend(engine, id, { idleBefore: idle, cloud, begun })) idle += 1
    } catch (error) {
      errors.push(error)
    }
  }
  if (seen !== undefined) await adopt(engine, seen).catch((error: unknown) => errors.push(error))
  let isAtLimit = false
  try {
    if (isFilling && errors.length === 0) isAtLimit = await fill(engine)
  } catch (error) {
    errors.push(error)
  }
  return { places, isAtLimit, error: errors[0] }
}

const look = (engine: Engine): Promise<Look> =>
  engine.ask('the server cannot be looked at', async (cloud) => {
    const home = await engine.options.home(cloud)
    const [attached, ports, marked] = await Promise.all([
      cloud.attached(home.server),
      cloud.portsOf(home.server),
      cloud.marked(home.server, engine.options.conf.cluster),
    ])
    const loose = marked.filter(({ device_id: device }) => device === '')
    return { home, attached, ports: new Set(ports.map(({ id }) => id)), named: [...ports, ...loose] }
  })

/** True for a card that stays in the pool. */
async function tend(
  engine: Engine,
  id: string,
  {
    idleBefore,
    cloud,
    begun,
  }: { readonly idleBefore: number; readonly cloud: Seen['cloud'] | undefined; readonly begun: number },
): Promise<boolean> {
  const { conf, book, host, clock = systemClock } = engine.options
  using lock = book.tryHold(id)
  const card = lock === undefined ? undefined : book.read(id)
  if (card === undefined) return false
  const link = findCard(host, card)
  const verdict = judge(card, {
    boot: bootId(),
    now: clock.wall(),
    hasLink: link !== undefined,
    idleBefore,
    poolSize: conf.poolSize,
    // What was attached since is not among what was looked at.
    ...(cloud === undefined || card.since >= begun ? {} : { cloud }),
  })
  if (typeof verdict === 'object') {
    host.log('warn', `card ${id} of container ${card.holder?.containerId} is lost: ${verdict.lose}`)
    book.write({ ...card, lost: verdict.lose })
    return false
  }
  if (verdict === 'keep') return isIdle(card)
  const { holder, lost: _, ...free } = card
  if (verdict === 'found') {
    book.write({ ...free, ...(holder === undefined ? {} : { holder }) })
    return false
  }
  if (verdict === 'free') {
    const back = await bringBack(host, card)
    const isKept = conf.onDelete === 'keep' && back !== undefined && idleBefore < conf.poolSize
    book.write({ ...free, state: isKept ? 'ready' : 'leaving' })
    if (isKept) return true
  } else if (holder !== undefined) {
    // Its pod never got it, or its DEL did not end.
    const back = await bringBack(host, card)
    if (back !== undefined) host.log('debug', `card ${id} came back from ${holder.netns}`)
  }
  const now = book.read(id)
  if (now !== undefined) await engine.drop(now)
  return false
}

/** Cards that bear this node's mark and that no record tells of, because the disk was lost: they go, unless a pod may have them. */
async function adopt(engine: Engine, { home, named }: Look): Promise<void> {
  const { conf, book, host, clock = systemClock } = engine.options
  const known = new Set(book.list().flatMap(({ port }) => port?.id ?? []))
  for (const port of named) {
    const id = ownCardOf(port.name, conf.cluster, home.server)
    if (id === undefined || known.has(port.id) || book.read(id) !== undefined) continue
    using lock = book.tryHold(id)
    if (lock === undefined) continue
    const { network, cluster } = conf
    const base = { version: 1, id, since: clock.wall(), cluster, server: home.server, network } as const
    const place = { id: port.id, mac: port.mac_address, mtu: 0, ips: [], routes: [], nameservers: [] }
    if (port.device_id !== '' && findCard(host, { ...base, state: 'leaving', port: place }) === undefined) {
      host.log(
        'warn',
        `card ${id} (port ${port.id}) is in no record, and its link not on the host: it stays, since a pod may have it`,
      )
      continue
    }
    host.log('warn', `card ${id} (port ${port.id}) is in no record: it is removed`)
    await engine.drop(book.write({ ...base, state: 'leaving', port: place }))
  }
}

/** One after the other: Nova gets slower with each at once. True where the server has no place for another one. */
async function fill(engine: Engine): Promise<boolean> {
  const { conf, book, host } = engine.options
  const ours = () => book.list().filter(({ network }) => network === conf.network)
  for (let left = conf.poolSize; left > 0 && lacking(conf.poolSize, ours()) > 0; left -= 1) {
    const begun = await engine.begin(undefined)
    if (begun === undefined) return true
    using made = await engine.make(begun.card, begun.lock, begun.home)
    rest(host, made.link, made.card)
  }
  return false
}

/** The card that a port's name tells of, if it is this node's. */
function ownCardOf(name: string, cluster: string, server: string): string | undefined {
  const mark = readMarkText(name)
  const isOurs = mark?.kind === 'nic' && mark.cluster === cluster && mark.node === server
  return isOurs && /^[0-9a-f]{12}$/.test(mark.subject ?? '') ? mark.subject : undefined
}
