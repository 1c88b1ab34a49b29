/**
 * Backends whose packets the cloud's own network carries: on the node there is no tunnel and no route to peers, and the route table of the cloud leads each
 * node's subnet to it. Writing that table is the agent's work (`#agent/cloud`).
 */

import type { CloudName } from '#cloud/client.ts'
import { noData, type Backend } from '../backend/backend.ts'
import { underlayMtu } from '../local.ts'

export const cloud = (type: CloudName): Backend => ({
  ...noData,
  type,
  families: [4],
  mtu: underlayMtu,
  devicePlan: () => [],
  peerPlan: () => [],
  objection: () => undefined,
})
