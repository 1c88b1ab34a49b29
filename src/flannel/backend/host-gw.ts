/** flannel's host-gw backend: one plain route per peer; all nodes share one layer 2. */

import { parseIp } from '#ip/address.ts'
import type { Desired } from '#state/entry.ts'
import { localFamilies } from '../local.ts'
import { isOnLink } from '../on-link.ts'
import type { Backend } from './backend.ts'
import { directRoute, owned } from './direct.ts'

const OWNER = 'flannel/host-gw'

export const hostGw: Backend = {
  type: 'host-gw',
  deviceName: () => undefined,
  mtu: (local) => local.underlay.mtu,
  published: () => ({ kind: 'none' }),
  devicePlan: () => [],
  peerPlan: (local, lease): Desired[] =>
    localFamilies(local).flatMap((family) => {
      const peer = lease[family]
      return peer === undefined ? [] : owned([directRoute(local, peer)], { owner: OWNER, reason: `node/${lease.node}` })
    }),
  objection: (local, _family, { publicIp }) =>
    isOnLink(local.underlay.routes, parseIp(publicIp), local.underlay.dev)
      ? undefined
      : {
          code: 'not-on-link',
          why: `${publicIp} is not on the network of ${local.underlay.dev}: host-gw needs all nodes on one layer 2 (the vxlan backend with DirectRouting does not)`,
        },
}
