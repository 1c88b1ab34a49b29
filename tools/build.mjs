// Makes dist/: the shim under every plugin type's name, the bundles, the addon, Node.js, and the `heddle` command. Does only what is out of date.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { buildAddon } from '../native/addon/build.mjs'
import { buildShim } from '../native/shim/build.mjs'
import { buildDir, pinnedNode, root } from './paths.mjs'

const dist = join(root, 'dist')
const stampFile = join(buildDir, 'dist.stamp')

/** Each appears whole: a runtime may start a plugin while dist/ is made, and an executable in use cannot be overwritten. */
function place(target, make) {
  const fresh = `${target}.${process.pid}.tmp`
  rmSync(fresh, { force: true })
  make(fresh)
  renameSync(fresh, target)
}

function install(source, target, mode) {
  const want = statSync(source)
  if (existsSync(target)) {
    const have = statSync(target)
    if (have.ino === want.ino || (have.size === want.size && have.mtimeMs >= want.mtimeMs)) return false
  }
  place(target, (fresh) => {
    copyFileSync(source, fresh)
    chmodSync(fresh, mode)
  })
  return true
}

/** Node.js beside the bundles: a hard link, or a copy on another file system. */
function installNode(target) {
  const source = realpathSync(pinnedNode)
  if (existsSync(target) && statSync(target).size === statSync(source).size) return
  place(target, (fresh) => {
    try {
      linkSync(source, fresh)
    } catch {
      copyFileSync(source, fresh)
      chmodSync(fresh, 0o755)
    }
  })
}

function sourceFiles(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sourceFiles(path)
    return entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts') ? [path] : []
  })
}

/** Changes when a source, the packages or this file change. */
function fingerprint() {
  const files = [...sourceFiles(join(root, 'src')), join(root, 'package-lock.json'), fileURLToPath(import.meta.url)]
  const hash = createHash('sha256')
  for (const file of files.toSorted((a, b) => (a < b ? -1 : 1))) {
    const { mtimeMs, size } = statSync(file)
    hash.update(`${file} ${mtimeMs} ${size}\n`)
  }
  return hash.digest('hex')
}

async function bundle() {
  const { build } = await import('esbuild')
  const common = {
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Not the names: they are for stack traces, and keeping them beside shorter ones costs every closure a defineProperty.
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'none',
    logLevel: 'warning',
    // Packages in CommonJS ask for Node.js' modules by require.
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  }
  const fresh = join(buildDir, `bundle.${process.pid}`)
  try {
    await build({
      ...common,
      entryPoints: { cni: 'src/cli/standalone.ts', relay: 'src/cli/relay.ts' },
      outdir: fresh,
      outExtension: { '.js': '.mjs' },
    })
    await build({
      ...common,
      entryPoints: { heddle: 'src/cli/main.ts' },
      outdir: fresh,
      outExtension: { '.js': '.mjs' },
      splitting: true,
      chunkNames: 'heddle-[name]-[hash]',
    })
    const lib = join(dist, 'lib')
    const names = readdirSync(fresh)
    for (const name of names) renameSync(join(fresh, name), join(lib, name))
    const isOld = (name) => /\.mjs(\.map)?$/.test(name) && !names.includes(name)
    if (!isRunning(join(lib, 'heddle.mjs'))) for (const name of readdirSync(lib).filter(isOld)) rmSync(join(lib, name))
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

/** An agent of an earlier build may still load parts of it: they stay until a build that finds none. */
function isRunning(program) {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.some((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(program)
    } catch {
      return false
    }
  })
}

/** Runs the standalone program once, so that its compiled code is there before a runtime needs it. */
function warmUp() {
  const env = {
    CNI_COMMAND: 'VERSION',
    NODE_COMPILE_CACHE: join(dist, 'lib', 'cache'),
    NODE_COMPILE_CACHE_PORTABLE: '1',
  }
  rmSync(env.NODE_COMPILE_CACHE, { recursive: true, force: true })
  spawnSync(join(dist, 'bin', 'node'), [join(dist, 'lib', 'cni.mjs'), 'bridge'], { env, timeout: 30_000 })
}

/** Plugin types, from the registry itself. */
function pluginTypes() {
  const script =
    "import { registry } from '#plugins/registry.ts'; process.stdout.write(JSON.stringify([...registry.keys()]))"
  const output = execFileSync(
    pinnedNode,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script],
    {
      cwd: root,
      encoding: 'utf8',
    },
  )
  return JSON.parse(output)
}

function installShims(shim, types) {
  const folder = join(dist, 'cni')
  for (const type of types) install(shim, join(folder, type), 0o755)
  for (const name of readdirSync(folder)) if (!types.includes(name)) rmSync(join(folder, name), { recursive: true })
}

const launcher = `#!/bin/sh
# The heddle command of a build: dist/ may be moved or copied as a whole.
self=$(readlink -f "$0")
prefix=$(dirname "$(dirname "$self")")
export UV_THREADPOOL_SIZE="\${UV_THREADPOOL_SIZE:-16}"
export NODE_COMPILE_CACHE="\${NODE_COMPILE_CACHE:-$prefix/lib/cache}" NODE_COMPILE_CACHE_PORTABLE=1
# The agent lives long, should stay small (fewer pools of malloc, a smaller nursery), and be quick from its first calls on: V8 compiles what is hot sooner.
export MALLOC_ARENA_MAX="\${MALLOC_ARENA_MAX:-2}"
[ "\${1-}" = agent ] && agent="--max-semi-space-size=4 --no-lazy-feedback-allocation --invocation-count-for-maglev=60"
exec "$prefix/bin/node" \${agent-} --disable-warning=ExperimentalWarning "$prefix/lib/heddle.mjs" "$@"
`

async function main() {
  const started = Date.now()
  for (const folder of ['cni', 'lib', 'bin']) mkdirSync(join(dist, folder), { recursive: true })
  mkdirSync(buildDir, { recursive: true })
  const addon = buildAddon()
  const shim = buildShim()
  if (shim.note !== undefined) console.log(shim.note)
  install(addon.path, join(dist, 'lib', 'addon.node'), 0o644)
  installNode(join(dist, 'bin', 'node'))
  const command = join(dist, 'bin', 'heddle')
  if (!existsSync(command) || readFileSync(command, 'utf8') !== launcher) {
    place(command, (fresh) => writeFileSync(fresh, launcher, { mode: 0o755 }))
  }
  const stamp = fingerprint()
  const last = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, 'utf8')) : {}
  const isCurrent =
    last.stamp === stamp && ['cni.mjs', 'relay.mjs', 'heddle.mjs'].every((name) => existsSync(join(dist, 'lib', name)))
  const types = isCurrent ? last.types : pluginTypes()
  if (!isCurrent) {
    await bundle()
    warmUp()
    writeFileSync(stampFile, JSON.stringify({ stamp, types }))
  }
  installShims(shim.path, types)
  const what = isCurrent ? 'up to date' : `built in ${((Date.now() - started) / 1000).toFixed(1)} s`
  console.log(`dist/ ${what}: ${types.length} plugins (${types.join(', ')})`)
}

if (Number(process.versions.node.split('.')[0]) < 24) {
  // The registry is TypeScript, which the pinned Node.js reads as it is.
  const { status } = spawnSync(pinnedNode, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
} else {
  try {
    await main()
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}
