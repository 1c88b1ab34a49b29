import { join } from 'node:path'

export const projectRoot = join(import.meta.dirname, '..', '..')
/** The shims, with the standalone program behind them. */
export const ownPlugins = join(projectRoot, 'dist', 'cni')
export const referencePlugins = '/usr/lib/cni'
/** The built command, as a node has it. */
export const heddle = join(projectRoot, 'dist', 'bin', 'heddle')
