import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { buildDir, commandPath } from '../paths.mjs'
import { Problem } from './problem.mjs'
import { capture, lastLines, mustRun, step } from './step.mjs'

const QUIET = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }
const LOCK_WAIT = ['-o', 'DPkg::Lock::Timeout=300']
const LISTS = '/var/lib/apt/lists'
/** Optional packages that this release lacks, one a line: not asked for again until the file is deleted. */
const unavailableFile = join(buildDir, 'unavailable-packages')

/**
 * The requirements that are not met, less the optional ones already found to be unavailable.
 *
 * @param {readonly import('./requirements.mjs').Requirement[]} requirements
 */
export function missingOf(requirements) {
  const missing = requirements.filter(isMissing)
  if (missing.length === 0 || !existsSync(unavailableFile)) return missing
  const unavailable = new Set(readFileSync(unavailableFile, 'utf8').split('\n'))
  return missing.filter((requirement) => requirement.essential || !unavailable.has(requirement.package))
}

const isMissing = ({ commands = [], files = [] }) =>
  commands.some((name) => commandPath(name) === undefined) || files.some((file) => !existsSync(file))

/** Nobody works on a CI machine, and it is thrown away. */
const mayDisturb = () => (process.env.CI ?? '') !== ''

/**
 * What this machine shall have. Outside CI that is not what would disturb it.
 *
 * @param {readonly import('./requirements.mjs').Requirement[]} requirements
 */
export const wantedHere = (requirements) =>
  mayDisturb() ? requirements : requirements.filter(({ disturbs }) => disturbs !== true)

/** The command that a person would type. */
export const installCommand = (packages) =>
  `apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`

const isDebian = () => existsSync('/etc/debian_version') && commandPath('apt-get') !== undefined

/** Can this process install Debian packages? If not, why. */
function obstacle() {
  if (!isDebian()) {
    return 'this is not Debian or a relative of it, so the packages have other names or another tool here'
  }
  return process.getuid?.() === 0 ? undefined : 'only root may install packages'
}

/**
 * Installs the Debian packages whose commands or files are missing.
 *
 * @param {readonly import('./requirements.mjs').Requirement[]} requirements
 * @throws {Problem} where something essential is missing and cannot be installed
 */
export async function installDebianPackages(requirements) {
  const missing = missingOf(wantedHere(requirements))
  nameDisturbing(requirements)
  if (missing.length === 0) return
  const essential = missing.filter((requirement) => requirement.essential).map((requirement) => requirement.package)
  const optional = missing.filter((requirement) => !requirement.essential).map((requirement) => requirement.package)
  const why = obstacle()
  if (why !== undefined) {
    const list = missing.map((requirement) => `${requirement.package} (${requirement.why})`).join(', ')
    if (essential.length > 0) {
      throw new Problem({
        what: `missing on this machine: ${list}`,
        why,
        remedy: `${isDebian() ? 'run as root' : 'install what they contain; on Debian it would be'}: ${installCommand([...essential, ...optional])}`,
      })
    }
    console.log(`setup: not here: ${list}; some checks will be skipped. To have them: ${installCommand(optional)}`)
    return
  }
  await step(`Debian packages ${[...essential, ...optional].join(', ')}`, async () => {
    if (!hasLists()) await updateLists()
    await withoutServices(async () => {
      if (essential.length > 0) await installEssential(essential)
      if (optional.length > 0) await installOptional(optional)
    })
  })
  const still = missingOf(requirements.filter((requirement) => requirement.essential))
  if (still.length > 0) {
    const names = still.map((requirement) => requirement.package).join(' ')
    throw new Problem({
      what: `still missing after apt-get installed ${names}`,
      why: still.map(({ commands = [], files = [] }) => [...commands, ...files].join(', ')).join('; '),
      remedy: `apt-get install --reinstall ${names}, and look for its files with dpkg -L`,
    })
  }
}

/** @param {readonly import('./requirements.mjs').Requirement[]} requirements */
function nameDisturbing(requirements) {
  if (mayDisturb()) return
  const names = requirements.filter((one) => one.disturbs === true && isMissing(one)).map((one) => one.package)
  if (names.length === 0) return
  console.log(
    `setup: not installed by itself, because it starts services or replaces others: ${names.join(', ')}; the tests that need it are skipped. To have it: ${installCommand(names)}`,
  )
}

/** Debian asks this program whether a service that was just installed may start. 101: no. */
const POLICY = '/usr/sbin/policy-rc.d'
const NO = '#!/bin/sh\n# Put here by the set-up of Heddle while it installs packages; it may be removed.\nexit 101\n'

/** Also takes away what a set-up that was killed left behind. */
async function withoutServices(install) {
  const isForeign = existsSync(POLICY) && readFileSync(POLICY, 'utf8') !== NO
  if (isForeign) return install()
  writeFileSync(POLICY, NO, { mode: 0o755 })
  try {
    return await install()
  } finally {
    rmSync(POLICY, { force: true })
  }
}

const hasLists = () => existsSync(LISTS) && readdirSync(LISTS).some((name) => name.includes('_Packages'))

/** Like `apt-get update`. */
export async function updateLists() {
  // The lock of the lists has no timeout option of its own, unlike dpkg's.
  for (let attempt = 0; ; attempt += 1) {
    const { code, output } = await capture('apt-get', ['update', '-q'], { env: QUIET, timeoutMs: 300_000 })
    if (code === 0) return
    if (attempt >= 30 || !output.includes('Could not get lock')) {
      throw new Problem({
        what: 'apt-get update failed',
        why: lastLines(output, 10),
        remedy: 'check /etc/apt/sources.list and the connection to the Debian mirror',
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 2_000))
  }
}

const installArgs = (packages) => ['install', '-y', '-q', '--no-install-recommends', ...LOCK_WAIT, ...packages]

async function installEssential(packages) {
  const first = await capture('apt-get', installArgs(packages), { env: QUIET })
  if (first.code === 0) return
  // Old lists name versions that the mirror no longer has.
  await updateLists()
  await mustRun('apt-get', installArgs(packages), {
    what: 'installing Debian packages',
    remedy: `run as root and read its answer: ${installCommand(packages)}`,
    env: QUIET,
  })
}

/** All at once where that works, else one by one: a release may lack one of them. */
async function installOptional(packages) {
  const { code } = await capture('apt-get', installArgs(packages), { env: QUIET })
  if (code === 0) return
  await updateLists()
  const unavailable = []
  for (const name of packages) {
    const { code: failed, output } = await capture('apt-get', installArgs([name]), { env: QUIET })
    if (failed === 0) continue
    unavailable.push(name)
    console.log(`setup: no ${name} (some checks will be skipped): ${lastLines(output, 1)}`)
  }
  mkdirSync(buildDir, { recursive: true })
  writeFileSync(unavailableFile, unavailable.join('\n'))
}
