/** Small files of the machine, read with a bound: whatever cannot be read is not there. */

import { closeSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** Nothing that is looked at here is larger. */
const MOST = 64 * 1024

export function readText(path: string): string | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    const buffer = Buffer.alloc(MOST)
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, MOST, 0))
  } catch {
    return undefined
  } finally {
    closeSync(fd)
  }
}

export function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory).toSorted()
  } catch {
    return []
  }
}

/** Directories and the ending of the files in them that configure udev's names, network managers and firewalld. */
const CONFIGURATION = [
  ['/etc/systemd/network', '.link'],
  ['/run/systemd/network', '.link'],
  ['/usr/lib/systemd/network', '.link'],
  ['/etc/systemd/networkd.conf.d', '.conf'],
  ['/run/systemd/networkd.conf.d', '.conf'],
  ['/usr/lib/systemd/networkd.conf.d', '.conf'],
  ['/etc/NetworkManager/conf.d', '.conf'],
  ['/usr/lib/NetworkManager/conf.d', '.conf'],
  ['/etc/firewalld/zones', '.xml'],
] as const

const SINGLE = ['/etc/systemd/networkd.conf', '/etc/NetworkManager/NetworkManager.conf'] as const

/** A file of the same name in an earlier directory hides the later one, as systemd has it. Paths are told as on the machine, without the root. */
export function configurationFiles(root: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  const hidden = new Set<string>()
  for (const [directory, ending] of CONFIGURATION) {
    for (const name of namesIn(join(root, directory))) {
      const kind = `${ending} ${name}`
      if (!name.endsWith(ending) || hidden.has(kind)) continue
      hidden.add(kind)
      put(found, root, `${directory}/${name}`)
    }
  }
  for (const path of SINGLE) put(found, root, path)
  return found
}

function put(found: Map<string, string>, root: string, path: string): void {
  const text = readText(join(root, path))
  if (text !== undefined) found.set(path, text)
}
