/** The released flanneld as a process of a test's node. */

import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { inNetns } from '#sys/netns.ts'
import { needsRoot, until, type TestNode } from '../agent/cluster.ts'

const flanneld = process.env['HEDDLE_FLANNELD'] ?? ''

/** Why tests with it are skipped, or false. */
export const needsFlanneld: string | false =
  needsRoot || (existsSync(flanneld) ? false : 'needs flanneld: npm run test:interop builds it')

/** The released program on a node, as its manifest starts it. */
export class Flanneld implements AsyncDisposable {
  readonly #node: TestNode
  readonly #log: string
  readonly #child: ChildProcess

  /** `flags` say where its leases lie. */
  constructor(node: TestNode, flags: readonly string[]) {
    this.#node = node
    this.#log = join(node.root, 'flanneld.log')
    const log = openSync(this.#log, 'a')
    const args = [...flags, '--iface=eth0', '--ip-masq', `--subnet-file=${node.subnetFile}`]
    this.#child = inNetns(`/run/netns/${node.ns}`, () =>
      spawn(flanneld, args, {
        // Its key lies below the node's root, where Heddle looks for it.
        env: {
          PATH: process.env['PATH'],
          NODE_NAME: node.name,
          WIREGUARD_KEY_FILE: join(node.root, 'run/flannel/wgkey'),
        },
        stdio: ['ignore', log, log],
      }),
    )
    closeSync(log)
  }

  async ready(): Promise<void> {
    await until(
      `flanneld on ${this.#node.name} has written subnet.env`,
      () => existsSync(this.#node.subnetFile) || `ended with ${this.#child.exitCode}: ${this.log.slice(-2000)}`,
      30_000,
    )
  }

  get log(): string {
    return readFileSync(this.#log, 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await ended
  }
}
