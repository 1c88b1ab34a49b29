/**
 * The rendered delegate configuration of each attachment, kept from before its ADD until after its DEL succeeded.
 *
 * Named by network, container and interface, joined by ':', which none of them can hold. The reference plugin names its files by the container alone;
 * those are read too, when they are of the network in question.
 */

import * as fs from 'node:fs'
import { join } from 'node:path'

import { ioFailure, messageOf } from '#cni/errors.ts'
import { parseJsonObject, type JsonObject } from '#cni/json.ts'
import type { Attachment } from '#cni/plugin.ts'
import { hasCode } from '#sys/errno.ts'

export interface DelegateFile {
  readonly path: string
  /** Undefined when the file is torn (a power loss): its name says who, but nothing says what. */
  readonly config: JsonObject | undefined
}

const fileName = (network: string, { containerId, ifname }: Attachment): string => `${network}:${containerId}:${ifname}`

/** Writes the file, atomically and on disk when it returns. Throws CniError 5. */
export function saveDelegate(dataDir: string, network: string, attachment: Attachment, config: JsonObject): string {
  const path = join(dataDir, fileName(network, attachment))
  const temporary = join(dataDir, `.${process.pid}.tmp`)
  try {
    fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    fs.writeFileSync(temporary, JSON.stringify(config), { mode: 0o600, flush: true })
    fs.renameSync(temporary, path)
    return path
  } catch (error) {
    fs.rmSync(temporary, { force: true })
    throw ioFailure(`the delegate's configuration cannot be written to ${path}`, messageOf(error), { cause: error })
  }
}

/** The attachment's file, ours or the reference plugin's; undefined when there is none. Throws CniError 5. */
export function findDelegate(dataDir: string, network: string, attachment: Attachment): DelegateFile | undefined {
  const own = read(join(dataDir, fileName(network, attachment)))
  if (own !== undefined) return own
  const old = read(join(dataDir, attachment.containerId))
  return old?.config?.['name'] === network ? old : undefined
}

/** Every file that this plugin wrote for a network, with its attachment where the name still tells it. */
export function listDelegates(
  dataDir: string,
  network: string,
): readonly (DelegateFile & { attachment: Attachment })[] {
  let names: readonly string[]
  try {
    names = fs.readdirSync(dataDir)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw ioFailure(`${dataDir} cannot be read`, messageOf(error), { cause: error })
  }
  return names.flatMap((name) => {
    const [of, containerId, ifname] = name.split(':')
    if (of !== network || containerId === undefined || ifname === undefined) return []
    const file = read(join(dataDir, name))
    return file === undefined ? [] : [{ ...file, attachment: { containerId, ifname } }]
  })
}

export const removeDelegate = (path: string): void => fs.rmSync(path, { force: true })

function read(path: string): DelegateFile | undefined {
  let text: string
  try {
    text = fs.readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EISDIR', 'ENAMETOOLONG')) return undefined
    throw ioFailure(`${path} cannot be read`, messageOf(error), { cause: error })
  }
  try {
    return { path, config: parseJsonObject(text, path) }
  } catch {
    return { path, config: undefined }
  }
}
