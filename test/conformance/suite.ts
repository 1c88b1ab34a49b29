/** All cases, in the order of the report. */

import type { Case } from './case.ts'
import { addingCases } from './cases/adding.ts'
import { bridgeCases } from './cases/bridge.ts'
import { chainCases } from './cases/chains.ts'
import { checkCases, refusalCases } from './cases/check.ts'
import { collectCases } from './cases/collect.ts'
import { contractCases } from './cases/contract.ts'
import { crashCases } from './cases/crash.ts'
import { delegationCases } from './cases/delegation.ts'
import { hostLocalCases } from './cases/host-local.ts'
import { lifecycleCases } from './cases/lifecycle.ts'
import { staticCases } from './cases/static.ts'
import { bandwidth, firewall, portmap, sbr, tuning, vrf } from './subjects/chained.ts'
import { dhcp, dhcpCases } from './subjects/dhcp.ts'
import { hostLocal, staticIpam } from './subjects/ipam.ts'
import { bridge, dummy, hostDevice, ipvlan, loopback, macvlan, ptp, tap, vlan } from './subjects/main.ts'
import type { Subject } from './subject.ts'

export const subjects: readonly Subject[] = [
  bridge,
  ptp,
  macvlan,
  ipvlan,
  vlan,
  dummy,
  tap,
  hostDevice,
  loopback,
  hostLocal,
  staticIpam,
  dhcp,
  portmap,
  firewall,
  bandwidth,
  tuning,
  sbr,
  vrf,
]

const commonCases = (subject: Subject): readonly Case[] => [
  ...contractCases(subject.type),
  ...lifecycleCases(subject),
  ...addingCases(subject),
  ...refusalCases(subject),
  ...checkCases(subject),
  ...delegationCases(subject),
  ...collectCases(subject),
  ...crashCases(subject),
]

/** Those of one plugin alone. */
const ownCases: readonly Case[] = [...bridgeCases, ...hostLocalCases, ...staticCases, ...dhcpCases]

export const cases: readonly Case[] = [
  ...subjects.flatMap((subject) => [
    ...commonCases(subject),
    ...ownCases.filter(({ plugin }) => plugin === subject.type),
  ]),
  ...chainCases,
]
