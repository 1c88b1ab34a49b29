/**
 * Labs without root: in a user namespace of the caller's own, with a network and a mount namespace below it.
 *
 * One process per user, the holder, keeps these namespaces while there are labs. Every command enters them and then works as root does,
 * with its own /run. Nothing outside of them is changed but a directory of the user's in the temporary directory.
 */

import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { setLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { check, hasCode } from '#sys/errno.ts'
import { labDown } from './down.ts'
import { LabError } from './error.ts'
import { endProcesses, isAlive, processOf, type ProcessId } from './process.ts'
import { labNames } from './record.ts'

/** Set for every process inside. */
const INSIDE = 'HEDDLE_ROOTLESS'
const START_MS = 10_000

/** True where labs need a user namespace: this process is not root, not even in one. */
export const needsUserNamespace = (): boolean => process.geteuid?.() !== 0

/** True in a process that works inside the user namespace. */
export const isRootless = (env: NodeJS.ProcessEnv = process.env): boolean => env[INSIDE] !== undefined

interface Place {
  readonly directory: string
  readonly labs: string
  readonly holder: string
}

/** The user's own directory: made 0700, refused if somebody else prepared it. */
function ownPlace(make: boolean): Place {
  const uid = process.geteuid?.() ?? 0
  const directory = `/tmp/heddle-${uid}`
  if (make) {
    try {
      mkdirSync(directory, { mode: 0o700 })
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
    }
    const stat = lstatSync(directory)
    if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
      throw new LabError(
        'not-permitted',
        `${directory} is not a directory that only you can enter, so labs cannot be kept there`,
        `Remove it, or set HEDDLE_LAB_DIR to a directory of yours.`,
      )
    }
  }
  return {
    directory,
    labs: process.env['HEDDLE_LAB_DIR'] ?? join(directory, 'lab'),
    holder: join(directory, 'holder.json'),
  }
}

const holderSchema = v.object({ pid: v.number(), startTime: v.number() })

function readHolder(place: Place): ProcessId | undefined {
  try {
    const holder = v.parse(holderSchema, JSON.parse(readFileSync(place.holder, 'utf8')))
    return isAlive(holder) ? holder : undefined
  } catch {
    return undefined
  }
}

export interface Again {
  /** Node.js with the arguments that lead to the command line. */
  readonly program: { readonly file: string; readonly args: readonly string[] }
  /** The command line to run inside. */
  readonly argv: readonly string[]
  readonly verb: string
  readonly name: string
  /** Called when `down` removed what was left of a lab whose namespaces are gone already. */
  readonly onSwept: () => void
}

/** Runs a lab command inside the user namespace, which `up` makes if need be, and gives its exit code. */
export async function runInUserNamespace({ program, argv, verb, name, onSwept }: Again): Promise<number> {
  const place = ownPlace(verb === 'up')
  const holder = readHolder(place) ?? (verb === 'up' ? await startHolder(place, program) : undefined)
  if (holder === undefined) {
    // No namespaces: what is left of a lab is processes and files, and those are ours to remove.
    const env = { ...process.env, HEDDLE_LAB_DIR: place.labs }
    if (verb === 'down' && (await sweep(name, place))) {
      onSwept()
      return 0
    }
    return runThere([program.file, ...program.args, ...argv], { ...env, [INSIDE]: 'outside' })
  }
  const enter = [
    'nsenter',
    '--target',
    String(holder.pid),
    '--user',
    '--mount',
    '--net',
    '--preserve-credentials',
    '--',
  ]
  const code = await runThere([...enter, program.file, ...program.args, ...argv], insideEnvironment(place))
  if (labNames(place.labs).length === 0) await endHolder(holder, place)
  return code
}

const insideEnvironment = (place: Place): NodeJS.ProcessEnv => ({
  ...process.env,
  [INSIDE]: 'inside',
  HEDDLE_LAB_DIR: place.labs,
})

async function sweep(name: string, place: Place): Promise<boolean> {
  process.env['HEDDLE_LAB_DIR'] = place.labs
  const swept = await labDown(name, { keepNamespaces: true })
  if (labNames(place.labs).length === 0) rmSync(place.directory, { recursive: true, force: true })
  return swept
}

async function endHolder(holder: ProcessId, place: Place): Promise<void> {
  await endProcesses([holder], 1000)
  rmSync(place.directory, { recursive: true, force: true })
}

/** Like `unshare --user --map-root-user --net --mount`. Throws `LabError` `not-permitted` where the kernel does not allow it. */
async function startHolder(place: Place, program: Again['program']): Promise<ProcessId> {
  const child = spawn(
    'unshare',
    ['--user', '--map-root-user', '--net', '--mount', '--', program.file, ...program.args, 'lab', 'holder'],
    { env: insideEnvironment(place), stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  )
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => void (said += chunk.toString()))
  const ready = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), START_MS)
    const finish = (ok: boolean): void => {
      clearTimeout(timer)
      resolve(ok)
    }
    child.stdout.once('data', () => finish(true))
    child.once('error', (error) => {
      said += error.message
      finish(false)
    })
    child.once('exit', () => finish(false))
  })
  const holder = child.pid === undefined ? undefined : processOf(child.pid)
  if (!ready || holder === undefined) {
    child.kill('SIGKILL')
    rmSync(place.directory, { recursive: true, force: true })
    throw notAllowed(said)
  }
  child.stdout.destroy()
  child.stderr.destroy()
  child.unref()
  writeFileSync(place.holder, JSON.stringify(holder), { mode: 0o600 })
  return holder
}

const notAllowed = (said: string): LabError =>
  new LabError(
    'not-permitted',
    `a lab without root needs a user namespace, and this machine gives you none: ${said.trim() || 'no answer'}`,
    'Run the command as root (sudo heddle lab …). Or allow user namespaces: sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu).',
  )

/** The holder's own work: a /run to write in, a loopback, and staying. */
export async function hold(): Promise<void> {
  const sys = nativeSys()
  check(sys.mount('heddle', '/run', 'tmpfs', 0, 'mode=0755'), 'mount', '/run')
  {
    using netlink = NetlinkSocket.open()
    setLink(netlink, 'lo', { up: true })
  }
  process.on('SIGHUP', () => {})
  process.stdout.write('ready\n')
  const stay = setInterval(() => {}, 1 << 30)
  await new Promise<void>((resolve) => process.once('SIGTERM', resolve))
  clearInterval(stay)
}

function runThere([file = '', ...args]: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env, stdio: 'inherit' })
    const ignore = (): void => {}
    const forward = (): void => void child.kill('SIGTERM')
    process.on('SIGINT', ignore).on('SIGTERM', forward)
    child.once('error', (error) =>
      reject(
        new LabError('failed', `cannot run ${file}: ${error.message}`, 'Install util-linux, which brings nsenter.', {
          cause: error,
        }),
      ),
    )
    child.once('exit', (code, signal) => {
      process.off('SIGINT', ignore).off('SIGTERM', forward)
      resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL'])
    })
  })
}
