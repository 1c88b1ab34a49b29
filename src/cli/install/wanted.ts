/** Which files an installation consists of, with their content's hash. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { parseConfList } from '#cni/runtime/conflist.ts'
import { CliError, usageError } from '../fail.ts'
import { say } from '../language.ts'
import { sha256Of } from './apply.ts'
import type { WantedFile } from './plan.ts'

/** Where the shims look for what they need without an agent, besides the parent of their own directory; native/shim/standalone.c has the same. */
export const STANDALONE = '/usr/lib/heddle'

export interface Places {
  readonly bin: string
  readonly lib: string
  readonly conf: string
}

export interface WantedOptions {
  readonly from: string
  readonly places: Places
  readonly standalone: boolean
  /** Undefined for none. */
  readonly configuration: { readonly name: string; readonly text: string } | undefined
}

/** The build that this program belongs to: `lib` of a build, or a checkout's `dist`. */
export function ownBuild(here: string): string {
  const beside = dirname(here)
  return existsSync(join(beside, 'lib', 'cni.mjs')) ? beside : join(here, '../../../dist')
}

/** What flannel installs, in a version that old runtimes take and newer ones raise. */
export const USUAL = `${JSON.stringify(
  {
    name: 'cbr0',
    cniVersion: '1.0.0',
    cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
    plugins: [
      { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  },
  undefined,
  2,
)}\n`

/** Throws CliError for a build without its parts, for places that the plugins would not find, and for a configuration that a runtime would refuse. */
export function wantedFiles({ from, places, standalone, configuration }: WantedOptions): readonly WantedFile[] {
  const parent = dirname(places.bin)
  if (standalone && places.lib !== STANDALONE && places.lib !== parent)
    throw usageError(say('install.badLib', { path: places.lib }), say('install.badLibRemedy', { parent }))
  const libraries = [
    ['lib/cni.mjs', 0o644],
    ['lib/addon.node', 0o644],
    ['bin/node', 0o755],
  ] as const
  for (const missing of ['cni', ...(standalone ? libraries.map(([name]) => name) : [])]) {
    if (existsSync(join(from, missing))) continue
    const remedy = say('install.noBuildRemedy')
    throw new CliError('NOT_FOUND', say('install.noBuild', { path: from, missing }), { remedy })
  }
  const file = (path: string, source: string, mode: number, kind: WantedFile['kind']): WantedFile => ({
    path,
    mode,
    kind,
    sha256: sha256Of(readFileSync(source)),
    from: { file: source },
  })
  return [
    ...(standalone
      ? libraries.map(([name, mode]) => file(join(places.lib, name), join(from, name), mode, 'library'))
      : []),
    ...readdirSync(join(from, 'cni'))
      .toSorted((a, b) => (a < b ? -1 : 1))
      .map((type) => file(join(places.bin, type), join(from, 'cni', type), 0o755, 'plugin')),
    ...(configuration === undefined ? [] : [configurationFile(places.conf, configuration)]),
  ]
}

function configurationFile(
  folder: string,
  { name, text }: { readonly name: string; readonly text: string },
): WantedFile {
  if (basename(name) !== name || !/^[^.].*\.conflist$/.test(name))
    throw usageError(say('install.badName', { name }), say('install.badNameRemedy'))
  parseConfList(text, name)
  return { path: join(folder, name), mode: 0o644, kind: 'configuration', sha256: sha256Of(text), from: { text } }
}
