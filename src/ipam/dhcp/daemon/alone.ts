/** The daemon as a process of its own: `dhcp daemon`, as the reference's executable has it. */

import { rmSync } from 'node:fs'

import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { warmThreadPool } from '#sys/netns.ts'
import type { Deps } from './deps.ts'
import type { DaemonFlags } from './flags.ts'
import type { RpcServerOptions } from './rpc-server.ts'
import { openDhcpService } from './service.ts'

export interface AloneOptions {
  readonly flags: DaemonFlags
  readonly log: Deps['log']
  readonly failpoint: Deps['failpoint']
  readonly uidOf?: RpcServerOptions['uidOf']
  readonly env: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
}

/** The first descriptor that systemd hands over (sd_listen_fds(3)). */
const FIRST_FD = 3

/** Runs until the signal; pods keep their addresses. Throws CniError 5 or 11 where it cannot start. */
export async function runDaemon({ flags, log, failpoint, uidOf, env, signal }: AloneOptions): Promise<void> {
  await warmThreadPool()
  const isActivated = env['LISTEN_PID'] === String(process.pid) && Number(env['LISTEN_FDS']) >= 1
  // Before anything is done: whoever starts us must be able to find us again.
  if (flags.pidFile !== '') writeFileAtomicSync(flags.pidFile, String(process.pid))
  try {
    await using _service = await openDhcpService({
      socketPath: `${flags.hostPrefix}${flags.socketPath}`,
      hostPrefix: flags.hostPrefix,
      broadcast: flags.broadcast,
      resendMax: flags.resendMax,
      patience: flags.resendTimeout,
      fd: isActivated ? FIRST_FD : undefined,
      log,
      failpoint,
      count: () => {},
      uidOf,
    })
    log('info', 'the DHCP daemon runs', { socket: `${flags.hostPrefix}${flags.socketPath}`, pid: process.pid })
    // Timers of ours keep no process alive, and a socket that systemd opened may be closed by it.
    using _alive = awake()
    await aborted(signal)
  } finally {
    if (flags.pidFile !== '') rmSync(flags.pidFile, { force: true })
  }
  log('info', 'the DHCP daemon ends; pods keep their addresses')
}

function awake(): Disposable {
  const timer = setInterval(() => {}, 3_600_000)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}
