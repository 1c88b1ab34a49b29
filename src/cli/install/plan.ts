/** What an installation or its removal changes: pure, from what is wanted, what is there, and what the manifest says. */

import { basename, dirname, extname } from 'node:path'

import type { InstalledFile, Manifest } from './manifest.ts'

/** A file that shall be there. */
export interface WantedFile {
  readonly path: string
  readonly sha256: string
  readonly mode: number
  /** Where its content comes from: a file of the build, or text. */
  readonly from: { readonly file: string } | { readonly text: string }
  readonly kind: 'library' | 'plugin' | 'configuration'
}

/** What is at a path now. */
export interface SeenFile {
  readonly sha256: string
  /** A shim of Heddle, of whichever version. */
  readonly isShim: boolean
}

export type Action =
  | { readonly do: 'create' | 'replace' | 'keep'; readonly file: WantedFile }
  /** A foreign file goes to the backups before ours takes its place. */
  | { readonly do: 'take-over'; readonly file: WantedFile; readonly backup: string }
  | { readonly do: 'disable' | 'enable'; readonly path: string; readonly as: string }
  | { readonly do: 'remove'; readonly path: string; readonly sha256: readonly string[] }
  | { readonly do: 'restore'; readonly path: string; readonly backup: string; readonly sha256: readonly string[] }
  /** It was changed since: it is not ours to remove any more. */
  | { readonly do: 'leave'; readonly path: string }

/** Why an installation is refused without --force. */
export interface Conflict {
  readonly why: 'foreign-file' | 'earlier-configuration'
  readonly path: string
}

export interface InstallPlan {
  readonly actions: readonly Action[]
  readonly conflicts: readonly Conflict[]
  /** Written before the first action, and after the last. */
  readonly journal: Manifest
  readonly manifest: Manifest
}

export interface InstallFacts {
  readonly heddle: string
  readonly wanted: readonly WantedFile[]
  readonly manifest: Manifest
  readonly seen: (path: string) => SeenFile | undefined
  /** Names in the configuration directory that runtimes load. */
  readonly configurations: readonly string[]
}

export const DISABLED = '.heddle-disabled'

/** Configurations come last and go first: a runtime must find every plugin that one names. */
const order = { library: 0, plugin: 1, configuration: 2 } as const

export function planInstall({ heddle, wanted, manifest, seen, configurations }: InstallFacts): InstallPlan {
  const known = new Map(manifest.files.map((file) => [file.path, file]))
  const actions: Action[] = []
  const conflicts: Conflict[] = []
  const files: InstalledFile[] = []
  const configuration = wanted.find(({ kind }) => kind === 'configuration')
  const earlier = configuration === undefined ? [] : namesBefore(configuration.path, configurations)
  const disabled = [...manifest.disabled]
  for (const file of wanted.toSorted((a, b) => order[a.kind] - order[b.kind])) {
    const now = seen(file.path)
    const former = known.get(file.path)
    const owned = former === undefined ? [] : [former.sha256, ...former.former]
    const isOurs = now !== undefined && (now.isShim || now.sha256 === file.sha256 || owned.includes(now.sha256))
    const backup = former?.backup
    const entry = { path: file.path, sha256: file.sha256, former: owned.filter((hash) => hash !== file.sha256) }
    if (file === configuration) {
      for (const path of earlier) {
        conflicts.push({ why: 'earlier-configuration', path })
        actions.push({ do: 'disable', path, as: `${path}${DISABLED}` })
        if (!disabled.some((one) => one.path === path)) disabled.push({ path, as: `${path}${DISABLED}` })
      }
    }
    if (now === undefined || isOurs) {
      actions.push({ do: now === undefined ? 'create' : now.sha256 === file.sha256 ? 'keep' : 'replace', file })
      files.push(backup === undefined ? entry : { ...entry, backup })
    } else {
      conflicts.push({ why: 'foreign-file', path: file.path })
      const name = backup ?? backupName(file.path)
      actions.push({ do: 'take-over', file, backup: name })
      files.push({ ...entry, backup: name })
    }
  }
  const dropped = manifest.files.filter(({ path }) => !wanted.some((file) => file.path === path))
  actions.push(...dropped.map((file) => takeAway(file, seen)))
  return {
    actions,
    conflicts,
    journal: { version: 1, heddle, files: [...files, ...dropped], disabled },
    manifest: { version: 1, heddle, files: files.map((file) => ({ ...file, former: [] })), disabled },
  }
}

/** Runtimes take the first file by the bytes of its name. */
function namesBefore(path: string, configurations: readonly string[]): readonly string[] {
  const own = Buffer.from(basename(path))
  return configurations
    .filter((name) => Buffer.compare(Buffer.from(name), own) < 0)
    .map((name) => `${dirname(path)}/${name}`)
}

/** What containerd, CRI-O and libcni load. */
export const isConfiguration = (name: string): boolean => ['.conf', '.conflist', '.json'].includes(extname(name))

/** One name for each path. */
const backupName = (path: string): string => path.replaceAll('%', '%25').replaceAll('/', '%2F')

/** Configurations first, then what they need. */
export function planUninstall(manifest: Manifest, seen: (path: string) => SeenFile | undefined): readonly Action[] {
  return [
    ...manifest.files.toReversed().map((file) => takeAway(file, seen)),
    ...manifest.disabled.map(({ path, as }): Action => ({ do: 'enable', path, as })),
  ]
}

function takeAway(
  { path, sha256, former, backup }: InstalledFile,
  seen: (path: string) => SeenFile | undefined,
): Action {
  const now = seen(path)
  const hashes = [sha256, ...former]
  if (now !== undefined && !hashes.includes(now.sha256)) return { do: 'leave', path }
  return backup === undefined ? { do: 'remove', path, sha256: hashes } : { do: 'restore', path, backup, sha256: hashes }
}
