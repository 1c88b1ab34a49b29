/** flannel's extension backend as a plan: nothing for the kernel. The commands are run by the agent (`#agent/extension`). */

import { underlayMtu, localFamilies, type Local } from '../local.ts'
import type { Lease } from '../lease.ts'
import type { Backend } from '../backend/backend.ts'
import { parseTextData } from './data.ts'

export const extension: Backend = {
  type: 'extension',
  families: [4, 6],
  deviceName: () => undefined,
  mtu: underlayMtu,
  published: ({ identity }) => ({ kind: 'text', text: identity?.kind === 'extension' ? identity.text : '' }),
  readData: parseTextData,
  devicePlan: () => [],
  peerPlan: () => [],
  objection: () => undefined,
}

export type Variables = Readonly<Record<string, string>>

/** What PostStartupCommand and ShutdownCommand are told. */
export function ownVariables(local: Local): Variables {
  const { 4: v4, 6: v6 } = local
  return {
    ...(v4 === undefined ? {} : { NETWORK: v4.network, SUBNET: v4.subnet, PUBLIC_IP: v4.publicIp }),
    ...(v6 === undefined ? {} : { IPV6NETWORK: v6.network, IPV6SUBNET: v6.subnet, PUBLIC_IPV6: v6.publicIp }),
  }
}

/** What SubnetAddCommand and SubnetRemoveCommand are told about a peer, and what they read on standard input: its data. */
export function peerVariables(local: Local, lease: Lease): { readonly variables: Variables; readonly input: string } {
  const [v4, v6] = ([4, 6] as const).map((family) =>
    localFamilies(local).includes(family) ? lease[family] : undefined,
  )
  const data = (v4 ?? v6)?.data
  return {
    variables: {
      ...(v4 === undefined ? {} : { SUBNET: v4.subnet, PUBLIC_IP: v4.publicIp }),
      ...(v6 === undefined ? {} : { IPV6SUBNET: v6.subnet, PUBLIC_IPV6: v6.publicIp }),
    },
    input: data?.kind === 'text' ? data.text : '',
  }
}
