/** The chain that both sides run: bridge with host-local, then portmap with one port of the host, as flannel configures them. */

import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonObject } from '#cni/json.ts'
import type { CniNode, Plugins, Pod } from './attach.ts'
import type { Bed, Namespace } from './bed.ts'
import { heddle, ownPlugins, referencePlugins } from './paths.ts'

const TYPES = ['bridge', 'portmap']
const CNI_VERSION = '1.0.0'
const NETWORK = 'bench'
const FIRST_HOST_PORT = 20_000

const configs = (pod: Pod, node: CniNode): readonly JsonObject[] => [
  {
    cniVersion: CNI_VERSION,
    name: NETWORK,
    type: 'bridge',
    bridge: 'cni0',
    isDefaultGateway: true,
    hairpinMode: true,
    ipMasq: false,
    mtu: 1450,
    ipam: {
      type: 'host-local',
      ranges: [[{ subnet: '10.88.0.0/16' }]],
      dataDir: join(node.directory, 'networks'),
    },
  },
  {
    cniVersion: CNI_VERSION,
    name: NETWORK,
    type: 'portmap',
    snat: true,
    runtimeConfig: {
      portMappings: [{ hostPort: FIRST_HOST_PORT + pod.number, containerPort: 80, protocol: 'tcp' }],
    },
  },
]

/** Debian's containernetworking-plugins, executed. */
export const reference = async (): Promise<Plugins> => ({ path: referencePlugins, types: TYPES, configs })

/** Heddle's shims with a warm agent behind them, which runs on the node. */
export const own =
  (bed: Bed) =>
  async (netns: Namespace, directory: string): Promise<Plugins> => {
    const socket = join(directory, 'cni.sock')
    const flags = [
      '--cni-only',
      '--socket',
      socket,
      '--root',
      join(bed.memory, basename(directory)),
      '--log-level',
      'warn',
    ]
    const agent = bed.start(netns, heddle, ['agent', ...flags])
    await until(
      () => existsSync(socket),
      () => agent.child.exitCode === null,
      15_000,
    ).catch((error: unknown) => {
      throw new Error(`heddle agent --cni-only is not ready: ${agent.lastWords()}`, { cause: error })
    })
    // Without the agent a shim would start the standalone program: it shall fail instead.
    return { path: ownPlugins, types: TYPES, configs, env: { HEDDLE_SOCKET: socket, HEDDLE_NODE: '/bin/false' } }
  }

/** Polls until something holds; throws when it cannot any more, or not in time. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  mayHold: () => boolean,
  limitMs: number,
): Promise<void> {
  const deadline = performance.now() + limitMs
  while (!(await holds())) {
    if (!mayHold()) throw new Error('the process ended')
    if (performance.now() > deadline) throw new Error(`nothing for ${limitMs / 1000} s`)
    await sleep(20)
  }
}

/** Why the reference cannot run here. */
export const referenceMissing = (): string | undefined =>
  existsSync(join(referencePlugins, 'portmap'))
    ? undefined
    : 'the reference plugins are missing: apt-get install containernetworking-plugins iptables'
