/** All checks over one reading of the machine. Pure. */

import { sharedAddresses, clock, peers, underlay } from './checks/cluster.ts'
import { firewalld, forwardPolicy } from './checks/firewall.ts'
import { bridgeFilter, conntrack, forwarding, neighbours, reversePath } from './checks/kernel.ts'
import { networkd, networkManager } from './checks/managers.ts'
import { agent, bridgeAddress, conflist, mtu, subnetFile } from './checks/pods.ts'
import { checksumOffload, macPolicy, vxlanPort } from './checks/tunnel.ts'
import type { Facts } from './facts.ts'
import { CHECK_NAMES, type CheckName, type Finding } from './finding.ts'

type Check = (facts: Facts) => readonly Finding[]

const checks: Readonly<Record<CheckName, Check>> = {
  forwarding,
  'bridge-filter': bridgeFilter,
  'reverse-path': reversePath,
  'forward-policy': forwardPolicy,
  'checksum-offload': checksumOffload,
  'mac-policy': macPolicy,
  'network-manager': networkManager,
  networkd,
  firewalld,
  interface: underlay,
  addresses: sharedAddresses,
  peers,
  mtu,
  'bridge-address': bridgeAddress,
  conflist,
  'subnet-file': subnetFile,
  agent,
  clock,
  conntrack,
  neighbours,
  'vxlan-port': vxlanPort,
}

/** In the order of `CHECK_NAMES`; `only` leaves the others out. */
export const judge = (facts: Facts, only: readonly CheckName[] = CHECK_NAMES): readonly Finding[] =>
  CHECK_NAMES.filter((name) => only.includes(name)).flatMap((name) => checks[name](facts))
