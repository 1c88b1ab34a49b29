/** Whether this machine's kernel has the devices that a backend needs: asked before anything waits for them. */

import { existsSync } from 'node:fs'

import { createLink, deleteLink } from '#netlink/link.ts'
import type { LinkInfo } from '#netlink/link-kinds.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import { LabError } from './error.ts'
import { netnsPath } from './paths.ts'
import type { LabPlan } from './plan.ts'
import type { LabBackend } from './spec.ts'

const TUN_FILE = '/dev/net/tun'

const NEEDED: { readonly [backend in LabBackend]?: LinkInfo } = {
  vxlan: { kind: 'vxlan', data: { id: 1, port: 8472 } },
  directrouting: { kind: 'vxlan', data: { id: 1, port: 8472 } },
  ipip: { kind: 'ipip', data: {} },
  wireguard: { kind: 'wireguard' },
}

/** Tries in the outside's namespace, which is not connected yet. Throws `LabError` `no-kernel`. */
export async function requireDevices({ spec, outside }: LabPlan): Promise<void> {
  if (spec.backend === 'udp' && !existsSync(TUN_FILE))
    throw new LabError(
      'no-kernel',
      `backend udp needs ${TUN_FILE}, which this machine does not have`,
      'Load the module (modprobe tun), or use another backend: --backend host-gw needs none.',
    )
  const info = NEEDED[spec.backend]
  if (info === undefined) return
  using netlink = NetlinkSocket.open({ netns: netnsPath(outside.namespace) })
  try {
    createLink(netlink, { name: 'probe', info })
  } catch (error) {
    if (!hasCode(error, 'EOPNOTSUPP')) throw error
    throw new LabError(
      'no-kernel',
      `backend ${spec.backend} needs devices of the kind ${info.kind}, which this machine's kernel does not have`,
      `Load the module if there is one (modprobe ${info.kind}; Debian has it in its kernel), or use another backend: --backend host-gw needs none.`,
    )
  }
  await deleteLink(netlink, 'probe')
}
