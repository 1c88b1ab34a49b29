/**
 * What was opened for an attachment, with the backends whose rules bear no owner because the reference's do not: so that DEL needs no previous result and GC can do its work.
 * Files below /run: they outlive a kill, and are gone after a reboot as the rules are.
 */

import { hash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as v from 'valibot'

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { cidrSchema } from '#cni/schema.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import { removeFile } from '#sys/remove-file.ts'
import { namesIn } from '#sys/folder.ts'
import { POLICIES } from './config.ts'

const schema = v.object({
  network: v.string(),
  containerId: v.string(),
  ifname: v.string(),
  backend: v.picklist(['iptables', 'firewalld', 'nftables']),
  zone: v.string(),
  addresses: v.array(cidrSchema),
  policy: v.picklist(POLICIES),
  /** Of a policy other than `open`. */
  bridge: v.optional(v.string()),
})

export type FirewallRecord = v.InferOutput<typeof schema>

const folderOf = (host: PluginHost): string => join(host.root, '/run/heddle/firewall')

const fileOf = (host: PluginHost, network: string, { containerId, ifname }: Attachment): string =>
  join(folderOf(host), `${hash('sha256', `${network}:${containerId}:${ifname}`).slice(0, 32)}.json`)

/** Before anything is done that the record tells of. */
export function writeFirewallRecord(host: PluginHost, record: FirewallRecord): void {
  const file = fileOf(host, record.network, record)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  writeFileAtomicSync(file, `${JSON.stringify(record)}\n`, { mode: 0o600 })
}

export const readFirewallRecord = (
  host: PluginHost,
  network: string,
  attachment: Attachment,
): FirewallRecord | undefined => parse(host, fileOf(host, network, attachment))

export const removeFirewallRecord = (host: PluginHost, network: string, attachment: Attachment): void =>
  removeFile(fileOf(host, network, attachment))

/** Of all networks. */
export function listFirewallRecords(host: PluginHost): readonly FirewallRecord[] {
  const folder = folderOf(host)
  return namesIn(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => parse(host, join(folder, name)) ?? [])
}

function parse(host: PluginHost, file: string): FirewallRecord | undefined {
  try {
    const record = v.safeParse(schema, JSON.parse(readFileSync(file, 'utf8')))
    if (record.success) return record.output
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
  }
  host.log('warn', `${file} is no record of the firewall plugin: it is left out`)
  return undefined
}
