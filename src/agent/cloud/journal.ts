/** Which routes this node has put into its cloud's tables, on disk: some clouds have no place in a route for a mark. Survives reboots, as the routes do. */

import { mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as v from 'valibot'

import { CLOUDS } from '#cloud/client.ts'
import { tryParseCidr, formatCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { writeFileAtomic } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import { errorFields, type Log } from '../log.ts'

export interface NotedRoute {
  readonly table: string
  readonly destination: CidrText
  /** Seen in force in the table after it was made. */
  readonly whole: boolean
}

export interface CloudNotes {
  readonly cloud: string
  /** The instance that they lead to. */
  readonly nextHop: string
  readonly routes: readonly NotedRoute[]
}

const File = v.object({
  version: v.literal(1),
  cloud: v.picklist(CLOUDS),
  nextHop: v.string(),
  routes: v.array(v.object({ table: v.string(), destination: v.string(), whole: v.boolean() })),
})

export class CloudJournal {
  readonly #path: string
  #written = ''

  constructor(path: string) {
    this.#path = path
  }

  /** Undefined when there is no file, or one that cannot be read (which is logged). */
  async read(log: Log): Promise<CloudNotes | undefined> {
    try {
      const { cloud, nextHop, routes } = v.parse(File, JSON.parse(await readFile(this.#path, 'utf8')))
      return {
        cloud,
        nextHop,
        routes: routes.flatMap(({ table, destination, whole }) => {
          const cidr = tryParseCidr(destination)
          return cidr === undefined ? [] : [{ table, destination: formatCidr(cidr), whole }]
        }),
      }
    } catch (error) {
      if (!hasCode(error, 'ENOENT'))
        log.warn(
          { path: this.#path, ...errorFields(error) },
          'the record of cloud routes is damaged: beginning a new one',
        )
      return undefined
    }
  }

  /** Throws errors of the file system. */
  async write(notes: CloudNotes): Promise<void> {
    const text = JSON.stringify({ version: 1, ...notes })
    if (text === this.#written) return
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o755 })
    await writeFileAtomic(this.#path, text, { mode: 0o600 })
    this.#written = text
  }
}
