/** A PluginHost for IPAM plugins alone: a temporary root, and nothing of the network. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { PluginHost } from '#cni/plugin.ts'

export interface IpamHost extends Disposable {
  readonly host: PluginHost
  readonly root: string
  /** Called at every fail point. */
  atFailpoint: (name: string) => void
}

export function ipamHost(): IpamHost {
  const root = mkdtempSync(join(tmpdir(), 'heddle-ipam-'))
  const made: IpamHost = {
    root,
    atFailpoint: () => {},
    host: {
      root,
      get netlink(): never {
        throw new Error('an IPAM plugin has no business with netlink')
      },
      delegate: async (): Promise<never> => {
        throw new Error('an IPAM plugin delegates nothing')
      },
      failpoint: (name) => made.atFailpoint(name),
      log: () => {},
    },
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  }
  return made
}
