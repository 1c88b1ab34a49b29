/** What runtimes and plugins are told on this node. */

import { connect } from 'node:net'
import { basename, join } from 'node:path'

import { confFiles, loadConfList } from '#cni/runtime/confdir.ts'
import { parseSingleConf } from '#cni/runtime/conflist.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import type { Conf, Facts } from '../facts.ts'
import { namesIn, readText } from './files.ts'

/** Every configuration in a directory, in the order in which containerd and CRI-O take them. */
export async function confs(directory: string): Promise<Facts['confs']> {
  const files: Conf[] = []
  for (const path of await confFiles(directory, ['.conf', '.conflist', '.json'])) {
    const file = basename(path)
    try {
      const list = path.endsWith('.conflist') ? await loadConfList(path) : parseSingleConf(readText(path) ?? '', path)
      files.push({ file, types: list.plugins.map(({ type }) => type) })
    } catch (error) {
      files.push({ file, types: [], error: error instanceof Error ? error.message : String(error) })
    }
  }
  return { directory, files }
}

/** What lies in some directories, separated by colons as in CNI_PATH. */
export const pluginTypes = (directories: string): Facts['plugins'] => ({
  directory: directories,
  types: new Set(directories.split(':').flatMap(namesIn)),
})

export function subnetFile(path: string): Facts['subnetFile'] {
  const text = readText(path)
  return { path, content: text === undefined ? undefined : parseSubnetEnv(text) }
}

const PATIENCE = 1_000

/** Whether somebody answers on the agent's socket. Sends nothing. */
export function agentAt(socket: string): Promise<Facts['agent']> {
  return new Promise((resolve) => {
    const probe = connect(socket)
    const settle = (state: Facts['agent']['state']): void => {
      probe.destroy()
      resolve({ socket, state })
    }
    probe.setTimeout(PATIENCE, () => settle('silent'))
    probe.once('connect', () => settle('answers'))
    probe.once('error', (error: NodeJS.ErrnoException) => settle(error.code === 'ENOENT' ? 'absent' : 'silent'))
  })
}

export const defaultDirectories = (root: string) => ({
  conf: join(root, '/etc/cni/net.d'),
  bin: ['/opt/cni/bin', '/usr/lib/cni'].map((directory) => join(root, directory)).join(':'),
})
