import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { buildDir } from '../paths.mjs'
import { updateLists } from '../setup/debian.mjs'
import { Problem } from '../setup/problem.mjs'
import { capture, lastLines, mustRun, step } from '../setup/step.mjs'

/** Debian's newest kernel for virtual machines: a package that only depends on the one of the current version. */
const META_PACKAGE = 'linux-image-cloud-amd64'
const PARTS = ['/boot/vmlinuz-', '/lib/modules/']

/** @typedef {{ version: string, image: string, modules: string }} Kernel `modules` is the folder that `/lib/modules` is in the machine */

/**
 * Debian's kernel, unpacked below build/vm and not installed: this machine's /boot and /lib/modules stay as they are.
 * Fetched once; delete build/vm to get a newer one.
 *
 * @returns {Promise<Kernel>}
 */
export async function debianKernel() {
  const folder = join(buildDir, 'vm', 'kernel')
  if (!existsSync(join(folder, 'version'))) await step('Debian’s kernel for the virtual machine', () => fetch(folder))
  const version = readFileSync(join(folder, 'version'), 'utf8')
  return { version, image: join(folder, `boot/vmlinuz-${version}`), modules: join(folder, 'lib/modules') }
}

async function fetch(folder) {
  const work = `${folder}.${process.pid}`
  mkdirSync(work, { recursive: true })
  try {
    const name = await currentPackage()
    await mustRun('apt-get', ['download', '-q', name], {
      what: `downloading ${name}`,
      remedy: 'check /etc/apt/sources.list and the connection to the Debian mirror, or run apt-get update',
      env: { LC_ALL: 'C' },
      cwd: work,
    })
    const archive = join(work, readdirSync(work).find((file) => file.endsWith('.deb')) ?? '')
    await mustRun('dpkg-deb', ['-x', archive, work], { what: `unpacking ${archive}` })
    rmSync(archive)
    // Newer releases have no /lib of their own: it is a link to /usr/lib.
    if (!existsSync(join(work, 'lib/modules'))) renameSync(join(work, 'usr/lib'), join(work, 'lib'))
    const [version] = readdirSync(join(work, 'lib/modules'))
    if (version === undefined || !PARTS.every((part) => existsSync(join(work, part + version)))) {
      throw new Problem({ what: `${name} holds no ${PARTS.join('… and no ')}…`, remedy: 'tell the project' })
    }
    // The package leaves to its installation the table by which modprobe finds a module and what it needs.
    await mustRun('depmod', ['-b', work, version], { what: `listing the modules of ${version}` })
    writeFileSync(join(work, 'version'), version)
    rmSync(folder, { recursive: true, force: true })
    renameSync(work, folder)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

async function currentPackage() {
  const ask = () => capture('apt-cache', ['depends', META_PACKAGE], { env: { LC_ALL: 'C' } })
  let answer = await ask()
  if (answer.code !== 0) {
    await updateLists()
    answer = await ask()
  }
  const name = /Depends: (linux-image-\S+)/.exec(answer.output)?.[1]
  if (name !== undefined) return name
  throw new Problem({
    what: `apt knows no ${META_PACKAGE}`,
    why: lastLines(answer.output, 3),
    remedy: 'use a Debian machine (12 or later) on x64: the virtual machine runs its kernel',
  })
}
