import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'

import { root } from './paths.mjs'

const SKIPPED = new Set(['node_modules', 'dist', 'build', 'testdata', '.git'])

/** Every file below a folder of the checkout, as sorted paths from its root; none where the folder is missing. */
export function filesBelow(folder, accept) {
  const found = []
  const visit = (directory) => {
    let entries
    try {
      entries = readdirSync(directory, { withFileTypes: true })
    } catch (error) {
      if (error.code === 'ENOENT') return
      throw error
    }
    for (const entry of entries) {
      const path = join(directory, entry.name)
      if (entry.isDirectory()) {
        if (!SKIPPED.has(entry.name)) visit(path)
      } else if (accept(entry.name)) found.push(relative(root, path))
    }
  }
  visit(join(root, folder))
  return found.sort((a, b) => (a < b ? -1 : 1))
}
