/**
 * Brings a fresh Debian machine to readiness for a purpose: npm packages with the pinned Node.js, Debian packages, the native
 * addon, dist/. What is there already is left alone, so the second time takes a moment.
 *
 *   node tools/setup.mjs [start|test|vm|bench|build|check]
 */

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { buildDir } from './paths.mjs'
import { build } from './setup/built.mjs'
import { installDebianPackages, missingOf, wantedHere } from './setup/debian.mjs'
import { withLock } from './setup/lock.mjs'
import { installNpmPackages, npmPackagesReady } from './setup/npm.mjs'
import { Problem, runTool } from './setup/problem.mjs'
import { requirements } from './setup/requirements.mjs'
import { seconds } from './setup/step.mjs'

/** @param {'start' | 'test' | 'vm' | 'bench' | 'build' | 'check'} purpose */
export async function setup(purpose) {
  const started = Date.now()
  const wanted = requirements[purpose]
  if (wanted === undefined) {
    throw new Problem({
      what: `"${purpose}" is no purpose of setup`,
      remedy: `one of ${Object.keys(requirements).join(', ')}`,
    })
  }
  if (process.platform !== 'linux') {
    throw new Problem({
      what: `Heddle runs on Linux, and this is ${process.platform}`,
      why: 'it is made of Linux network namespaces, netlink and nftables',
      remedy: 'use a Linux machine or virtual machine (Debian 12 or later)',
    })
  }
  const builds = purpose !== 'check'
  const complete = npmPackagesReady() && missingOf(wantedHere(wanted)).length === 0
  if (!complete || builds) {
    // Held while building too: two compilers must not write one file.
    await withLock(join(buildDir, 'setup.lock'), async () => {
      await installDebianPackages(wanted)
      await installNpmPackages()
      if (!builds) return
      await build('addon')
      // `npm run build` runs that builder itself.
      if (purpose !== 'build') await build('dist')
    })
  }
  if (builds) console.log(`setup: ready to ${purpose} (${seconds(Date.now() - started)})`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await runTool('setup', () => setup(process.argv[2] ?? 'start'))
}
