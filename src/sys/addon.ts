/** Finds and loads the native addon, once per process. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Sys } from './sys.ts'

/** The addon is missing, or was built for something else. */
export class AddonError extends Error {
  override readonly name = 'AddonError'
  readonly code: 'addon-missing' | 'addon-unloadable'

  constructor(code: AddonError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const NEEDED = ['socket', 'recv', 'setns', 'exchange', 'flockWait', 'pollOpen', 'sendMany', 'shutdown'] as const

let loaded: Sys | undefined

/** The real system calls. Throws `AddonError` with what to do when the addon cannot be loaded. */
export function nativeSys(): Sys {
  loaded ??= load(candidates())
  return loaded
}

/** `HEDDLE_ADDON`; beside a bundled program; in its `lib`; in the checkout's `build`. */
function candidates(): string[] {
  const named = process.env['HEDDLE_ADDON']
  if (named !== undefined && named !== '') return [named]
  const here = import.meta.dirname
  return [
    join(here, 'addon.node'),
    join(here, 'lib', 'addon.node'),
    join(here, '..', 'lib', 'addon.node'),
    join(here, '..', '..', 'build', 'addon.node'),
  ]
}

function load(paths: readonly string[]): Sys {
  const path = paths.find((candidate) => existsSync(candidate))
  if (path === undefined) {
    throw new AddonError(
      'addon-missing',
      `the native addon is at none of ${paths.join(', ')}: build it with "node native/addon/build.mjs", or name it in HEDDLE_ADDON`,
    )
  }
  let exports: unknown
  try {
    exports = createRequire(import.meta.url)(path)
  } catch (cause) {
    throw new AddonError('addon-unloadable', `${path} cannot be loaded: ${String(cause)}`, { cause })
  }
  if (!isSys(exports)) {
    throw new AddonError(
      'addon-unloadable',
      `${path} is another version of the addon: run "node native/addon/build.mjs --force"`,
    )
  }
  return exports
}

const isSys = (value: unknown): value is Sys =>
  typeof value === 'object' &&
  value !== null &&
  NEEDED.every((name) => name in value && typeof (value as Record<string, unknown>)[name] === 'function')
