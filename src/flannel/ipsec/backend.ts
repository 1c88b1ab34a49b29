/**
 * flannel's ipsec backend as a plan: nothing for the kernel, because charon installs the policies and the associations of a connection itself. What charon
 * is told about each peer is in `connection.ts`, and the agent tells it (`#agent/ipsec`).
 */

import { noData, type Backend } from '../backend/backend.ts'
import { underlayMtu } from '../local.ts'
import type { IpsecConf } from './conf.ts'

/** Outer header, ESP header and trailer, initialization vector, padding and check value, at most. As flannel subtracts them. */
const OVERHEAD = 77
/** UDP header of encapsulated ESP. */
const UDP_OVERHEAD = 8

export const ipsec = ({ udpEncap }: IpsecConf): Backend => ({
  ...noData,
  type: 'ipsec',
  families: [4],
  mtu: (local) => underlayMtu(local) - OVERHEAD - (udpEncap ? UDP_OVERHEAD : 0),
  devicePlan: () => [],
  peerPlan: () => [],
  objection: () => undefined,
})
