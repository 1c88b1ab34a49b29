/** A node inside a machine: our plugins where a runtime looks for them, the agent, and what they leave behind. */

import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { difference } from '../plugins/network-host.ts'
import { Machine, until } from './machine.ts'

const projectRoot = join(import.meta.dirname, '..', '..')
const SOCKET = '/run/heddle/cni.sock'
/** Where plugins and runtimes keep what they must not forget. */
const STATE = ['/run/heddle', '/var/lib/cni', '/var/lib/heddle']

/** Whether the folders are there or not. */
const filesBelow = (...folders: readonly string[]): readonly string[] => {
  const which = folders.flatMap((folder, i) => [...(i === 0 ? [] : ['-o']), '-path', `${folder}/*`])
  return ['find', '/run', '/var/lib', '-type', 'f', '(', ...which, ')']
}

/** Files that stay by design: locks, and what remembers the last address. */
const STAYS = /\/(lock|last_reserved_ip\.\d+)$/

/** What the kernel enters by itself: multicast groups that interfaces joined, and addresses that a bridge has learned. */
const BY_KERNEL = /^[-+] (33:33|01:00:5e):|^[-+] [0-9a-f:]{17} dev \S+ master \S+ *$/

export class Node implements AsyncDisposable {
  readonly machine: Machine
  /** CNI_PATH. */
  readonly pluginDir = join(projectRoot, 'dist', 'cni')
  #agent: ChildProcess | undefined

  private constructor(machine: Machine) {
    this.machine = machine
  }

  static async open(): Promise<Node> {
    return new Node(await Machine.open())
  }

  /** `heddle agent --cni-only`, until its socket is there. */
  async startAgent(): Promise<void> {
    const heddle = join(projectRoot, 'dist', 'bin', 'heddle')
    const flags = ['--cni-only', '--log-level', 'warn']
    const child = this.machine.start('agent', [heddle, 'agent', ...flags])
    this.#agent = child
    await until(
      'the agent listens',
      async () => {
        if (child.exitCode !== null) throw new Error(`the agent ended: ${this.machine.logOf('agent')}`)
        return existsSync(this.machine.path(SOCKET)) && (await this.#answers())
      },
      15_000,
    )
  }

  async #answers(): Promise<boolean> {
    // A socket that a killed agent left answers nobody.
    const listening = await this.machine.run(['ss', '-xlH'])
    return listening.includes(SOCKET)
  }

  killAgent(): void {
    const pids = this.machine.pidsOf('\0agent\0--cni-only\0')
    if (this.#agent === undefined || pids.length === 0) throw new Error('no agent runs')
    for (const pid of pids) this.machine.kill(pid)
  }

  /** What an agent with a cluster writes. */
  writeSubnetEnv(): void {
    const folder = this.machine.path('/run/flannel')
    mkdirSync(folder, { recursive: true })
    const lines = [
      'FLANNEL_NETWORK=10.244.0.0/16',
      'FLANNEL_SUBNET=10.244.3.1/24',
      'FLANNEL_IPV6_NETWORK=fd00:244::/32',
      'FLANNEL_IPV6_SUBNET=fd00:244:3::1/64',
      'FLANNEL_MTU=1450',
      'FLANNEL_IPMASQ=true',
    ]
    writeFileSync(join(folder, 'subnet.env'), `${lines.join('\n')}\n`)
  }

  /** What answers a TCP connection, from the node or one of its namespaces; undefined when nothing does. */
  async ask(address: string, port: number, netns?: string): Promise<string | undefined> {
    const client = join(projectRoot, 'test', 'plugins', 'client.ts')
    // The machine may be busy, and a process in a pod needs a moment to listen.
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        return await this.machine.run([process.execPath, client, 'tcp', address, String(port), '', '0'], netns)
      } catch {
        // Exit code 1: no answer within a second.
      }
    }
    return undefined
  }

  /** Everything that a pod could leave on the node, as text. */
  async dump(): Promise<string> {
    const commands = [
      ['ip', '-o', 'link'],
      ['ip', '-o', 'address'],
      ['ip', 'route', 'show', 'table', 'all'],
      ['ip', '-6', 'route', 'show', 'table', 'all'],
      ['ip', 'rule'],
      ['ip', 'neigh'],
      ['bridge', 'fdb', 'show'],
      ['tc', 'qdisc', 'show'],
      ['nft', '-s', 'list', 'ruleset'],
      filesBelow(...STATE, '/run/netns'),
    ]
    const texts = await Promise.all(commands.map((command) => this.machine.run(command)))
    return texts.join('\n---\n')
  }

  /** What is there that was not, and the other way round; waits a little for what ends by itself. */
  async changesSince(before: string): Promise<readonly string[]> {
    let changes: readonly string[] = []
    try {
      await until(
        'the node is as before',
        async () => {
          changes = difference(before, await this.dump()).filter((line) => !STAYS.test(line) && !BY_KERNEL.test(line))
          return changes.length === 0
        },
        5_000,
      )
    } catch {
      return changes
    }
    return []
  }

  /** The files of address books. */
  async heldAddresses(): Promise<readonly string[]> {
    const files = await this.machine.run(filesBelow('/var/lib/cni/networks'))
    return files.split('\n').filter((file) => file !== '' && !STAYS.test(file))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine[Symbol.asyncDispose]()
  }
}
