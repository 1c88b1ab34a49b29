/** A "host" and "pods" made of network namespaces, and a PluginHost that works in them. */

import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

import { toCniError } from '#cni/errors.ts'
import type { GcInput, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { registry } from '#plugins/registry.ts'

export const run = promisify(execFile)

/** A PluginHost that works in the namespace at `netns` and delegates inside the process. */
export function pluginHostAt(
  netns: string,
  root: string,
  failpoint: (name: string) => void,
  log: (line: string) => void = () => {},
): PluginHost {
  function delegate(verb: 'ADD', type: string, input: PluginInput): Promise<Result>
  function delegate(
    verb: 'DEL' | 'CHECK' | 'STATUS' | 'GC',
    type: string,
    input: PluginInput | GcInput,
  ): Promise<undefined>
  async function delegate(verb: string, type: string, input: PluginInput | GcInput): Promise<Result | undefined> {
    const plugin = registry.get(type)
    if (plugin === undefined) throw new Error(`no delegate ${type}`)
    if (verb === 'ADD') return plugin.add(input, host)
    if (verb === 'DEL') await plugin.del(input, host)
    if (verb === 'CHECK') await plugin.check(input, host)
    if (verb === 'STATUS') await plugin.status(input, host)
    if (verb === 'GC' && 'validAttachments' in input) await plugin.gc(input, host)
    return undefined
  }
  const host: PluginHost = {
    root,
    netlink: NetlinkSocket.open({ netns }),
    delegate,
    failpoint,
    log: (level, message, fields) => log(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
  }
  return host
}

let count = 0

export class NetworkHost implements Disposable {
  readonly name: string
  readonly path: string
  readonly root: string
  readonly netlink: NetlinkSocket
  readonly host: PluginHost
  readonly pods: string[] = []
  readonly logs: string[] = []
  atFailpoint: (name: string) => void = () => {}

  constructor() {
    this.name = `plugins-${process.pid}-${count++}`
    this.path = `/run/netns/${this.name}`
    this.root = mkdtempSync(join(tmpdir(), 'heddle-plugins-'))
    createNetns(this.path)
    const log = (line: string): void => void this.logs.push(line)
    this.host = pluginHostAt(this.path, this.root, (name) => this.atFailpoint(name), log)
    this.netlink = this.host.netlink
    this.exec('ip', 'link', 'set', 'lo', 'up')
  }

  /** Makes a pod; the path of its namespace. */
  pod(): string {
    const path = `${this.path}-pod${this.pods.length}`
    createNetns(path)
    this.pods.push(path)
    return path
  }

  /** Runs a command in the host's namespace; its output. Throws when it fails. */
  exec(...command: string[]): string {
    return execIn(this.path, ...command)
  }

  /** Everything that an attachment could leave behind, as text. */
  dump(): string {
    const commands = [
      ['ip', '-o', 'link'],
      ['ip', '-o', 'address'],
      ['ip', 'route', 'show', 'table', 'all'],
      ['ip', '-6', 'route', 'show', 'table', 'all'],
      ['ip', 'rule'],
      ['ip', 'neigh'],
      ['ip', 'neigh', 'show', 'proxy'],
      ['nft', '-s', 'list', 'ruleset'],
    ]
    const files = filesBelow(this.root).filter((path) => !basename(path).startsWith('last_reserved_ip'))
    return [...commands.map((command) => this.exec(...command)), ...files.toSorted()].join('\n---\n')
  }

  [Symbol.dispose](): void {
    for (const server of servers) server.kill('SIGKILL')
    servers.clear()
    this.netlink[Symbol.dispose]()
    for (const pod of this.pods) deleteNetns(pod)
    deleteNetns(this.path)
    rmSync(this.root, { recursive: true, force: true })
  }
}

/** Node.js's own recursion goes where symbolic links lead, and those of /sys lead in circles. */
function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })
}

export function execIn(netns: string, ...command: string[]): string {
  return execFileSync('nsenter', [`--net=${netns}`, ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

export async function ping(netns: string, ...args: string[]): Promise<boolean> {
  try {
    await run('nsenter', [`--net=${netns}`, 'ping', '-c1', '-W1', ...args])
    return true
  } catch {
    return false
  }
}

/** The code of what a promise throws. */
export async function codeOf(promise: Promise<unknown>): Promise<number | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    return toCniError(error).code
  }
}

export const fileText = (path: string): string => readFileSync(path, 'utf8')

/** Killed with the host they were started for, also when a test fails. */
const servers = new Set<ChildProcess>()

/** A server in a namespace that answers each connection (or datagram) with `answer`, or with the client's address when that is `PEER`. */
export async function serve(
  netns: string,
  port: number,
  answer: string,
  proto: 'tcp' | 'udp' = 'tcp',
  bind = '::',
): Promise<ChildProcess> {
  const server = new URL('./server.ts', import.meta.url).pathname
  const child = spawn('nsenter', [`--net=${netns}`, process.execPath, server, proto, bind, String(port), answer], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.unref()
  servers.add(child)
  await once(child.stdout, 'data')
  child.stdout.destroy()
  return child
}

/** What a server answers, in one of three tries of a second each: the machine may be busy. */
export async function connects(...args: Parameters<typeof connectsOnce>): Promise<string | undefined> {
  return (await connectsOnce(...args)) ?? (await connectsOnce(...args)) ?? (await connectsOnce(...args))
}

/** What a server answers, or undefined when none does within a second: for connections that must not come about. */
export async function connectsOnce(
  netns: string,
  to: string,
  port: number,
  from?: string,
  proto: 'tcp' | 'udp' = 'tcp',
  fromPort = 0,
): Promise<string | undefined> {
  const client = new URL('./client.ts', import.meta.url).pathname
  try {
    const args = [client, proto, to, String(port), from ?? '', String(fromPort)]
    const { stdout } = await run('nsenter', [`--net=${netns}`, process.execPath, ...args])
    return stdout
  } catch {
    return undefined
  }
}

/** What the kernel changes by itself as time goes by: carrier and what follows from it, address detection, learned neighbours. */
const steady = (line: string): string =>
  line
    .replace(/<[A-Z_,-]*>/, '')
    .replace(/\b(state [A-Z]+|tentative|linkdown)\s*/g, '')
    .trimEnd()
const learned = /\b(lladdr|FAILED|INCOMPLETE)\b|\bfe80:|^multicast ff00::/

/** Lines that only one of two dumps has, marked with - and +. */
export function difference(before: string, after: string): readonly string[] {
  const lines = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => !learned.test(line))
      .map(steady)
  const [old, now] = [lines(before), lines(after)]
  return [
    ...old.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
    ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`),
  ]
}
