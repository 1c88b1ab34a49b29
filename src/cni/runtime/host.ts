/** The machine as plugins of this process touch it. */

import { NetlinkSocket } from '#netlink/socket.ts'
import { recordFolder } from '../attachment/record.ts'
import type { HostBase } from './delegate.ts'

export interface HostOptions {
  /** Prefixed to every absolute path of state; '' in normal life. */
  readonly root?: string
  readonly log: HostBase['log']
  /** Where HEDDLE_FAILPOINT is looked up. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** rtnetlink is opened in this process's namespace at its first use; dispose of the host at the end. That use throws `AddonError` or `SysError`. */
export function openHost(options: HostOptions): HostBase & Disposable {
  let netlink: NetlinkSocket | undefined
  return {
    root: options.root ?? '',
    records: recordFolder(options.root ?? ''),
    get netlink() {
      return (netlink ??= NetlinkSocket.open())
    },
    failpoint: failpoints(options.env ?? process.env),
    log: options.log,
    [Symbol.dispose]: () => netlink?.[Symbol.dispose](),
  }
}

/**
 * Fail points for tests, from `HEDDLE_FAILPOINT`: `bridge.after-veth` kills the process there with SIGKILL, `bridge.after-veth=error` makes
 * the step fail. Several are separated by commas.
 */
export function failpoints(env: Readonly<Record<string, string | undefined>>): (name: string) => void {
  const wanted = new Map((env['HEDDLE_FAILPOINT'] ?? '').split(',').map((item) => split(item)))
  if (wanted.size === 1 && wanted.has('')) return () => {}
  return (name) => {
    const action = wanted.get(name)
    if (action === 'error') throw new Error(`fail point ${name}`)
    if (action !== undefined) process.kill(process.pid, 'SIGKILL')
  }
}

const split = (item: string): [string, string] => {
  const [name = '', action = 'kill'] = item.split('=')
  return [name, action]
}
