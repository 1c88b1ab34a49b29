import { Command } from 'commander'

import { peerOf } from '#agent/cni/peer.ts'
import { openLog } from '#agent/log.ts'
import { failpoints } from '#cni/runtime/host.ts'
import { runDaemon } from '#ipam/dhcp/daemon/alone.ts'
import { FlagError, parseDaemonFlags, type DaemonFlags } from '#ipam/dhcp/daemon/flags.ts'
import { nativeSys } from '#sys/addon.ts'
import { usageError } from './fail.ts'
import { say } from './language.ts'

/** `heddle dhcp daemon`: the DHCP daemon without an agent. Its flags are written as the reference's, with one dash. */
export function dhcpCommand(): Command {
  const command = new Command('dhcp').description(say('dhcp.description'))
  command
    .command('daemon')
    .description(say('dhcp.daemon'))
    .argument('[flags...]', say('dhcp.flags'))
    .action((flags: readonly string[]) => run(flagsOf(flags)))
  return command
}

function flagsOf(args: readonly string[]): DaemonFlags {
  try {
    return parseDaemonFlags(args)
  } catch (error) {
    if (error instanceof FlagError) throw usageError(error.message, say('dhcp.flags'))
    throw error
  }
}

async function run(flags: DaemonFlags): Promise<void> {
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  const log = openLog('info', {})
  const peer = peerOf(nativeSys())
  await runDaemon({
    flags,
    log: (level, message, fields) => log[level](fields ?? {}, message),
    failpoint: failpoints(process.env),
    uidOf: (socket) => peer(socket)?.uid,
    env: process.env,
    signal: stop.signal,
  })
}
