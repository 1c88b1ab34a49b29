/** The machine that an installation is for: its root, its manifest and its lock, and the two ways of changing it whole. */

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

import { sandboxes } from '#agent/leaks/sandbox.ts'
import { listRecords, recordFolder } from '#cni/attachment/record.ts'
import { failpoints } from '#cni/runtime/host.ts'
import { bootId } from '#sys/bootid.ts'
import { tryLockFile, type FileLock } from '#sys/flock.ts'
import { namesIn } from '#sys/folder.ts'
import { CliError } from '../fail.ts'
import { say } from '../language.ts'
import { applyActions, type Machine } from './apply.ts'
import { removeManifest, writeManifest, type Manifest } from './manifest.ts'
import { isConfiguration, type Action, type InstallPlan } from './plan.ts'

export interface Target {
  readonly root: string
  readonly manifest: string
  readonly machine: Machine
}

/** Paths under a root; undefined or `/` is the machine itself. */
export function targetOf(option: string | undefined): Target {
  const root = option === undefined || resolve(option) === '/' ? '' : resolve(option)
  const failpoint = failpoints(process.env)
  let steps = 0
  return {
    root,
    manifest: join(root, '/var/lib/heddle/cni-install.json'),
    machine: {
      root,
      backups: join(root, '/var/lib/heddle/cni-backup'),
      step: () => failpoint(`install.${steps++}`),
    },
  }
}

/** Journal, files, manifest. Called under the lock; may be done again after a kill at any step. Throws CliError and what the file system throws. */
export function carryOut(plan: InstallPlan, { root, manifest: path, machine }: Target): void {
  machine.step()
  writeManifest(path, plan.journal)
  sweep([...plan.journal.files.map((file) => `${root}${file.path}`), join(machine.backups, 'x')])
  applyActions(plan.actions, machine)
  machine.step()
  writeManifest(path, plan.manifest)
}

/** Undoes what a manifest tells. Called under the lock; may be done again after a kill at any step. */
export function takeBack(
  manifest: Manifest,
  actions: readonly Action[],
  { root, manifest: path, machine }: Target,
): void {
  sweep([...manifest.files.map((file) => `${root}${file.path}`), join(machine.backups, 'x')])
  applyActions(actions, machine)
  machine.step()
  rmSync(machine.backups, { recursive: true, force: true })
  // Compiled code that the plugins have kept beside their program.
  for (const { path: file } of manifest.files)
    if (file.endsWith('/lib/cni.mjs')) rmSync(`${root}${dirname(file)}/cache`, { recursive: true, force: true })
  machine.step()
  removeManifest(path)
}

/** How many attachments live: whoever lives needs the plugins for its DEL. */
export function livingAttachments(root: string): number {
  const stateOf = sandboxes(bootId())
  return listRecords(recordFolder(root)).filter((record) => stateOf(record) === 'live').length
}

/** Throws CliError BUSY while another installation works. */
export function lock(manifest: string): FileLock {
  const path = `${manifest}.lock`
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const held = tryLockFile(path)
  if (held === undefined)
    throw new CliError('BUSY', say('install.busy', { path }), { remedy: say('install.busyRemedy') })
  return held
}

/** Names that runtimes load; none where the folder cannot be read. */
export function configurationsIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).filter(isConfiguration)
  } catch {
    return []
  }
}

/** Half-written files of an installation that was killed. Called under the lock. */
function sweep(paths: readonly string[]): void {
  for (const folder of new Set(paths.map((path) => dirname(path)))) {
    for (const name of namesIn(folder))
      if (/\.[0-9a-f]{8}\.heddle-tmp$/.test(name)) rmSync(join(folder, name), { force: true })
  }
}
