/** What runs in a lab whose nodes are VMs: the cloud itself, and an agent in each. */

import type { LabPaths } from '../paths.ts'
import { MARK } from '../process.ts'
import { labEnvironment, type Program } from '../program.ts'
import type { LabRecord } from '../record.ts'
import type { Supervised } from '../supervisor.ts'
import type { CloudPlan } from './plan.ts'
import { cniFile } from './network.ts'
import { cloudPaths } from './state.ts'

/** Among the keeper's processes. */
export const CLOUD_PROCESS = 'cloud'

/** The cloud, on the machine itself: its servers are reached by 127.0.0.1. */
export const cloudProcess = (record: LabRecord, paths: LabPaths, program: Program): Supervised => ({
  name: CLOUD_PROCESS,
  file: program.file,
  args: [...program.args, 'lab', 'cloud', '--name', record.spec.name],
  env: labEnvironment({ [MARK]: record.id }),
  netns: '/proc/self/ns/net',
  log: cloudPaths(paths.directory).log,
})

/** Flags of a VM's agent: it serves the plugins, and what they need to know of the cluster they are told in their configuration. */
export function cloudAgentArguments(cloud: CloudPlan, node: string, paths: LabPaths): string[] {
  const own = paths.node(node)
  return [
    ['--cni-only'],
    ['--node-name', node],
    ['--root', own.root],
    ['--socket', own.cniSocket],
    ['--health-listen', own.healthSocket],
    // A card of its own brings a pod's addresses with it: nothing to keep a pool of.
    cloud.mode === 'passthrough' ? [] : ['--neutron-config', cniFile(own)],
  ].flat()
}
