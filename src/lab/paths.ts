/** Where a lab keeps its files: one directory per lab, one per node below it. */

import { join, resolve } from 'node:path'
import { LabError } from './error.ts'

export interface NodePaths {
  readonly directory: string
  /** The agent's `--root`: what would be /run and /var of a machine of its own. */
  readonly root: string
  readonly cniSocket: string
  readonly healthSocket: string
  readonly log: string
  /** Where this node's container runtime caches results, as libcni does. */
  readonly cniCache: string
}

export interface LabPaths {
  readonly directory: string
  /** What was planned, written before anything is made. */
  readonly record: string
  readonly processes: string
  /** For the machine that runs the lab. */
  readonly kubeconfig: string
  /** For nodes and pods. */
  readonly innerKubeconfig: string
  readonly keeperLog: string
  node(name: string): NodePaths
}

/** Namespaces are where `ip netns` keeps them. */
export const netnsPath = (namespace: string): string => `/run/netns/${namespace}`

/** Holds all labs; HEDDLE_LAB_DIR moves it. */
export const labsDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  resolve(env['HEDDLE_LAB_DIR'] ?? '/run/heddle/lab')

/** sun_path has 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH = 107

/** Paths of the lab `name`. Throws `LabError` `bad-spec` when socket paths would not fit into a socket address. */
export function labPaths(name: string, base: string = labsDirectory()): LabPaths {
  const directory = join(base, name)
  const longest = Buffer.byteLength(join(directory, 'nodes', 'worker-100', 'health.sock'))
  if (longest > MAX_SOCKET_PATH) {
    throw new LabError(
      'bad-spec',
      `${directory} is too long a path: sockets below it would need ${longest} bytes, and a socket address holds ${MAX_SOCKET_PATH}`,
      'Set HEDDLE_LAB_DIR to a shorter path.',
    )
  }
  return {
    directory,
    record: join(directory, 'lab.json'),
    processes: join(directory, 'processes.json'),
    kubeconfig: join(directory, 'kubeconfig'),
    innerKubeconfig: join(directory, 'kubeconfig-inside'),
    keeperLog: join(directory, 'keeper.log'),
    node: (node) => {
      const own = join(directory, 'nodes', node)
      return {
        directory: own,
        root: join(own, 'root'),
        cniSocket: join(own, 'cni.sock'),
        healthSocket: join(own, 'health.sock'),
        log: join(own, 'agent.log'),
        cniCache: join(own, 'root/var/lib/cni'),
      }
    },
  }
}
