/** Waiting for a lab's cloud, and saying at once when this machine cannot have one. */

import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLink, deleteLink, getLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import { LabError } from '../error.ts'
import { netnsPath, type LabPaths } from '../paths.ts'
import type { LabPlan } from '../plan.ts'
import { readProcesses } from '../record.ts'
import { isRootless } from '../rootless.ts'
import type { Progress } from '../steps.ts'
import { readyFile } from './cloud.ts'
import { installCommand, missingPackages } from './packages.ts'
import type { CloudPlan } from './plan.ts'
import { CLOUD_PROCESS } from './processes.ts'
import { cloudPaths } from './state.ts'

const POLL_MS = 100
/** Often enough to know that it will not start. */
const MAX_RESTARTS = 3

/** Throws `LabError` `no-kernel` for packages or devices that this machine does not have, with how to get them. */
export async function requireCloud({ outside }: LabPlan, { mode }: CloudPlan): Promise<void> {
  if (isRootless()) {
    throw new LabError(
      'not-permitted',
      "a lab in a cloud needs root: its users reach Keystone and Neutron from this machine, and a user namespace's are out of reach",
      'Repeat it as root, or leave --cloud out.',
    )
  }
  const missing = missingPackages()
  if (missing.length > 0) {
    throw new LabError(
      'no-kernel',
      `the cloud is a real Neutron with Keystone, and this machine lacks ${missing.join(', ')}`,
      `${installCommand(missing)} (these packages start services of their own; the lab does not use those)`,
    )
  }
  if (mode !== 'ipvlan') return
  using netlink = NetlinkSocket.open({ netns: netnsPath(outside.namespace) })
  createLink(netlink, { name: 'probe', info: { kind: 'veth', data: { peer: { name: 'probe-peer' } } } })
  try {
    const parent = getLink(netlink, 'probe').index
    createLink(netlink, { name: 'probe-child', parent, info: { kind: 'ipvlan', data: {} } })
  } catch (error) {
    if (!hasCode(error, 'EOPNOTSUPP')) throw error
    throw new LabError(
      'no-kernel',
      "mode ipvlan needs devices of the kind ipvlan, which this machine's kernel does not have",
      'Load the module if there is one (modprobe ipvlan; Debian has it in its kernel), or use --mode veth or --mode passthrough.',
    )
  } finally {
    await deleteLink(netlink, 'probe')
  }
}

export interface Patience {
  readonly deadline: number
  readonly signal?: AbortSignal | undefined
}

/** Until the cloud says that it is up. Throws when its process ended several times, or at the deadline. */
export async function waitForCloud(paths: LabPaths, progress: Progress, patience: Patience): Promise<void> {
  progress.at = 'the cloud'
  progress.log = cloudPaths(paths.directory).log
  await until(patience, () => {
    const restarts = readProcesses(paths).agents[CLOUD_PROCESS]?.restarts ?? 0
    if (restarts >= MAX_RESTARTS) throw new Error(`its process ended ${restarts} times`)
    return existsSync(readyFile(paths))
  })
}

/** Until every node's agent answers plugins. */
export async function waitForSockets(
  plan: LabPlan,
  paths: LabPaths,
  progress: Progress,
  patience: Patience,
): Promise<void> {
  await until(patience, () => {
    const late = plan.nodes.find(({ name }) => !existsSync(paths.node(name).cniSocket))
    if (late === undefined) return true
    progress.at = `the agent of ${late.name}`
    progress.log = paths.node(late.name).log
    return false
  })
}

async function until({ deadline, signal }: Patience, isTrue: () => boolean): Promise<void> {
  while (!isTrue()) {
    if (Date.now() >= deadline) throw new Error('it took too long')
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal })
  }
}
