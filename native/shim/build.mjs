// Builds build/shim with musl, or statically with the system's C library. Runs on any Node from 18 on; does nothing when the shim is newer than its sources.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')

const flags = [
  '-std=gnu11',
  '-static',
  '-Os',
  '-s',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-ffunction-sections',
  '-fdata-sections',
]
const link = ['-Wl,--gc-sections', '-Wl,-z,norelro', '-Wl,--build-id=none']

/** Builds if needed; returns the shim's path, whether it was built, and a note where the result is larger than it should be. */
export function buildShim({ force = false } = {}) {
  const target = join(root, 'build', 'shim')
  const manifest = join(root, 'package.json')
  const names = readdirSync(here).filter((name) => /\.(c|h|mjs)$/.test(name))
  const inputs = [...names.map((name) => join(here, name)), manifest]
  const newest = Math.max(...inputs.map((file) => statSync(file).mtimeMs))
  if (!force && existsSync(target) && statSync(target).mtimeMs >= newest) return { path: target, built: false }
  mkdirSync(dirname(target), { recursive: true })
  const { version } = JSON.parse(readFileSync(manifest, 'utf8'))
  // Built beside and renamed: a shim that runs meanwhile is never half a file.
  const fresh = `${target}.${process.pid}`
  const sources = names.filter((name) => name.endsWith('.c')).map((name) => join(here, name))
  const rest = [...flags, `-DHEDDLE_VERSION="${version}"`, '-o', fresh, ...sources, ...link]
  const note = compile(rest)
  renameSync(fresh, target)
  return { path: target, built: true, note }
}

/** musl-gcc makes a few kilobytes; without it glibc's static library does, larger. */
function compile(rest) {
  try {
    execFileSync('musl-gcc', rest, { stdio: 'pipe' })
    return undefined
  } catch (error) {
    if (error.code !== 'ENOENT')
      throw new Error(`musl-gcc could not build the shim:\n${error.stderr ?? error.message}`, { cause: error })
  }
  const compiler = process.env.CC ?? 'cc'
  try {
    execFileSync(compiler, rest, { stdio: 'pipe' })
    return 'note: built with glibc, which makes the shim larger: apt-get install musl-tools'
  } catch (error) {
    if (error.code === 'ENOENT')
      throw new Error(`no C compiler (musl-gcc, ${compiler}): apt-get install gcc libc6-dev musl-tools`, {
        cause: error,
      })
    throw new Error(`${compiler} could not build the shim:\n${error.stderr ?? error.message}`, { cause: error })
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { path, built, note } = buildShim({ force: process.argv.includes('--force') })
    process.stdout.write(`${built ? 'built' : 'up to date:'} ${path}\n`)
    if (note !== undefined) process.stdout.write(`${note}\n`)
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
