import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'

import { pinnedNode, root } from '../paths.mjs'
import { mustRun, seconds } from './step.mjs'

/** Both look at the time of their sources themselves, and do nothing when nothing changed. */
const builders = {
  addon: join(root, 'native', 'addon', 'build.mjs'),
  dist: join(root, 'tools', 'build.mjs'),
}

/** Runs a builder with the pinned Node.js; what it says is shown only when it took long enough to be worth a line. */
export async function build(part) {
  const script = builders[part]
  if (!existsSync(script)) return
  const started = Date.now()
  const output = await mustRun(pinnedNode, [script], {
    what: `building ${relative(root, script)}`,
    remedy:
      'the message above names what it stopped at; the C parts need the Debian packages gcc, libc6-dev and musl-tools',
  })
  const took = Date.now() - started
  if (took > 500 && output.includes('built'))
    console.log(`setup: ${part === 'addon' ? 'native addon' : 'dist/'} built: ${seconds(took)}`)
  if (output.includes('warning:')) console.log(output.trimEnd())
}
