/**
 * Completes package-lock.json with the optional packages of platforms that the registry at hand does not carry.
 *
 * npm leaves such packages out when it writes the file, and `npm ci` then refuses the whole file as incomplete.
 * An entry that no platform here matches is never fetched, so its version, system and processor are enough.
 *
 *   node tools/lockfile.mjs            after every `npm install` that changes package-lock.json
 *   node tools/lockfile.mjs --check    only says what is missing
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { root } from './paths.mjs'
import { Problem, runTool } from './setup/problem.mjs'

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32']
const PROCESSORS = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'wasm32', 'x64']

/** `@oxlint/binding-linux-arm-gnueabihf` → linux, arm, glibc; undefined where the name tells no platform. */
export function platformOf(name) {
  const words = name.slice(name.indexOf('/') + 1).split('-')
  const os = words.find((word) => SYSTEMS.includes(word))
  const cpu = words.find((word) => PROCESSORS.includes(word))
  if (os === undefined || cpu === undefined) return undefined
  const abi = words[words.length - 1] ?? ''
  const libc =
    os !== 'linux' ? undefined : abi.startsWith('musl') ? 'musl' : abi.startsWith('gnu') ? 'glibc' : undefined
  return { os: [os], cpu: [cpu], ...(libc === undefined ? {} : { libc: [libc] }) }
}

/** @returns {Record<string, object>} the entries that `lock` lacks, by path */
export function missingEntries(lock) {
  const missing = {}
  for (const owner of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(owner.optionalDependencies ?? {})) {
      const path = `node_modules/${name}`
      if (lock.packages[path] !== undefined) continue
      const platform = platformOf(name)
      if (platform === undefined || !/^\d+\.\d+\.\d+/.test(version)) continue
      missing[path] = { version, ...(owner.dev === true ? { dev: true } : {}), optional: true, ...platform }
    }
  }
  return missing
}

/** The same lock with the entries added, in npm's order. */
export function completed(lock) {
  const entries = Object.entries({ ...lock.packages, ...missingEntries(lock) })
  entries.sort(([a], [b]) => a.localeCompare(b, 'en'))
  return { ...lock, packages: Object.fromEntries(entries) }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await runTool('lockfile', () => {
    const file = join(root, 'package-lock.json')
    const lock = JSON.parse(readFileSync(file, 'utf8'))
    const missing = Object.keys(missingEntries(lock))
    if (missing.length === 0) return 0
    if (process.argv.includes('--check')) {
      throw new Problem({
        what: `package-lock.json lacks ${missing.length} optional packages of other platforms, such as ${missing[0]}`,
        why: '`npm ci` refuses such a file',
        remedy: 'node tools/lockfile.mjs',
      })
    }
    writeFileSync(file, `${JSON.stringify(completed(lock), undefined, 2)}\n`)
    console.log(`package-lock.json: added ${missing.length} optional packages of other platforms`)
    return 0
  })
}
