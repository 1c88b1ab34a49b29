/** The cache of attachments, in libcni's place and format, so that either can clean up after the other. Source: libcni `api.go`. */

import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

import * as v from 'valibot'

import { ioFailure, messageOf } from '../errors.ts'
import { parseJsonObject, type JsonObject } from '../json.ts'
import { decodeResult } from '../result/decode.ts'
import type { Result } from '../result.ts'
import { jsonObject, parseWith } from '../schema.ts'

/** Which attachment: part of the file's name, so all three are checked before they come here. */
export interface CacheKey {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
}

export interface CachedAttachment extends CacheKey {
  readonly netns: string
  /** CNI_ARGS as pairs. */
  readonly args: readonly (readonly [string, string])[]
  readonly capabilityArgs: JsonObject | undefined
  /** Text of the configuration list that was used. */
  readonly config: string
  /** The final result, in the version of the list. */
  readonly result: JsonObject
}

export const defaultCacheDir = '/var/lib/cni'

const resultsDir = (cacheDir: string): string => join(cacheDir, 'results')

/** Like `/var/lib/cni/results/<network>-<container>-<interface>`. */
export const cacheFile = (cacheDir: string, key: CacheKey): string =>
  join(resultsDir(cacheDir), `${key.network}-${key.containerId}-${key.ifname}`)

/** Writes atomically and synced: after a power cut the file is complete or absent. Throws CniError 5. */
export async function writeCache(cacheDir: string, attachment: CachedAttachment): Promise<void> {
  const { containerId, network, ifname, netns, args, capabilityArgs, config, result } = attachment
  const document = {
    kind: 'cniCacheV1',
    containerId,
    config: Buffer.from(config).toString('base64'),
    ifName: ifname,
    networkName: network,
    ...(netns === '' ? {} : { netns }),
    ...(args.length === 0 ? {} : { cniArgs: args }),
    ...(capabilityArgs === undefined || Object.keys(capabilityArgs).length === 0 ? {} : { capabilityArgs }),
    result,
  }
  const file = cacheFile(cacheDir, attachment)
  // Not inside results/: other runtimes read every file there.
  const temporary = join(cacheDir, `.heddle-${randomBytes(8).toString('hex')}.tmp`)
  try {
    await mkdir(resultsDir(cacheDir), { recursive: true, mode: 0o700 })
    await using handle = await open(temporary, 'wx', 0o600)
    await handle.writeFile(JSON.stringify(document))
    await handle.sync()
    await rename(temporary, file)
  } catch (error) {
    await rm(temporary, { force: true })
    throw ioFailure(`cannot write the cache file ${file}: ${messageOf(error)}`, undefined, { cause: error })
  }
}

/** The cached result of an attachment; undefined where there is none. A file from before the format had a kind is the bare result. Throws CniError 6 for a file that is neither. */
export async function readCachedResult(
  cacheDir: string,
  key: CacheKey,
  cniVersion: string,
): Promise<Result | undefined> {
  const file = cacheFile(cacheDir, key)
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const document = parseJsonObject(text, `the cache file ${file}`)
  const result = document['kind'] === 'cniCacheV1' ? parseWith(jsonObject, document['result'] ?? {}, file) : document
  return decodeResult(result, cniVersion, `the result in ${file}`)
}

export const removeCache = (cacheDir: string, key: CacheKey): Promise<void> =>
  rm(cacheFile(cacheDir, key), { force: true })

const cacheSchema = v.object({
  kind: v.literal('cniCacheV1'),
  containerId: v.string(),
  config: v.nullish(v.pipe(v.string(), v.base64())),
  ifName: v.pipe(v.string(), v.nonEmpty()),
  networkName: v.pipe(v.string(), v.nonEmpty()),
  netns: v.nullish(v.string()),
  cniArgs: v.nullish(v.array(v.tuple([v.string(), v.string()]))),
  capabilityArgs: v.nullish(jsonObject),
  result: v.nullish(jsonObject),
})

/** Every attachment in the cache, of one container if asked, in order of file names. Files that are not ours to understand are passed over. */
export async function listCache(cacheDir: string, containerId?: string): Promise<readonly CachedAttachment[]> {
  const dir = resultsDir(cacheDir)
  const names = await readdir(dir).catch(() => [])
  const attachments: CachedAttachment[] = []
  for (const name of names.sort((a, b) => (a < b ? -1 : 1))) {
    // The name only narrows the search: network names may hold dashes.
    if (containerId !== undefined && !name.includes(`-${containerId}-`)) continue
    const attachment = await readAttachment(join(dir, name))
    if (attachment === undefined) continue
    if (containerId === undefined || attachment.containerId === containerId) attachments.push(attachment)
  }
  return attachments
}

async function readAttachment(file: string): Promise<CachedAttachment | undefined> {
  try {
    const cached = parseWith(cacheSchema, parseJsonObject(await readFile(file, 'utf8'), file), file)
    return {
      network: cached.networkName,
      containerId: cached.containerId,
      ifname: cached.ifName,
      netns: cached.netns ?? '',
      args: cached.cniArgs ?? [],
      capabilityArgs: cached.capabilityArgs ?? undefined,
      config: Buffer.from(cached.config ?? '', 'base64').toString('utf8'),
      result: cached.result ?? {},
    }
  } catch {
    return undefined
  }
}
