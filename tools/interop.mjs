/**
 * `npm run test:interop`: builds the released flanneld from its Go module and runs it in one cluster with Heddle (test/interop).
 *
 *   npm run test:interop              with the backends that this machine's kernel has, and with leases in etcd
 *   npm run test:interop -- --vm      ipip and wireguard, under Debian's kernel in a virtual machine
 *
 * Needs the Go toolchain and a Go module proxy; nothing of flannel comes into the repository. Exit status: the tests'; 77 where this machine cannot do it.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { buildDir, pinnedNode, root } from './paths.mjs'

const MODULE = 'github.com/flannel-io/flannel'
const VERSION = process.env['HEDDLE_FLANNEL_VERSION'] ?? 'v0.27.4'
const CANNOT = 77
const BUILD_LIMIT_MS = 20 * 60_000

const target = join(buildDir, 'interop', `flanneld-${VERSION}`)

/** Downloads and compiles in a folder of its own. The module's dependencies are checked against its own go.sum. */
function build() {
  const work = join(tmpdir(), `heddle-interop-${process.pid}`)
  mkdirSync(work, { recursive: true })
  try {
    const go = (cwd, ...args) =>
      execFileSync('go', args, {
        cwd,
        encoding: 'utf8',
        timeout: BUILD_LIMIT_MS,
        stdio: ['ignore', 'pipe', 'inherit'],
        // Its udp backend is C.
        env: { ...process.env, CGO_ENABLED: '1', GOTOOLCHAIN: 'local' },
      })
    writeFileSync(join(work, 'go.mod'), 'module interop\n\ngo 1.24\n')
    const { Dir } = JSON.parse(go(work, 'mod', 'download', '-json', `${MODULE}@${VERSION}`))
    const source = join(work, 'source')
    cpSync(Dir, source, { recursive: true })
    spawnSync('chmod', ['-R', 'u+w', source])
    mkdirSync(join(buildDir, 'interop'), { recursive: true })
    go(source, 'build', '-o', `${target}.tmp`, '.')
    renameSync(`${target}.tmp`, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (spawnSync('go', ['version']).error !== undefined) {
  console.error('test:interop: there is no Go toolchain: apt-get install golang-go, or https://go.dev/dl/')
  process.exit(CANNOT)
}
if (!existsSync(target)) {
  console.log(`test:interop: building ${MODULE}@${VERSION} …`)
  try {
    build()
  } catch (error) {
    console.error(
      `test:interop: ${MODULE}@${VERSION} cannot be built: ${error instanceof Error ? error.message : String(error)}`,
    )
    console.error(
      '  It comes from the Go module proxy (GOPROXY). Where the checksum database cannot be reached: GONOSUMDB=' +
        MODULE,
    )
    process.exit(CANNOT)
  }
}
const files = ['test/interop/flannel.test.ts', 'test/interop/flannel-etcd.test.ts']
const options = process.argv.slice(2)
const args = options.includes('--vm')
  ? ['tools/vm.mjs', files[0], ...options.filter((option) => option !== '--vm')]
  : ['--test', '--test-concurrency=1', ...files, ...options]
const { status } = spawnSync(pinnedNode, args, {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, HEDDLE_FLANNELD: target },
})
process.exit(status ?? 1)
