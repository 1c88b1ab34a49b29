/** Debian's firewalld in a test's namespace, on a message bus of its own: it touches neither the machine's network nor its bus. */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { SYSTEM_BUS } from '#sys/dbus/bus.ts'
import { slowness } from '../slow.ts'
import type { NetworkHost } from './network-host.ts'

/** Why tests with firewalld are skipped, or false. */
export const firewalldMissing: string | false =
  existsSync('/usr/sbin/firewalld') && existsSync('/usr/bin/dbus-daemon')
    ? false
    : 'needs the programs firewalld and dbus-daemon: apt-get install firewalld dbus'

export class FirewalldHost implements Disposable {
  readonly #made: NetworkHost
  readonly #address: string
  readonly #children: ChildProcess[] = []

  private constructor(made: NetworkHost) {
    this.#made = made
    this.#address = `unix:path=${join(made.root, SYSTEM_BUS)}`
  }

  /** Runs when this resolves. */
  static async start(made: NetworkHost): Promise<FirewalldHost> {
    const host = new FirewalldHost(made)
    try {
      host.#startBus()
      await host.#until('the message bus', () => existsSync(join(made.root, SYSTEM_BUS)))
      const folder = join(made.root, 'firewalld')
      cpSync('/etc/firewalld', folder, { recursive: true })
      host.#spawn('firewalld', ['--nofork', '--nopid', '--system-config', folder])
      await host.#until('firewalld', () => host.#command('--state').status === 0)
      return host
    } catch (error) {
      host[Symbol.dispose]()
      throw error
    }
  }

  /** Like `firewall-cmd …`; its output. Throws when it fails. */
  cmd(...args: readonly string[]): string {
    const { status, stdout, stderr } = this.#command(...args)
    if (status !== 0) throw new Error(`firewall-cmd ${args.join(' ')}: ${stderr}`)
    return stdout.trim()
  }

  [Symbol.dispose](): void {
    for (const child of this.#children.toReversed()) child.kill('SIGKILL')
  }

  #startBus(): void {
    const { root } = this.#made
    mkdirSync(join(root, '/run/dbus'), { recursive: true })
    const file = join(root, 'bus.conf')
    writeFileSync(
      file,
      `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>${this.#address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="*"/><allow receive_type="*"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
`,
    )
    this.#spawn('dbus-daemon', ['--config-file', file, '--nofork', '--nopidfile'])
  }

  #spawn(program: string, args: readonly string[]): void {
    const child = spawn('nsenter', [`--net=${this.#made.path}`, program, ...args], {
      stdio: 'ignore',
      env: { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: this.#address },
    })
    child.unref()
    this.#children.push(child)
  }

  #command(...args: readonly string[]) {
    return spawnSync('nsenter', [`--net=${this.#made.path}`, 'firewall-cmd', ...args], {
      encoding: 'utf8',
      timeout: 30_000 * slowness,
      env: { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: this.#address },
    })
  }

  async #until(what: string, isThere: () => boolean): Promise<void> {
    for (const deadline = Date.now() + 30_000 * slowness; !isThere(); await sleep(50))
      if (Date.now() > deadline) throw new Error(`${what} did not start within ${30 * slowness} s`)
  }
}
