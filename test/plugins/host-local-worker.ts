/** A process with the host-local plugin that does one order after the other, and may be told to die at a fail point: `host-local-worker.ts ROOT`. */

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'

import { toCniError } from '#cni/errors.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { hostLocal } from '#ipam/host-local/plugin.ts'
import { gcInputOf, inputOf } from './input.ts'

export interface Order {
  readonly verb: 'ADD' | 'DEL' | 'GC'
  readonly conf: JsonObject
  readonly containerId: string
  /** For GC. */
  readonly valid?: readonly string[]
  /** It dies by SIGKILL when it has passed so many fail points. */
  readonly dieAt?: number
}

export type Done = { readonly addresses: readonly string[] } | { readonly code: number; readonly message: string }

/** Such a process from outside; another one takes its place when it was killed. */
export class Worker implements Disposable {
  readonly #root: string
  #child: ChildProcess

  constructor(root: string) {
    this.#root = root
    this.#child = this.#start()
  }

  #start(): ChildProcess {
    const program = new URL(import.meta.url).pathname
    // It ends with its channel, so also with a test that was killed.
    return fork(program, [this.#root], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  }

  /** Undefined when it died. */
  async run(order: Order): Promise<Done | undefined> {
    const child = this.#child
    const exited = once(child, 'exit').then(() => undefined)
    const answered = once(child, 'message').then(([done]: readonly Done[]) => done)
    child.send(order)
    const done = await Promise.race([answered, exited])
    if (done === undefined) this.#child = this.#start()
    return done
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
  }
}

if (import.meta.main) {
  let left = Infinity
  const host: PluginHost = {
    root: process.argv[2] ?? '',
    get netlink(): never {
      throw new Error('an IPAM plugin has no business with netlink')
    },
    delegate: async (): Promise<never> => {
      throw new Error('an IPAM plugin delegates nothing')
    },
    failpoint: () => {
      if (left-- <= 0) process.kill(process.pid, 'SIGKILL')
    },
    log: () => {},
  }
  process.on('message', async (order: Order) => {
    left = order.dieAt ?? Infinity
    process.send?.(await execute(order))
  })
  const execute = async ({ verb, conf, containerId, valid = [] }: Order): Promise<Done> => {
    try {
      if (verb === 'GC') {
        const attachments = valid.map((id) => ({ containerId: id, ifname: 'eth0' }))
        await hostLocal.gc(gcInputOf(conf, attachments), host)
        return { addresses: [] }
      }
      const input = inputOf(conf, { containerId })
      if (verb === 'DEL') {
        await hostLocal.del(input, host)
        return { addresses: [] }
      }
      const result = await hostLocal.add(input, host)
      return { addresses: result.ips.map(({ address }) => address.split('/')[0] ?? '') }
    } catch (error) {
      const { code, message } = toCniError(error)
      return { code, message }
    }
  }
}
