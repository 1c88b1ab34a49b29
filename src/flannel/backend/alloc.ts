/** flannel's alloc backend: nodes have subnets, and something else has to carry the packets (a cloud's routes, BGP, a switch). */

import { underlayMtu } from '../local.ts'
import { noData, type Backend } from './backend.ts'

export interface AllocConf {
  readonly type: 'alloc'
}

export const alloc: Backend = {
  ...noData,
  type: 'alloc',
  families: [4, 6],
  mtu: underlayMtu,
  devicePlan: () => [],
  peerPlan: () => [],
  objection: () => undefined,
}
