/** `kill-keeper.ts`, with one JSON argument: keeps the cards of a host and dies by SIGKILL at a fail point. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { NicKeeper } from '#plugins/host-device-plus/keeper.ts'
import { slowness } from '../slow.ts'
import { pluginHostAt, type NetworkHost } from './network-host.ts'

/** Runs it in a process of its own; throws unless it died at that point. */
export async function keeperKilledAt(made: NetworkHost, point: string): Promise<void> {
  const program = new URL(import.meta.url).pathname
  const child = spawn(process.execPath, [program, JSON.stringify({ host: made.path, root: made.root, point })], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 30_000 * slowness,
    killSignal: 'SIGTERM',
  })
  const [code, signal] = await once(child, 'exit')
  if (signal !== 'SIGKILL') throw new Error(`the keeper was to die at ${point}: ${code} ${signal}`)
}

if (import.meta.main) {
  const order: { host: string; root: string; point: string } = JSON.parse(process.argv[2] ?? '{}')
  const host = pluginHostAt(order.host, order.root, (name) => {
    if (name === order.point) process.kill(process.pid, 'SIGKILL')
  })
  const keeper = new NicKeeper({ host, settleMs: 0, intervalMs: 100 })
  setInterval(() => keeper.kick(), 50)
}
