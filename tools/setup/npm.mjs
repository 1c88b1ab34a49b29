import { createHash } from 'node:crypto'
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { commandPath, pinnedNode, root } from '../paths.mjs'
import { Problem } from './problem.mjs'
import { capture, mustRun, step } from './step.mjs'

const modules = join(root, 'node_modules')
const stampFile = join(modules, '.heddle-lock')
const NODE_MAJOR = 24

const readIfThere = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : undefined)

const lockText = () => readFileSync(join(root, 'package-lock.json'), 'utf8')
const hashOf = (text) => createHash('sha256').update(text).digest('hex')

/** Is what npm wrote down about node_modules what package-lock.json asks for? (Somebody may have run npm by hand.) */
export function installedMatches(lock, hidden) {
  const wanted = lock.packages ?? {}
  const present = hidden.packages ?? {}
  const lacks = Object.entries(wanted).some(
    ([path, entry]) => path !== '' && entry.optional !== true && present[path]?.version !== entry.version,
  )
  return !lacks && Object.entries(present).every(([path, entry]) => wanted[path]?.version === entry.version)
}

function upToDate(text) {
  if (!existsSync(pinnedNode)) return false
  const hash = hashOf(text)
  if (readIfThere(stampFile) === hash) return true
  const hidden = readIfThere(join(modules, '.package-lock.json'))
  if (hidden === undefined || !installedMatches(JSON.parse(text), JSON.parse(hidden))) return false
  writeFileSync(stampFile, hash)
  return true
}

/** True when `installNpmPackages` would do nothing. Fast: reads files only. */
export const npmPackagesReady = () => upToDate(lockText())

/** npm as the person started it, else the one on PATH. */
function npmCommand() {
  const started = process.env['npm_execpath']
  // A Node that is about to be replaced (the pinned one) must not run npm: its file disappears in the middle.
  const node = commandPath('node')
  if (started !== undefined && basename(started) === 'npm-cli.js' && node !== undefined) return [node, started]
  const npm = commandPath('npm')
  if (npm !== undefined) return [npm]
  throw new Problem({
    what: 'npm is not on PATH',
    why: 'it installs the packages of package-lock.json',
    remedy: 'install it as root: apt-get install -y --no-install-recommends npm',
  })
}

/** Brings node_modules to what package-lock.json says, with the pinned Node.js in it. Like `npm ci`. */
export async function installNpmPackages() {
  const text = lockText()
  if (upToDate(text)) return
  await step('npm packages and Node.js 24', async () => {
    const [command, ...before] = npmCommand()
    const args = [...before, 'ci', '--include=dev', '--include=optional', '--ignore-scripts', '--no-audit', '--no-fund']
    await mustRun(command, args, {
      what: 'installing npm packages',
      remedy: 'check the connection to the npm registry (npm ping), then start again: what was fetched is kept',
      // Set by `npm run --omit=…` or a production environment: everything here is needed all the same.
      env: { NODE_ENV: '', npm_config_update_notifier: 'false', npm_config_loglevel: 'error' },
    })
    linkNode()
    await checkNode()
    writeFileSync(stampFile, hashOf(text))
  })
}

/** npm 9 (Debian 12's) takes the link away with the package of the other architecture, whose program has the same name. */
function linkNode() {
  if (existsSync(pinnedNode)) return
  const target = join('..', `node-linux-${process.arch}`, 'bin', 'node')
  if (existsSync(join(modules, '.bin', target))) symlinkSync(target, pinnedNode)
}

async function checkNode() {
  const { code, output } = await capture(pinnedNode, ['--version'])
  if (code === 0 && Number(/^v(\d+)\./.exec(output)?.[1]) >= NODE_MAJOR) return
  throw new Problem({
    what: `npm brought no working Node.js ${NODE_MAJOR} for ${process.platform} ${process.arch}`,
    why: output.trim(),
    remedy: `Heddle runs on Linux x64 and arm64 with glibc; elsewhere link a Node.js ${NODE_MAJOR} of your own to ${pinnedNode}`,
  })
}
