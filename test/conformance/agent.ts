/** Heddle's own build, and its agent on a machine of the suite. */

import { join } from 'node:path'
import type { Target } from './target.ts'

export const dist = join(import.meta.dirname, '..', '..', 'dist')

/** The agent of the same build as the plugins. */
export const agentOf = (build: string): NonNullable<Target['daemon']> => ({
  command: [join(build, 'bin', 'heddle'), 'agent', '--cni-only', '--log-level', 'error'],
  socket: '/run/heddle/cni.sock',
})
