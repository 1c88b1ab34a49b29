/** A host with a bridge that a DHCP server is on, a daemon, and pods whose links come from the plugin bridge. */

import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import type { JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { openDhcpService, type DhcpService, type DhcpServiceOptions } from '#ipam/dhcp/daemon/service.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { inputOf } from '../plugins/input.ts'
import { execIn, NetworkHost } from '../plugins/network-host.ts'
import { until } from './servers.ts'

export const SERVER = '10.99.0.1'

export const conf = (ipam: JsonObject = {}): JsonObject => ({
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  ipam: { type: 'dhcp', ...ipam },
})

/** With `br0` up, as 10.99.0.1/24 and fd99::1/64. */
export function dhcpHost(): NetworkHost {
  const host = new NetworkHost()
  host.exec('ip', 'link', 'add', 'br0', 'address', '02:00:00:00:00:01', 'type', 'bridge')
  host.exec('ip', 'address', 'add', `${SERVER}/24`, 'dev', 'br0')
  host.exec('ip', '-6', 'address', 'add', 'fd99::1/64', 'dev', 'br0', 'nodad')
  host.exec('ip', 'link', 'set', 'br0', 'up')
  return host
}

export interface Counted {
  readonly service: DhcpService
  readonly events: string[]
  readonly logs: string[]
}

export const socketOf = (host: NetworkHost): string => join(host.root, 'run/cni/dhcp.sock')

/** The daemon inside this process. */
export async function daemonOf(
  host: NetworkHost,
  options: Partial<DhcpServiceOptions> = {},
): Promise<Counted & AsyncDisposable> {
  const events: string[] = []
  const logs: string[] = []
  const service = await openDhcpService({
    socketPath: socketOf(host),
    patience: 20_000,
    log: (level, message, fields) => void logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    count: (event, family) => void events.push(`${event} ${family}`),
    ...options,
  })
  return { service, events, logs, [Symbol.asyncDispose]: () => service[Symbol.asyncDispose]() }
}

export interface Pod {
  readonly netns: string
  readonly input: PluginInput
  readonly result: Result
  readonly addresses: () => string
}

/** ADD of the plugin bridge. */
export async function addPod(
  host: NetworkHost,
  containerId: string,
  ipam: JsonObject = {},
  args: Readonly<Record<string, string>> = {},
): Promise<Pod> {
  const netns = host.pod()
  execIn(netns, 'ip', 'link', 'set', 'lo', 'up')
  const input = inputOf(conf(ipam), { containerId, netns, args })
  const result = await bridge.add(input, host.host)
  return { netns, input: { ...input, prevResult: result }, result, addresses: () => addressesIn(netns) }
}

export const addressesIn = (netns: string): string =>
  execIn(netns, 'ip', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'global')

export const delPod = (host: NetworkHost, pod: Pod): Promise<void> => bridge.del(pod.input, host.host)

export interface DaemonProcess extends AsyncDisposable {
  readonly log: () => string
  readonly kill: () => Promise<void>
  /** Ends when it does; the signal that ended it. */
  readonly ended: Promise<NodeJS.Signals | null>
}

/** The daemon as a process of its own, which may be killed, or kills itself at a fail point. */
export async function daemonProcess(host: NetworkHost, failpoint = ''): Promise<DaemonProcess> {
  const program = join(import.meta.dirname, '../../src/cli/main.ts')
  const socket = socketOf(host)
  rmSync(socket, { force: true })
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      program,
      'dhcp',
      'daemon',
      '-socketpath',
      socket,
      '-resendtimeout',
      '20s',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HEDDLE_FAILPOINT: failpoint } },
  )
  let text = ''
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)))
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  children.add(child)
  try {
    await until('the daemon listens', () => {
      if (child.exitCode !== null) throw new Error(`the daemon ended: ${text}`)
      return existsSync(socket)
    })
  } catch (error) {
    await kill()
    throw error
  }
  return { log: () => text, kill, ended, [Symbol.asyncDispose]: kill }
}

const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
