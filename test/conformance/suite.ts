/** All cases, in the order of the report. */

import type { Case } from './case.ts'
import { addingCases } from './cases/adding.ts'
import { checkCases, refusalCases } from './cases/check.ts'
import { collectCases } from './cases/collect.ts'
import { contractCases } from './cases/contract.ts'
import { crashCases } from './cases/crash.ts'
import { lifecycleCases } from './cases/lifecycle.ts'
import { bandwidth, firewall, portmap, sbr, tuning, vrf } from './subjects/chained.ts'
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
  ...collectCases(subject),
  ...crashCases(subject),
]

export const cases: readonly Case[] = subjects.flatMap(commonCases)
