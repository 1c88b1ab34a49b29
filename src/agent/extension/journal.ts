/**
 * Which peers SubnetAddCommand was run for, on disk: so that those that go while no agent runs get their SubnetRemoveCommand, and those
 * that stay are left alone by a restart.
 */

import { mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as v from 'valibot'

import { writeFileAtomic } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import type { Variables } from '#flannel/extension/backend.ts'
import { errorFields, type Log } from '../log.ts'

/** What a peer's commands are told. */
export interface PeerWords {
  readonly variables: Variables
  readonly input: string
}

/** A peer as it is noted; `whole` when the command that was begun has succeeded. */
export interface NotedPeer extends PeerWords {
  readonly whole: boolean
}

const Words = v.object({ variables: v.record(v.string(), v.string()), input: v.string(), whole: v.boolean() })
const File = v.object({ version: v.literal(1), boot: v.string(), peers: v.record(v.string(), Words) })

export class ExtensionJournal {
  readonly #path: string
  readonly #boot: string

  /** `boot`: this life of the machine, whose end undoes what commands did. */
  constructor(path: string, boot: string) {
    this.#path = path
    this.#boot = boot
  }

  /** Nobody, when there is no file, or one of another boot, or one that cannot be read (which is logged). */
  async read(log: Log): Promise<Map<string, NotedPeer>> {
    try {
      const file = v.parse(File, JSON.parse(await readFile(this.#path, 'utf8')))
      return new Map(file.boot === this.#boot ? Object.entries(file.peers) : [])
    } catch (error) {
      if (!hasCode(error, 'ENOENT'))
        log.warn(
          { path: this.#path, ...errorFields(error) },
          'the record of peers is damaged; their commands are run again',
        )
      return new Map()
    }
  }

  /** Throws errors of the file system. */
  async write(peers: ReadonlyMap<string, NotedPeer>): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o755 })
    const text = JSON.stringify({ version: 1, boot: this.#boot, peers: Object.fromEntries(peers) })
    await writeFileAtomic(this.#path, text, { mode: 0o600 })
  }
}

/** The kernel's name for this boot. */
export const bootId = async (): Promise<string> => (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
