/**
 * The networks whose cards this node keeps, as the last call told them: what the pool is filled by, and what is left is removed by, when no call
 * is under way. No secret is in it, only where the credentials are.
 */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import * as v from 'valibot'

import { messageOf } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { NetConf } from '#cni/config.ts'
import { jsonObject } from '#cni/schema.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { namesIn } from '#sys/folder.ts'
import { removeFile } from '#sys/remove-file.ts'
import { bookFolder } from './book.ts'
import { remembered } from './config.ts'

const schema = v.object({
  network: v.string(),
  /** Milliseconds since 1970: the last call, give or take an hour. */
  used: v.number(),
  conf: jsonObject,
})

export type Scope = v.InferOutput<typeof schema>

/** A network that no call was for in so long has no pool any more. */
export const UNUSED_MS = 24 * 3_600_000
const REFRESH_MS = 3_600_000

type Host = Pick<PluginHost, 'root' | 'log'>

const folderOf = (root: string): string => join(bookFolder(root), 'networks')
const nameOf = (network: string): string => `${createHash('sha256').update(network).digest('hex').slice(0, 32)}.json`

export function listScopes(host: Host): readonly Scope[] {
  const folder = folderOf(host.root)
  return namesIn(folder)
    .filter((name) => /^[0-9a-f]{32}\.json$/.test(name))
    .flatMap((name) => read(host, join(folder, name)) ?? [])
}

function read(host: Host, file: string): Scope | undefined {
  try {
    const scope = v.safeParse(schema, JSON.parse(readFileSync(file, 'utf8')))
    if (scope.success) return scope.output
  } catch {
    // Told below; a missing one is made anew.
  }
  host.log('warn', `${file} is no record of a network: it is left out`)
  return undefined
}

/** Written only where something has changed: most calls find it as they want it. A full disk fails no call. */
export function rememberScope(host: Host, { name: network, raw }: NetConf, now = Date.now()): void {
  const folder = folderOf(host.root)
  const conf = remembered(raw)
  const before = namesIn(folder).includes(nameOf(network)) ? read(host, join(folder, nameOf(network))) : undefined
  const isSame = before?.network === network && JSON.stringify(before.conf) === JSON.stringify(conf)
  if (isSame && now - before.used < REFRESH_MS && before.used <= now) return
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    writeFileAtomicSync(join(folder, nameOf(network)), `${JSON.stringify({ network, used: now, conf })}\n`, {
      mode: 0o600,
    })
  } catch (error) {
    host.log('warn', `network ${network} cannot be remembered, its pool is not filled: ${messageOf(error)}`)
  }
}

export const forgetScope = (host: Host, network: string): void => removeFile(join(folderOf(host.root), nameOf(network)))
