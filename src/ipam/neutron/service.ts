/** The daemon with its journal, its locks and its socket, wherever it runs: in the agent, or alone. */

import { hostname } from 'node:os'

import type { NetlinkSocket } from '#netlink/socket.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import type { Attempt } from '#openstack/client.ts'
import type { CloudConfig } from '#openstack/config.ts'
import { Book } from './book.ts'
import { openCloud } from './cloud.ts'
import type { NeutronConf } from './config.ts'
import { Engine } from './engine.ts'
import { hostCard, type HostCard } from './host-card.ts'
import { Keeper, type KeeperEvent, type Log } from './keeper.ts'
import { IpamServer, type IpamServerOptions } from './server.ts'

export interface IpamServiceOptions {
  readonly conf: NeutronConf
  readonly log: Log
  /** In the namespace whose card it is. */
  readonly netlink?: () => NetlinkSocket
  readonly card?: () => HostCard
  readonly failpoint?: (name: string) => void
  readonly onEvent?: (event: KeeperEvent, count: number) => void
  readonly onAttempt?: (attempt: Attempt) => void
  readonly onCall?: IpamServerOptions['onCall']
  readonly uidOf?: IpamServerOptions['uidOf']
  /** Instead of what clouds.yaml says. */
  readonly cloud?: CloudConfig
  readonly clock?: Clock
  readonly random?: () => number
  readonly boot?: string
}

export interface IpamService extends AsyncDisposable {
  readonly engine: Engine
  /** Milliseconds that the token still has. */
  readonly tokenLeftMs: number
}

/** Begins to serve what the journal holds at once; the cloud is asked in the background. Throws CniError 5 or 11, OpenStackError `config`. */
export async function openIpamService(options: IpamServiceOptions): Promise<IpamService> {
  const { conf, log, clock = systemClock, random = Math.random, netlink } = options
  const failpoint = options.failpoint ?? ((): void => {})
  const stop = new AbortController()
  await using stack = new AsyncDisposableStack()
  const api = stack.use(
    openCloud({ conf, clock, signal: stop.signal, config: options.cloud, onAttempt: options.onAttempt }),
  )
  const { boot } = options
  const book = stack.use(await Book.open({ conf, clock, waitMs: 0, ...(boot === undefined ? {} : { boot }) }))
  const card =
    options.card ??
    ((): HostCard => {
      if (netlink === undefined) throw new Error('neither a card nor netlink')
      return hostCard(netlink(), conf.hostInterface)
    })
  const onEvent = options.onEvent ?? ((): void => {})
  const common = { conf, book, api, clock, random, log, failpoint }
  const keeper = new Keeper({ ...common, card, hostname, onEvent, signal: stop.signal })
  const engine = stack.use(new Engine({ ...common, keeper, stop }))
  const { uidOf, onCall } = options
  stack.use(await IpamServer.listen({ socketPath: conf.socket, engine, log, uidOf, onCall }))
  const all = stack.move()
  return {
    engine,
    get tokenLeftMs() {
      return api.client.tokenLeftMs
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  }
}
