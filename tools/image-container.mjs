/**
 * `npm run image:container`: builds deploy/image/Dockerfile with podman or buildah and runs what is in the image. Its stores, the image's layers too, are in a folder of
 * its own under build/image, which is removed at the end.
 *
 *   node tools/image-container.mjs [--base IMAGE | --rootfs FOLDER] [--mirror URL] [--npm-registry URL] [--ca FILE] [--output FILE] [--keep]
 *
 * Without --base no container registry is asked: the base image is made by debootstrap, from the mirror that this machine's apt uses unless another is given.
 * Exits with 77 where this machine cannot do it, and says why.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { buildDir, root } from './paths.mjs'
import { Problem, runTool } from './setup/problem.mjs'
import { seconds } from './setup/step.mjs'

const CANNOT = 77
const BASE = 'localhost/heddle-base:bookworm'
const IMAGE = 'localhost/heddle:container'
/** For one step (ms): the mirrors may be slow. */
const STEP = 1_200_000

const options = {
  base: { type: 'string' },
  /** A root file system that debootstrap made before. */
  rootfs: { type: 'string' },
  mirror: { type: 'string' },
  'npm-registry': { type: 'string' },
  /** Certificates that npm is to trust in the build as well. */
  ca: { type: 'string', default: process.env['NODE_EXTRA_CA_CERTS'] },
  output: { type: 'string' },
  keep: { type: 'boolean', default: false },
}

/** Images and containers in a folder of their own. Both tools take the same words. */
class Store {
  #tool
  #work
  #words

  /** @param {string} tool @param {string} work */
  constructor(tool, work) {
    this.#tool = tool
    this.#work = work
    this.#words = ['--root', join(work, 'store'), '--runroot', join(work, 'run'), '--storage-driver', 'vfs']
  }

  /** @param {string} file @param {string} context @param {string} tag @param {readonly string[]} more */
  build(file, context, tag, more = []) {
    const network = more.includes('--network') ? [] : ['--network', 'host']
    this.#run([
      'build',
      '--isolation',
      'chroot',
      // The store knows no overlays: each layer would be a copy of everything.
      '--layers=false',
      ...network,
      '--file',
      file,
      '--tag',
      tag,
      ...more,
      context,
    ])
  }

  /** @param {string} image @param {string} file */
  push(image, file) {
    this.#run(['push', image, `oci-archive:${file}`])
  }

  remove() {
    // Layers may be mounted still.
    spawnSync(
      this.#tool,
      [...this.#words, ...(this.#tool === 'podman' ? ['system', 'reset', '--force'] : ['rmi', '--all', '--force'])],
      {
        stdio: 'ignore',
        timeout: 120_000,
      },
    )
    rmSync(this.#work, { recursive: true, force: true })
  }

  /** @param {readonly string[]} words */
  #run(words) {
    execFileSync(this.#tool, [...this.#words, ...words], {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: STEP,
    })
  }
}

await runTool('image:container', async () => {
  const { values } = parseArgs({ options })
  const tool = ['buildah', 'podman'].find(isInstalled)
  const why = cannot(tool, values.base ?? values.rootfs)
  if (why !== undefined) {
    console.log(`image:container: not here: ${why}`)
    return CANNOT
  }
  mkdirSync(join(buildDir, 'image'), { recursive: true })
  const work = mkdtempSync(join(buildDir, 'image', 'container-'))
  const store = new Store(tool, work)
  try {
    const base = values.base ?? makeBase(store, work, values)
    step('the image by its Dockerfile', () => {
      const npmrc = join(work, 'npmrc')
      const trusted = values.ca === undefined ? '' : 'cafile=/root/trusted.pem\n'
      writeFileSync(npmrc, `registry=${values['npm-registry'] ?? registryOfNpm()}\n${trusted}`)
      const volumes = [
        ['--volume', `${npmrc}:/root/.npmrc:ro`],
        values.ca === undefined ? [] : ['--volume', `${resolve(values.ca)}:/root/trusted.pem:ro`],
      ]
      const pull = values.base === undefined ? ['--pull=never'] : []
      const more = ['--build-arg', `BASE=${base}`, ...volumes.flat(), ...pull]
      store.build('deploy/image/Dockerfile', root, IMAGE, more)
    })
    step('its programs run', () => {
      const file = join(work, 'check.Dockerfile')
      writeFileSync(file, checks())
      store.build(file, work, `${IMAGE}-checked`, ['--network', 'none', '--pull=never'])
    })
    const output = values.output
    if (output !== undefined) step(`written to ${output}`, () => store.push(IMAGE, resolve(output)))
  } finally {
    if (!values.keep) store.remove()
  }
  return 0
})

/** What has to be there and do something, in a container without a network. */
function checks() {
  const runs = [
    ['/opt/bin/flanneld', '--version'],
    ['heddle', '--version'],
    ['nft', '--version'],
    ['iptables', '--version'],
    ['test', '-x', '/flannel'],
    ['test', '-x', '/usr/lib/heddle/cni/bridge'],
  ]
  return [`FROM ${IMAGE}`, ...runs.map((words) => `RUN ${JSON.stringify(words)}`), ''].join('\n')
}

/** @param {string | undefined} tool @param {string | undefined} base */
function cannot(tool, base) {
  if (process.getuid?.() !== 0) return 'needs root, for container storage'
  if (tool === undefined)
    return 'neither buildah nor podman is installed (apt-get install --no-install-recommends buildah)'
  if (base === undefined && !isInstalled('debootstrap'))
    return 'no base image is given, and debootstrap, which makes one, is not installed'
  return undefined
}

/** @param {string} program */
function isInstalled(program) {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin'].some((folder) =>
    existsSync(join(folder, program)),
  )
}

/** @param {Store} store @param {string} work @param {{ rootfs?: string, mirror?: string }} from */
function makeBase(store, work, { rootfs, mirror }) {
  const folder = join(work, 'base')
  const made = join(folder, 'rootfs')
  mkdirSync(folder)
  if (rootfs === undefined)
    step('a root file system, by debootstrap', () =>
      execFileSync('debootstrap', ['--variant=minbase', 'bookworm', made, mirror ?? mirrorOfApt()], {
        stdio: ['ignore', 'ignore', 'inherit'],
        timeout: STEP,
      }),
    )
  step('a base image of it', () => {
    const archive = join(folder, 'base.tar')
    execFileSync('tar', ['--numeric-owner', '-C', rootfs ?? made, '-cf', archive, '.'], { timeout: STEP })
    rmSync(made, { recursive: true, force: true })
    writeFileSync(join(folder, 'Dockerfile'), 'FROM scratch\nADD base.tar /\nCMD ["/bin/bash"]\n')
    store.build(join(folder, 'Dockerfile'), folder, BASE)
    rmSync(folder, { recursive: true, force: true })
  })
  return BASE
}

/** The first mirror in apt's sources, in either of its two formats. */
function mirrorOfApt() {
  const folder = '/etc/apt/sources.list.d'
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []),
  ]
  const text = files
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n')
  const found = /^\s*(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s*)?)(https?:\/\/\S+)/m.exec(text)?.[1]
  if (found === undefined)
    throw new Problem({
      what: "apt's sources name no mirror with http",
      remedy: 'name one with --mirror, or an image with --base',
    })
  return found
}

function registryOfNpm() {
  const stdio = ['ignore', 'pipe', 'ignore']
  return execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8', stdio, timeout: 60_000 }).trim()
}

/** @param {string} what @param {() => void} work */
function step(what, work) {
  const started = Date.now()
  work()
  console.log(`image:container: ${what} (${seconds(Date.now() - started)})`)
}
