/** Labs for tests: through the command line, under names and directories of their own, gone at the end whatever happens. */

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { slowness } from '../slow.ts'
import type { LabStatus } from '#lab/status.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Another build can be tested: HEDDLE_BIN=dist/bin/heddle. */
const heddle = resolve(process.env['HEDDLE_BIN'] ?? join(root, 'bin/heddle'))

/** A reason to skip tests that need whole labs; false where they can run. */
export const cannotRun: string | false =
  process.getuid?.() !== 0
    ? 'needs root for network namespaces'
    : existsSync(join(root, 'dist/cni/flannel'))
      ? false
      : 'dist/cni is missing: npm run build'

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

let labs = 0

/** One lab's name and directory, and the command line for it. */
export class TestLab implements AsyncDisposable {
  readonly name: string
  readonly directory: string

  constructor(directory: string = mkdtempSync(join(tmpdir(), 'hl-'))) {
    this.name = `t${process.pid}x${++labs}`
    this.directory = directory
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, HEDDLE_LAB_DIR: this.directory, LC_ALL: 'C.UTF-8', NO_COLOR: '1' }
  }

  /** `heddle lab VERB --name NAME ARGS…` */
  run(verb: string, ...args: readonly string[]): Promise<Ran> {
    return run(heddle, ['lab', verb, '--name', this.name, ...args], this.env)
  }

  /** Starts it and does not wait. */
  start(verb: string, ...args: readonly string[]): ChildProcess {
    return spawn(heddle, ['lab', verb, '--name', this.name, ...args], { env: this.env, stdio: 'ignore' })
  }

  /** The command's JSON, whatever its exit code. */
  async json<T>(verb: string, ...args: readonly string[]): Promise<T> {
    const { stdout, stderr } = await this.run(verb, '--json', ...args)
    try {
      const value: T = JSON.parse(stdout)
      return value
    } catch (error) {
      throw new Error(`heddle lab ${verb} --json printed ${JSON.stringify(stdout)} and said ${stderr}`, {
        cause: error,
      })
    }
  }

  status(): Promise<LabStatus & { ok: boolean }> {
    return this.json('status')
  }

  /** Runs a command in a namespace of the lab from here; throws when it fails. */
  inside(place: string, command: string, ...args: readonly string[]): string {
    return execFileSync('ip', ['netns', 'exec', `${this.name}-${place}`, command, ...args]).toString()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run('down')
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve, reject) => {
    execFile(file, args, { env, maxBuffer: 32 << 20, timeout: 180_000 * slowness }, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr })
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr })
      else reject(error)
    })
  })
}

/** Everything on this machine that a lab of this name could change, as text. Other tests may work beside, so names are filtered. */
export function machineState(lab: TestLab): Record<string, readonly string[]> {
  const lines = (command: string, ...args: readonly string[]): readonly string[] =>
    execFileSync(command, args)
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
  const own = (line: string): boolean => line.includes(lab.name)
  return {
    links: lines('ip', '-o', 'link'),
    addresses: lines('ip', '-o', 'addr').map((line) => line.replace(/valid_lft.*/, '')),
    routes: lines('ip', 'route', 'show', 'table', 'all'),
    routes6: lines('ip', '-6', 'route', 'show', 'table', 'all').map((line) => line.replace(/expires \d+sec/, '')),
    rules: lines('ip', 'rule'),
    neighbours: lines('ip', 'neigh', 'show', 'nud', 'permanent'),
    fdb: lines('bridge', 'fdb'),
    nft: lines('nft', 'list', 'ruleset'),
    sysctls: ['net.ipv4.ip_forward', 'net.ipv4.conf.all.rp_filter', 'net.ipv6.conf.all.forwarding'].map((key) =>
      readFileSync(`/proc/sys/${key.replaceAll('.', '/')}`, 'utf8'),
    ),
    namespaces: readdirSync('/run/netns').filter(own),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(own),
    processes: processesOf(lab).map(String),
    files: existsSync(lab.directory) ? readdirSync(lab.directory) : [],
    run: ['/run/heddle', '/run/flannel', '/var/lib/cni', '/etc/cni'].filter((path) => existsSync(path)),
  }
}

/** Processes that name the lab on their command line or in their environment. */
export function processesOf(lab: TestLab): number[] {
  const holds = (path: string): boolean => {
    try {
      return readFileSync(path, 'latin1')
        .split('\0')
        .some((word) => word === lab.name || word.includes(`${lab.directory}/${lab.name}`))
    } catch {
      return false
    }
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => holds(`/proc/${pid}/cmdline`))
}

/** Milliseconds until `isTrue` gives true, at most `limit`; throws `what` when it does not. */
export async function until(what: string, limit: number, isTrue: () => boolean | Promise<boolean>): Promise<number> {
  const start = Date.now()
  for (;;) {
    if (await isTrue()) return Date.now() - start
    if (Date.now() - start > limit) throw new Error(`not within ${limit} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
