/**
 * What is remembered of a link that lives in a pod alone, with nothing on the host to find it by: where it went, so that DEL works without CNI_NETNS and GC at all.
 * Files below /run: they outlive a kill, and are gone after a reboot as the links are.
 */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as v from 'valibot'

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { ipSchema } from '#cni/schema.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import { namesIn } from '#sys/folder.ts'
import { vfSchema } from './vf-record.ts'

const deviceSchema = v.object({
  /** Its name on the host. */
  name: v.string(),
  alias: v.string(),
  mac: v.string(),
  mtu: v.number(),
  up: v.boolean(),
  /** It outlives its namespace: the kernel gives it back. */
  physical: v.boolean(),
})

/** A device of the host while a pod has it. */
export type DeviceRecord = v.InferOutput<typeof deviceSchema>

const schema = v.object({
  plugin: v.string(),
  network: v.string(),
  containerId: v.string(),
  ifname: v.string(),
  /** Path of the pod's namespace, and which one it was. */
  netns: v.string(),
  netnsId: v.string(),
  device: v.optional(deviceSchema),
  /** What a card's physical function enforced before, where it is one's virtual function. */
  vf: v.optional(vfSchema),
  /** Addresses of the pod that a card of the host answers for. */
  proxied: v.optional(v.object({ card: v.string(), ips: v.array(ipSchema) })),
  /** A link of the host that pods share; it goes with the last of them. */
  shared: v.optional(v.string()),
})

export type LinkRecord = v.InferOutput<typeof schema>

export const folderOf = (host: Pick<PluginHost, 'root'>): string => join(host.root, '/run/heddle/links')

/** Names are too long together for one file name. */
const fileOf = (host: PluginHost, network: string, { containerId, ifname }: Attachment): string =>
  join(
    folderOf(host),
    `${createHash('sha256').update(`${network}:${containerId}:${ifname}`).digest('hex').slice(0, 32)}.json`,
  )

/** Before anything is done that the record tells of. */
export function writeRecord(host: PluginHost, record: LinkRecord): void {
  const file = fileOf(host, record.network, record)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  writeFileAtomicSync(file, `${JSON.stringify(record)}\n`, { mode: 0o600 })
}

/** Undefined where there is none, or none that can be read. */
export function readRecord(host: PluginHost, network: string, attachment: Attachment): LinkRecord | undefined {
  return parse(host, fileOf(host, network, attachment))
}

export const removeRecord = (host: PluginHost, network: string, attachment: Attachment): void =>
  rmSync(fileOf(host, network, attachment), { force: true })

/** The records that one plugin left, for one network or for all. */
export const listRecords = (
  host: Pick<PluginHost, 'root' | 'log'>,
  plugin: string,
  network?: string,
): readonly LinkRecord[] =>
  allRecords(host).filter((record) => record.plugin === plugin && (network === undefined || record.network === network))

/** Those of every plugin. */
export function allRecords(host: Pick<PluginHost, 'root' | 'log'>): readonly LinkRecord[] {
  const folder = folderOf(host)
  return namesIn(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => parse(host, join(folder, name)) ?? [])
}

function parse(host: Pick<PluginHost, 'log'>, file: string): LinkRecord | undefined {
  try {
    const record = v.safeParse(schema, JSON.parse(readFileSync(file, 'utf8')))
    if (record.success) return record.output
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
  }
  host.log('warn', `${file} is no record of a link: it is left out`)
  return undefined
}
