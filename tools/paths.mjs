/** Where things are in a checkout, for the tools. Plain JavaScript that runs on Node 18 and later, without packages. */

import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The Node.js that npm installs beside the sources: the one everything but these tools runs on. */
export const pinnedNode = join(root, 'node_modules', '.bin', 'node')

/** Git-ignored: what the tools build and remember. */
export const buildDir = join(root, 'build')

/** PATH without this checkout's own `.bin` (npm prepends it, and replaces it while it installs), with the administrator's folders. */
export function systemPath() {
  const own = join(root, 'node_modules', '.bin')
  const folders = (process.env['PATH'] ?? '/usr/bin:/bin').split(delimiter).filter((folder) => folder !== own)
  for (const folder of ['/usr/sbin', '/sbin', '/usr/bin', '/bin']) if (!folders.includes(folder)) folders.push(folder)
  return folders.join(delimiter)
}

/** The file that a command name would start, or undefined. Like `command -v`. */
export function commandPath(name, path = systemPath()) {
  for (const folder of path.split(delimiter)) {
    if (folder === '') continue
    const file = join(folder, name)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      continue
    }
  }
  return undefined
}
