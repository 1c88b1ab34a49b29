/** A node's runner against a cloud of the test, at fifty times the speed. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { CloudJournal } from '#agent/cloud/journal.ts'
import { CloudRunner } from '#agent/cloud/runner.ts'
import type { Log } from '#agent/log.ts'
import type { CloudName, Keys, OpenCloud } from '#cloud/client.ts'
import { send } from '#cloud/http.ts'
import { localNode } from '#flannel/fixture.ts'
import type { Local } from '#flannel/local.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import { slowness } from '../slow.ts'
import type { CloudServer } from './cloud-server.ts'

const SPEED = 50
export const fastClock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / SPEED, signal) }

export const SUBNET = '10.244.0.0/24'

/** Node 0, with these pods. */
export function nodeWith(type: CloudName, subnet = SUBNET): Local {
  const local = localNode({ conf: { type } })
  return local[4] === undefined ? local : { ...local, 4: { ...local[4], subnet: cidrText(subnet) } }
}

export class Bench implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'hdll-cloud-'))
  readonly file = join(this.folder, 'routes.json')
  readonly troubles: (string | undefined)[] = []
  readonly changes: string[] = []
  /** Everything that was logged. */
  logged = ''
  readonly cloud: CloudName
  readonly server: CloudServer
  readonly #open: OpenCloud
  passes = 0

  constructor(cloud: CloudName, server: CloudServer, open: OpenCloud) {
    this.cloud = cloud
    this.server = server
    this.#open = open
  }

  readonly #log = (fields: unknown, message?: unknown): void => {
    this.logged += `${JSON.stringify(fields)} ${String(message)}\n`
  }
  readonly log: Log = { debug: this.#log, info: this.#log, warn: this.#log, error: this.#log }

  runner(
    options: { readonly keys?: Keys; readonly api?: string; readonly tables?: readonly string[] } = {},
  ): Promise<CloudRunner> {
    return CloudRunner.open({
      cloud: this.cloud,
      open: (_, signal) =>
        this.#open(
          {
            send,
            clock: fastClock,
            random: Math.random,
            node: 'node-0',
            address: ipText('192.168.0.1'),
            keys: options.keys,
            tables: options.tables,
            metadata: this.server.url,
            api: options.api ?? this.server.url,
          },
          signal,
        ),
      journal: new CloudJournal(this.file),
      clock: fastClock,
      random: Math.random,
      log: this.log,
      onPass: () => void this.passes++,
      onChange: (step) => void this.changes.push(step),
      onState: (trouble) => void this.troubles.push(trouble),
    })
  }

  /** Until it is so; throws after 10 s with the last trouble. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const end = Date.now() + 10_000 * slowness
    while (!isSo()) {
      if (Date.now() > end)
        throw new Error(`waited for: ${what}; last trouble: ${this.troubles.at(-1)}; ${this.logged.slice(-500)}`)
      await delay(5)
    }
  }

  /** Until a pass has found everything right, from now on. */
  async quiet(): Promise<void> {
    const from = this.troubles.length
    await this.until('a quiet table', () => this.troubles.length > from && this.troubles.at(-1) === undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
