/** `kill-plugin.ts`, with one JSON argument: runs ADD or DEL of a plugin in a host's namespace and dies by SIGKILL at a fail point. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { JsonObject } from '#cni/json.ts'
import { registry } from '#plugins/registry.ts'
import { inputOf, type CallOptions } from './input.ts'
import { pluginHostAt, type NetworkHost } from './network-host.ts'

interface Order {
  readonly verb: 'ADD' | 'DEL'
  readonly conf: JsonObject
  readonly call: CallOptions
  readonly point: string
}

/** Runs it in a process of its own; throws unless it died at that point. */
export async function killedAt(made: NetworkHost, order: Order): Promise<void> {
  const program = new URL(import.meta.url).pathname
  const argument = JSON.stringify({ ...order, host: made.path, root: made.root })
  const child = spawn(process.execPath, [program, argument], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 60_000,
    killSignal: 'SIGTERM',
  })
  const [code, signal] = await once(child, 'exit')
  if (signal !== 'SIGKILL') throw new Error(`${order.verb} was to die at ${order.point}: ${code} ${signal}`)
}

if (import.meta.main) {
  const order: Order & { host: string; root: string } = JSON.parse(process.argv[2] ?? '{}')
  const plugin = registry.get(JSON.stringify(order.conf['type']).slice(1, -1))
  const host = pluginHostAt(order.host, order.root, (name) => {
    if (name === order.point) process.kill(process.pid, 'SIGKILL')
  })
  if (order.verb === 'ADD') await plugin?.add(inputOf(order.conf, order.call), host)
  else await plugin?.del(inputOf(order.conf, order.call), host)
}
