// Builds build/addon.node with the C compiler. Runs on any Node from 18 on; does nothing when the addon is newer than its sources.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')

/** Builds if needed; returns the addon's path and whether it was built. Throws with the compiler's words when it fails. */
export function buildAddon({ force = false } = {}) {
  const target = join(root, 'build', 'addon.node')
  const headers = join(root, 'node_modules', 'node-api-headers', 'include')
  const inputs = readdirSync(here).filter((name) => /\.(c|h|mjs)$/.test(name))
  const newest = Math.max(...inputs.map((name) => statSync(join(here, name)).mtimeMs))
  if (!force && existsSync(target) && statSync(target).mtimeMs >= newest) return { path: target, built: false }
  if (!existsSync(headers)) throw new Error(`${headers} is missing: run npm install first`)
  mkdirSync(dirname(target), { recursive: true })
  // Built beside and renamed, so that a process that starts meanwhile never loads half a file.
  const fresh = `${target}.${process.pid}`
  const flags = ['-shared', '-fPIC', '-O2', '-g', '-std=gnu11', '-fvisibility=hidden', '-Wall', '-Wextra', '-Werror']
  const sources = inputs.filter((name) => name.endsWith('.c')).map((name) => join(here, name))
  const compiler = process.env.CC ?? 'cc'
  try {
    execFileSync(compiler, [...flags, '-I', headers, '-o', fresh, ...sources, '-pthread'], { stdio: 'pipe' })
  } catch (error) {
    if (error.code === 'ENOENT')
      throw new Error(`no C compiler (${compiler}): install one, for example: apt-get install gcc libc6-dev`, {
        cause: error,
      })
    throw new Error(`${compiler} could not build the addon:\n${error.stderr ?? error.message}`, { cause: error })
  }
  renameSync(fresh, target)
  return { path: target, built: true }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { path, built } = buildAddon({ force: process.argv.includes('--force') })
    process.stdout.write(`${built ? 'built' : 'up to date:'} ${path}\n`)
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
