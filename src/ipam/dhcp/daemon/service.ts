/** The daemon with its socket and its book, wherever it runs: in the agent, or alone. */

import { systemClock } from '#sys/clock.ts'
import { RESEND_MAX } from '../lease/backoff.ts'
import { bookPathOf, LeaseBook } from './book.ts'
import { DhcpDaemon } from './daemon.ts'
import type { Deps } from './deps.ts'
import { random } from './random.ts'
import { RpcServer, type RpcServerOptions } from './rpc-server.ts'

export interface DhcpServiceOptions extends Pick<Deps, 'log' | 'count'> {
  readonly socketPath: string
  readonly failpoint?: Deps['failpoint']
  /** Put before paths of namespaces. '' in normal life. */
  readonly hostPrefix?: string
  readonly broadcast?: boolean
  /** ms */
  readonly resendMax?: number
  /** ms that a plugin waits for its leases. */
  readonly patience: number
  readonly fd?: number | undefined
  readonly uidOf?: RpcServerOptions['uidOf']
}

export interface DhcpService extends AsyncDisposable {
  readonly daemon: DhcpDaemon
}

/** Throws CniError 5 or 11 where the socket or the book is another's. */
export async function openDhcpService(options: DhcpServiceOptions): Promise<DhcpService> {
  const { socketPath, log, count, patience, fd, uidOf } = options
  await using stack = new AsyncDisposableStack()
  const book = stack.use(await LeaseBook.open(bookPathOf(socketPath)))
  const daemon = stack.use(
    DhcpDaemon.open({
      clock: systemClock,
      random,
      book,
      log,
      count,
      failpoint: options.failpoint ?? (() => {}),
      resendMax: options.resendMax ?? RESEND_MAX,
      hostPrefix: options.hostPrefix ?? '',
      broadcast: options.broadcast ?? false,
      patience,
    }),
  )
  stack.use(await RpcServer.listen({ socketPath, daemon, log, fd, uidOf }))
  const all = stack.move()
  return { daemon, [Symbol.asyncDispose]: () => all.disposeAsync() }
}
