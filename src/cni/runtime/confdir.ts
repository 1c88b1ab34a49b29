/** The configuration directory (`/etc/cni/net.d`): lists by name as libcni finds them, and the first ones by file name as containerd does. */

import { readdir, readFile } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'

import { invalidConfig, ioFailure, messageOf } from '../errors.ts'
import { parseConfList, parsePluginConf, parseSingleConf, type ConfList, type PluginConf } from './conflist.ts'

/**
 * The network called `name`: the first `*.conflist` by file name, else the first `*.conf` or `*.json`. A malformed file that comes before it is
 * an error, as in libcni. Throws CniError 5, 6 or 7.
 */
export async function findNetwork(dir: string, name: string): Promise<ConfList> {
  const lists = await confFiles(dir, ['.conflist'])
  for (const file of lists) {
    const list = await loadConfList(file)
    if (list.name === name) return list
  }
  const singles = await confFiles(dir, ['.conf', '.json'])
  for (const file of singles) {
    const list = parseSingleConf(await read(file), file)
    if (list.name === name) return list
  }
  if (lists.length + singles.length === 0) throw invalidConfig(`no net configurations found in ${dir}`, remedy(dir))
  throw invalidConfig(`no net configuration with name ${JSON.stringify(name)} in ${dir}`, remedy(dir))
}

const remedy = (dir: string): string => `put a *.conflist there, or set NETCONFPATH to its directory instead of ${dir}`

/** The first `count` networks by file name: what containerd and CRI-O use. A malformed one is an error. Throws CniError 5, 6 or 7. */
export async function firstNetworks(dir: string, count: number): Promise<readonly ConfList[]> {
  const files = (await confFiles(dir, ['.conf', '.conflist', '.json'])).slice(0, count)
  if (files.length === 0) throw invalidConfig(`no net configurations found in ${dir}`, remedy(dir))
  const networks: ConfList[] = []
  for (const file of files) {
    networks.push(extname(file) === '.conflist' ? await loadConfList(file) : parseSingleConf(await read(file), file))
  }
  return networks
}

/** A list with the plugins of its side directory (`<directory>/<name>/*.conf`) behind its own. Throws CniError 5, 6 or 7. */
export async function loadConfList(file: string): Promise<ConfList> {
  const list = parseConfList(await read(file), file)
  const aside = list.loadOnlyInlinedPlugins ? [] : await sidePlugins(join(dirname(file), list.name))
  const plugins = [...list.plugins, ...aside]
  if (plugins.length === 0) {
    throw invalidConfig(
      `no plugin configs found for ${file}`,
      `list "plugins" in it, or put *.conf files into ${join(dirname(file), list.name)}`,
    )
  }
  return { ...list, plugins }
}

async function sidePlugins(dir: string): Promise<readonly PluginConf[]> {
  const plugins: PluginConf[] = []
  for (const file of await confFiles(dir, ['.conf'])) plugins.push(parsePluginConf(await read(file), file))
  return plugins
}

/** Files of `dir` with one of the extensions, in byte order of their names; none where there is no directory. */
export async function confFiles(dir: string, extensions: readonly string[]): Promise<readonly string[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true })
    return entries
      .filter((entry) => !entry.isDirectory() && extensions.includes(extname(entry.name)))
      .map(({ name }) => name)
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map((name) => join(dir, name))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw ioFailure(`cannot read the directory ${dir}: ${messageOf(error)}`, undefined, { cause: error })
  }
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw ioFailure(`cannot read ${file}: ${messageOf(error)}`, undefined, { cause: error })
  }
}
