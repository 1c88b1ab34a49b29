/**
 * What is remembered of each call of ADD that made something: for whom, where its sandbox is, and all that a DEL needs. From the record alone an attachment can be undone when
 * its runtime never comes back, and its rules put back when somebody flushes them. Files below /run: they outlive a kill, and a reboot takes them as it takes the links.
 */

import { hash, randomUUID } from 'node:crypto'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as v from 'valibot'

import { tableFamilies } from '#nft/table.ts'
import { hasCode } from '#sys/errno.ts'
import { readFileIfThere } from '#sys/read-file.ts'
import { removeFile } from '#sys/remove-file.ts'
import { namesIn } from '#sys/folder.ts'
import { jsonObject } from '../schema.ts'

const part = v.union([v.string(), v.number()])

const rules = v.object({
  family: v.picklist(tableFamilies),
  table: v.string(),
  /** What the table's text was made with, where it is not always the same. */
  conditions: v.exactOptional(v.object({ v4: v.string(), v6: v.string() })),
  elements: v.array(v.object({ set: v.string(), key: v.array(part), data: v.exactOptional(v.array(part)) })),
  /** An element was another attachment's until then: DEL gives it back. */
  contested: v.exactOptional(v.literal(true)),
})

const chain = v.string()
const ruleWords = v.array(v.string())

/** Changes of a table of iptables that make all of an attachment's rules where there are none. */
const chains = v.object({
  family: v.picklist([4, 6]),
  table: v.picklist(['filter', 'nat', 'raw']),
  /** Chains that hold nothing but the attachment's rules. */
  own: v.array(chain),
  edits: v.array(
    v.variant('do', [
      v.object({ do: v.literal('new-chain'), chain }),
      v.object({ do: v.literal('append'), chain, rule: ruleWords }),
      v.object({ do: v.literal('insert'), chain, rule: ruleWords }),
    ]),
  ),
})

const schema = v.object({
  version: v.literal(1),
  /** Another one with every ADD. */
  id: v.string(),
  /** `leaving`: a DEL has begun, and what it removed must not come back. */
  state: v.picklist(['ready', 'leaving']),
  type: v.string(),
  network: v.string(),
  containerId: v.string(),
  ifname: v.string(),
  /** Path of the sandbox's namespace, and which one it was: `device:inode`. */
  netns: v.string(),
  netnsId: v.exactOptional(v.string()),
  /** The same for the whole boot (`netnsCookie`); inodes are used again. */
  cookie: v.exactOptional(v.string()),
  /** The folder of the path, as `device:inode`: in another mount namespace the same path may lead elsewhere. */
  folderId: v.exactOptional(v.string()),
  /** The pid namespace in which a path through /proc means something. */
  pidns: v.exactOptional(v.string()),
  boot: v.string(),
  /** Milliseconds since 1970. */
  since: v.number(),
  /** The plugin's configuration, without the previous result. */
  config: jsonObject,
  args: v.array(v.tuple([v.string(), v.string()])),
  path: v.array(v.string()),
  rules: v.array(rules),
  chains: v.exactOptional(v.array(chains)),
})

/** Elements that belong to an attachment, in a table of nftables. */
export type RulesNote = v.InferOutput<typeof rules>
/** Rules that belong to an attachment, in a table of iptables. */
export type ChainsNote = v.InferOutput<typeof chains>
export type AttachmentRecord = v.InferOutput<typeof schema>
/** Each plugin of a chain has its own. */
export type RecordKey = Pick<AttachmentRecord, 'type' | 'network' | 'containerId' | 'ifname'>

/** Where a host keeps its records. */
export const recordFolder = (root: string): string => join(root, '/run/heddle/attachments')

/** Names are too long together for one file name. */
function nameOf({ type, network, containerId, ifname }: RecordKey): string {
  const text = `${type}:${network}:${containerId}:${ifname}`
  if (text !== named.text) named = { text, name: hash('sha256', text).slice(0, 32) }
  return named.name
}

/** The last one: a call asks for the same one several times. */
let named = { text: '', name: '' }

export const recordFile = (folder: string, key: RecordKey): string => join(folder, `${nameOf(key)}.json`)

/** Held by whoever works on the attachment. */
export const recordLock = (folder: string, key: RecordKey): string => join(folder, `${nameOf(key)}.lock`)

/**
 * The first one of an attachment, in a single write of a new file: who reads it meanwhile finds none, and nothing has been made yet. False when there is one. Throws what the file
 * system throws.
 */
export function createRecord(folder: string, record: AttachmentRecord): boolean {
  const file = recordFile(folder, record)
  try {
    writeFileSync(file, JSON.stringify(record), { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false
    // Half of it, on a full disk.
    if (!hasCode(error, 'ENOENT', 'ENOTDIR')) removeFile(file)
    throw error
  }
}

/** Whole or not at all for whoever reads it. Not synced: with the machine the attachment is gone too. Throws what the file system throws. */
export function writeRecord(folder: string, record: AttachmentRecord): void {
  const file = recordFile(folder, record)
  const fresh = `${file}.${randomUUID().slice(0, 8)}.tmp`
  const write = (): void => writeFileSync(fresh, JSON.stringify(record), { flag: 'wx', mode: 0o600 })
  try {
    try {
      write()
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
      write()
    }
    renameSync(fresh, file)
  } catch (error) {
    removeFile(fresh)
    throw error
  }
}

/** Undefined where there is none, or none that can be read. */
export const readRecord = (folder: string, key: RecordKey): AttachmentRecord | undefined =>
  parseFile(recordFile(folder, key))

export const removeRecord = (folder: string, key: RecordKey): void => removeFile(recordFile(folder, key))

/** All that can be read. */
export function listRecords(folder: string): readonly AttachmentRecord[] {
  return namesIn(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => parseFile(join(folder, name)) ?? [])
}

function parseFile(file: string): AttachmentRecord | undefined {
  const text = readFileIfThere(file)
  return text === undefined ? undefined : parseRecord(text)
}

/** The record in a file's text; undefined for anything else. */
export function parseRecord(text: string): AttachmentRecord | undefined {
  try {
    const record = v.safeParse(schema, JSON.parse(text))
    return record.success ? record.output : undefined
  } catch {
    return undefined
  }
}
