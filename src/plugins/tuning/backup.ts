/**
 * What an interface was like before it was tuned. The reference plugin's file, which either finds when the other made it; beside its keys there is one of our own, for
 * which it does not care.
 */

import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as v from 'valibot'

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { IFF, type Link } from '#netlink/link-codec.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import { namesIn } from '#sys/folder.ts'
import type { LinkTuning } from './config.ts'

const schema = v.object({
  mac: v.nullish(v.string()),
  promisc: v.nullish(v.boolean()),
  mtu: v.nullish(v.number()),
  allmulti: v.nullish(v.boolean()),
  txQLen: v.nullish(v.number()),
  /** Whose it is, for GC; and which namespace the interface was in, so that another one's is never changed. */
  heddle: v.optional(
    v.object({
      network: v.string(),
      containerId: v.string(),
      ifname: v.string(),
      netns: v.string(),
      netnsId: v.string(),
    }),
  ),
})

export type Backup = v.InferOutput<typeof schema>

export const backupFile = (host: PluginHost, dataDir: string, { containerId, ifname }: Attachment): string =>
  join(host.root, dataDir, `${containerId}_${ifname}.json`)

/** Of what is about to change. */
export const backupOf = (link: Link, { mac, promisc, mtu, allmulti, txQLen }: LinkTuning): Backup => ({
  ...(mac === undefined ? {} : { mac: link.mac ?? '' }),
  ...(promisc === undefined ? {} : { promisc: (link.flags & IFF.PROMISC) !== 0 }),
  ...(mtu === undefined ? {} : { mtu: link.mtu }),
  ...(allmulti === undefined ? {} : { allmulti: (link.flags & IFF.ALLMULTI) !== 0 }),
  ...(txQLen === undefined || link.txQueueLength === undefined ? {} : { txQLen: link.txQueueLength }),
})

/** What was first there is what it was like: an ADD that was killed, or an earlier plugin of the same list, may have changed it since. Not so for another namespace. */
export const firstOf = (before: Backup | undefined, now: Backup): Backup =>
  before?.heddle !== undefined && before.heddle.netnsId !== now.heddle?.netnsId
    ? now
    : { ...now, ...before, heddle: now.heddle }

/** Undefined where there is none, or none that can be read. */
export function readBackup(host: PluginHost, file: string): Backup | undefined {
  try {
    const parsed = v.safeParse(schema, JSON.parse(readFileSync(file, 'utf8')))
    if (parsed.success) return parsed.output
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    if (!(error instanceof SyntaxError)) throw error
  }
  host.log('warn', `${file} does not say what an interface was like: it is left out`)
  return undefined
}

/** On disk when it returns. */
export function writeBackup(file: string, backup: Backup): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  writeFileAtomicSync(file, `${JSON.stringify(backup, null, 1)}\n`, { mode: 0o600 })
}

export const removeBackup = (file: string): void => rmSync(file, { force: true })

/** The files of a network's attachments; the reference plugin's do not tell whose they are. */
export function listBackups(
  host: PluginHost,
  dataDir: string,
  network: string,
): readonly (readonly [string, Backup & { readonly heddle: NonNullable<Backup['heddle']> }])[] {
  const folder = join(host.root, dataDir)
  return namesIn(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => {
      const file = join(folder, name)
      const backup = readBackup(host, file)
      return backup?.heddle?.network === network ? [[file, { ...backup, heddle: backup.heddle }] as const] : []
    })
}
