/** Finding plugins: as executables in CNI_PATH, and among Heddle's own. Source: libcni `invoke.FindInPath`. */

import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { isPluginType } from '../config.ts'
import { CniError, invalidConfig } from '../errors.ts'
import { excerpt } from '../json.ts'
import type { Plugin } from '../plugin.ts'

/** Heddle's own plugins by type. */
export type PluginRegistry = ReadonlyMap<string, Plugin>

/** In every shim's read-only data; native/shim/shim.c holds the same text. */
export const shimMarker = 'heddle-cni-shim-marker:5f1c0c1e'

/** No shim is larger, so nothing larger is read. */
const MAX_SHIM_BYTES = 256 * 1024

export type Location =
  | { readonly kind: 'own'; readonly plugin: Plugin }
  | { readonly kind: 'executable'; readonly file: string }

/**
 * Where a plugin type runs. A shim of ours in CNI_PATH means Heddle's own plugin, in this process; so does a type of ours that CNI_PATH
 * lacks (the directory may not be mounted where the agent runs). Any other file is executed. Throws CniError code 7.
 */
export function locate(type: string, path: readonly string[], registry: PluginRegistry): Location {
  const file = findInPath(type, path)
  const plugin = registry.get(type)
  if (plugin !== undefined && (file === undefined || isShim(file))) return { kind: 'own', plugin }
  if (file !== undefined) return { kind: 'executable', file }
  throw notFound(type, path)
}

/** The executable's path. Throws CniError code 7. */
export function findPlugin(type: string, path: readonly string[]): string {
  const file = findInPath(type, path)
  if (file === undefined) throw notFound(type, path)
  return file
}

/** CNI_PATH has no such plugin, so that nothing was asked of it. */
export class PluginMissing extends CniError {}

const notFound = (type: string, path: readonly string[]): Error =>
  new PluginMissing(
    'invalidConfig',
    `failed to find plugin ${excerpt(type)} in path [${path.join(' ')}]`,
    'install the plugin there, or add its directory to CNI_PATH',
  )

function findInPath(type: string, path: readonly string[]): string | undefined {
  if (!isPluginType(type)) {
    throw invalidConfig(
      `invalid plugin type ${excerpt(type)}`,
      'a type is the name of an executable in CNI_PATH: letters, digits, ".", "_" and "-"',
    )
  }
  for (const dir of path) {
    const file = join(dir, type)
    if (isFile(file)) return file
  }
  return undefined
}

function isFile(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false
  } catch {
    return false
  }
}

const known = new Map<string, { readonly version: string; readonly shim: boolean }>()

/** True for an executable that only leads back to Heddle. Remembered until the file changes. */
export function isShim(file: string): boolean {
  try {
    const { dev, ino, mtimeNs, size } = statSync(file, { bigint: true })
    const version = `${dev}:${ino}:${mtimeNs}:${size}`
    const before = known.get(file)
    if (before?.version === version) return before.shim
    const shim = size <= MAX_SHIM_BYTES && readFileSync(file).includes(shimMarker)
    if (known.size > 1000) known.clear()
    known.set(file, { version, shim })
    return shim
  } catch {
    return false
  }
}
