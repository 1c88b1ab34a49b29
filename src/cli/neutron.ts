import { Command } from 'commander'

import { peerOf } from '#agent/cni/peer.ts'
import { LOG_LEVELS, openLog } from '#agent/log.ts'
import { failpoints } from '#cni/runtime/host.ts'
import { CniError } from '#cni/errors.ts'
import { readDaemonConf } from '#ipam/neutron/daemon-conf.ts'
import { openIpamService } from '#ipam/neutron/service.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { OpenStackError } from '#openstack/errors.ts'
import { nativeSys } from '#sys/addon.ts'
import { warmThreadPool } from '#sys/netns.ts'
import { CliError, usageError } from './fail.ts'
import { say } from './language.ts'

interface DaemonFlags {
  readonly config: string
  readonly root?: string
  readonly logLevel: string
}

/** `heddle neutron`: what OpenStack nodes need beside an agent. */
export function neutronCommand(): Command {
  const command = new Command('neutron').description(say('neutron.description'))
  command
    .command('ipamd')
    .description(say('neutron.ipamd'))
    .requiredOption('--config <file>', say('neutron.config'))
    .option('--root <directory>', say('agent.root'))
    .option('--log-level <level>', say('agent.logLevel'), 'info')
    .action(run)
  return command
}

async function run({ config, root = '', logLevel }: DaemonFlags): Promise<void> {
  const level = LOG_LEVELS.find((one) => one === logLevel)
  if (level === undefined) throw usageError(say('neutron.badLevel', { level: logLevel }), say('agent.logLevel'))
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  const log = openLog(level, {})
  const peer = peerOf(nativeSys())
  await warmThreadPool()
  // Timers of the daemon keep no process alive.
  const alive = setInterval(() => {}, 3_600_000)
  try {
    const conf = readDaemonConf(config, root === '/' ? '' : root)
    using netlink = NetlinkSocket.open()
    await using _service = await openIpamService({
      conf,
      netlink: () => netlink,
      log: (at, message, fields) => log[at](fields ?? {}, message),
      failpoint: failpoints(process.env),
      uidOf: (socket) => peer(socket)?.uid,
    })
    log.info({ socket: conf.socket, pid: process.pid }, 'neutron-ipamd runs')
    await aborted(stop.signal)
  } catch (error) {
    if (error instanceof CniError)
      throw new CliError('FAILED', error.msg, {
        cause: error,
        ...(error.details === undefined ? {} : { remedy: error.details }),
      })
    if (error instanceof OpenStackError) throw new CliError('FAILED', error.message, { cause: error })
    throw error
  } finally {
    clearInterval(alive)
  }
  log.info({}, 'neutron-ipamd ends; pods keep their addresses')
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}
