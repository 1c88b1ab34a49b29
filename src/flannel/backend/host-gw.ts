/** flannel's host-gw backend: one plain route per peer; all nodes share one layer 2. */

import { parseIp } from '#ip/address.ts'
import type { Desired } from '#state/entry.ts'
import { localFamilies, underlayMtu } from '../local.ts'
import { isOnLink } from '../on-link.ts'
import { noData, type Backend } from './backend.ts'
import { directRoute, owned } from './direct.ts'

export interface HostGwConf {
  readonly type: 'host-gw'
}

export const hostGwConf = (): HostGwConf => ({ type: 'host-gw' })

const OWNER = 'flannel/host-gw'

export const hostGw: Backend = {
  ...noData,
  type: 'host-gw',
  families: [4, 6],
  mtu: underlayMtu,
  devicePlan: () => [],
  peerPlan: (local, lease): Desired[] =>
    localFamilies(local).flatMap((family) => {
      const peer = lease[family]
      const own = local[family]
      return peer === undefined || own === undefined
        ? []
        : owned([directRoute(own, peer)], { owner: OWNER, reason: `node/${lease.node}` })
    }),
  objection: ({ underlay }, { publicIp }) =>
    isOnLink(underlay.routes, parseIp(publicIp), underlay.dev)
      ? undefined
      : {
          code: 'not-on-link',
          why: `${publicIp} is not on the network of ${underlay.dev}: host-gw needs all nodes on one layer 2 (the vxlan backend with DirectRouting does not)`,
        },
}
