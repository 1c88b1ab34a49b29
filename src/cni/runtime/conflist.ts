/** Network configuration lists: the text of a `.conflist`, or of an old single-plugin `.conf`, as typed data. Source: CNI SPEC.md §1; libcni `conf.go`. */

import { isPluginType, namePattern } from '../config.ts'
import { invalidConfig, type CniError } from '../errors.ts'
import { excerpt, isObject, parseJsonObject, type Json, type JsonObject } from '../json.ts'
import { compareVersions, newestVersion, oldestVersion, parseVersion } from '../version.ts'

/** One plugin of a list: its type, and its object as the file has it. */
export interface PluginConf {
  readonly type: string
  readonly raw: JsonObject
}

export interface ConfList {
  readonly name: string
  /** The version every plugin of the list is run with. */
  readonly cniVersion: string
  readonly disableCheck: boolean
  readonly disableGc: boolean
  readonly loadOnlyInlinedPlugins: boolean
  /** In ADD order. May be empty until the side directory is read. */
  readonly plugins: readonly PluginConf[]
  /** The list's text as it was read; it goes into the cache. */
  readonly text: string
}

/** Parses a list. `source` names the file in errors. Throws CniError 6 or 7. */
export function parseConfList(text: string, source: string): ConfList {
  const raw = parseJsonObject(text, source)
  const bad = (msg: string, details?: string): CniError => invalidConfig(`error parsing ${source}: ${msg}`, details)
  const name = raw['name']
  if (name === undefined) throw bad('no name', 'give the network configuration a "name"')
  if (typeof name !== 'string' || !namePattern.test(name)) {
    throw bad(
      `"name" is ${excerpt(name)}`,
      'a name starts with a letter or digit and holds only letters, digits, "_", "." and "-"',
    )
  }
  const loadOnlyInlinedPlugins = readBool(raw, 'loadOnlyInlinedPlugins', bad)
  const plugins = raw['plugins']
  if (plugins === undefined && loadOnlyInlinedPlugins) {
    throw bad('"loadOnlyInlinedPlugins" is true and there is no "plugins"', 'list the plugins, or remove the setting')
  }
  return {
    name,
    cniVersion: chooseVersion(raw, bad),
    disableCheck: readBool(raw, 'disableCheck', bad),
    disableGc: readBool(raw, 'disableGC', bad),
    loadOnlyInlinedPlugins,
    plugins: plugins === undefined ? [] : parsePlugins(plugins, source, bad),
    text,
  }
}

type Bad = (msg: string, details?: string) => CniError

function parsePlugins(plugins: Json, source: string, bad: Bad): readonly PluginConf[] {
  if (!Array.isArray(plugins)) throw bad(`"plugins" is ${excerpt(plugins)}`, 'it is a list of objects')
  if (plugins.length === 0) throw bad('no plugins in list', 'list at least one plugin')
  return plugins.map((plugin: Json, index) => pluginConf(plugin, `plugins[${index}] of ${source}`))
}

/** Parses one plugin object of a side directory. Throws CniError 6 or 7. */
export const parsePluginConf = (text: string, source: string): PluginConf =>
  pluginConf(parseJsonObject(text, source), source)

function pluginConf(raw: Json, source: string): PluginConf {
  const type = isObject(raw) ? raw['type'] : undefined
  if (!isObject(raw) || type === undefined || type === '') {
    throw invalidConfig(`error parsing ${source}: missing "type"`, 'a plugin is an object with at least a "type"')
  }
  if (typeof type !== 'string' || !isPluginType(type)) {
    throw invalidConfig(
      `error parsing ${source}: "type" is ${excerpt(type)}`,
      'a type is the name of an executable in CNI_PATH',
    )
  }
  const { capabilities } = raw
  const isMap = isObject(capabilities) && Object.values(capabilities).every((yes) => typeof yes === 'boolean')
  if (capabilities !== undefined && capabilities !== null && !isMap) {
    throw invalidConfig(
      `error parsing ${source}: "capabilities" is ${excerpt(capabilities)}`,
      'it maps names to true or false',
    )
  }
  return { type, raw }
}

/** A single-plugin configuration (`.conf`, `.json`), removed from the specification in 1.0.0, as a list of one. Throws CniError 6 or 7. */
export function parseSingleConf(text: string, source: string): ConfList {
  const raw = parseJsonObject(text, source)
  if (raw['plugins'] !== undefined && raw['type'] === undefined) {
    throw invalidConfig(`error parsing ${source}: this is a list of plugins`, 'name the file *.conflist')
  }
  const { type } = pluginConf(raw, source)
  const { name, cniVersion } = raw
  const list = { name, ...(cniVersion === undefined ? {} : { cniVersion }), plugins: [raw] }
  const parsed = parseConfList(JSON.stringify(list), source)
  return { ...parsed, plugins: [{ type, raw }] }
}

/** The highest of `cniVersion` and `cniVersions` that is known here; unknown newer ones do not count where there is a choice. */
function chooseVersion(raw: JsonObject, bad: Bad): string {
  const { cniVersion, cniVersions } = raw
  if (cniVersion !== undefined && typeof cniVersion !== 'string') throw bad(`"cniVersion" is ${excerpt(cniVersion)}`)
  const single = cniVersion === undefined || cniVersion === '' ? oldestVersion : cniVersion
  if (cniVersions === undefined) return single
  if (!Array.isArray(cniVersions)) throw bad(`"cniVersions" is ${excerpt(cniVersions)}`, 'it is a list of versions')
  const candidates: string[] = []
  for (const [index, version] of [...cniVersions, ...(cniVersion === undefined ? [] : [cniVersion])].entries()) {
    if (typeof version !== 'string' || parseVersion(version) === undefined) {
      throw bad(`"cniVersions" entry ${index} is ${excerpt(version)}`, 'versions look like 1.1.0')
    }
    if (version !== '' && (compareVersions(version, newestVersion) ?? 1) <= 0) candidates.push(version)
  }
  return candidates.sort((a, b) => compareVersions(a, b) ?? 0).at(-1) ?? single
}

function readBool(raw: JsonObject, key: string, bad: Bad): boolean {
  const value = raw[key]
  if (value === undefined) return false
  const text = typeof value === 'string' ? value.toLowerCase() : value
  if (text === true || text === 'true') return true
  if (text === false || text === 'false') return false
  throw bad(`"${key}" is ${excerpt(value)}`, 'use true or false')
}
