/** Real DHCP servers of Debian in a test's namespace, with what they say and what they remember. */

import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { slowness } from '../slow.ts'

export interface DhcpServer extends AsyncDisposable {
  /** Everything it has logged. */
  readonly log: () => string
  /** Its lease file. */
  readonly leases: () => string
}

/** Asks every 20 ms; throws with `what` after `ms`. */
export async function until<T>(what: string, look: () => T | undefined | false | '', ms = 10_000): Promise<T> {
  const deadline = performance.now() + ms * slowness
  for (;;) {
    const found = look()
    if (found !== undefined && found !== false && found !== '') return found
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function serve(netns: string, folder: string, command: readonly string[], ready: RegExp): Promise<DhcpServer> {
  const child = spawn('nsenter', [`--net=${netns}`, ...command], { stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const server: DhcpServer = {
    log: () => text,
    leases: () => readFileSync(join(folder, 'leases'), 'utf8'),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await ended
      children.delete(child)
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return until(`${command[0]} is ready`, () => {
    if (child.exitCode !== null) throw new Error(`${command[0]} ended: ${text}`)
    return ready.test(text) && server
  })
}

/** Whoever kills the test leaves nobody behind. */
const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

const folderOf = (name: string): string => mkdtempSync(join(tmpdir(), `heddle-${name}-`))

/** dnsmasq on `br0` of a namespace. Its shortest lease is two minutes. */
export function dnsmasq(netns: string, ...options: readonly string[]): Promise<DhcpServer> {
  const folder = folderOf('dnsmasq')
  const command = [
    'dnsmasq',
    '--keep-in-foreground',
    '--conf-file=/dev/null',
    '--user=root',
    '--port=0',
    '--interface=br0',
    '--except-interface=lo',
    '--log-facility=-',
    '--log-dhcp',
    '--no-ping',
    '--pid-file=',
    `--dhcp-leasefile=${join(folder, 'leases')}`,
    ...options,
  ]
  return serve(netns, folder, command, /DHCP(v6)?, (sockets bound|IP range|router)|started, /)
}

/** isc-dhcp-server on `br0`: leases of seconds. */
export function dhcpd(
  netns: string,
  configuration: string,
  leases = '',
  ...flags: readonly string[]
): Promise<DhcpServer> {
  const folder = folderOf('dhcpd')
  writeFileSync(join(folder, 'conf'), configuration)
  writeFileSync(join(folder, 'leases'), leases)
  const command = [
    'dhcpd',
    ...flags,
    '-f',
    '-d',
    '-cf',
    join(folder, 'conf'),
    '-lf',
    join(folder, 'leases'),
    '--no-pid',
    'br0',
  ]
  return serve(netns, folder, command, /Server starting service|Sending on/)
}
