/** Everything that the checks look at, as plain data: read once, judged without touching the machine again. */

import type { NodeView } from '#flannel/node-view.ts'
import type { CidrText } from '#ip/text.ts'
import type { SeenAddr } from '#netlink/addr.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import type { SubnetEnv } from '#plugins/flannel/subnet-env.ts'

/** A chain that the kernel passes forwarded packets to, and its rules as `nft list chain` or `iptables-save` prints them. */
export interface ForwardChain {
  /** `ip filter FORWARD`, or `iptables-legacy filter FORWARD`. */
  readonly name: string
  readonly drops: boolean
  readonly rules: readonly string[]
  /** Makes it accept what no rule decides. */
  readonly accept: string
}

export interface Conf {
  readonly file: string
  readonly types: readonly string[]
  /** Why the file is no configuration. */
  readonly error?: string
}

export interface Cluster {
  /** This node's name; undefined where nobody said it. */
  readonly node: string | undefined
  readonly nodes: readonly NodeView[]
  /** Milliseconds by which this machine's clock is ahead of the API server's. */
  readonly ahead: number | undefined
}

export interface Facts {
  readonly kernelRelease: string
  readonly links: readonly Link[]
  readonly addrs: readonly SeenAddr[]
  readonly routes: readonly SeenRoute[]
  /** Entries of the neighbour tables, by family. */
  readonly neighbours: { readonly 4: number; readonly 6: number }
  /** Kernel settings by key with slashes; what is absent the kernel has not. */
  readonly sysctls: ReadonlyMap<string, string>
  readonly forwardChains: readonly ForwardChain[]
  /** Offload features that are on, by device; a device is absent where the kernel cannot say. */
  readonly features: ReadonlyMap<string, ReadonlySet<string>>
  readonly running: { readonly networkManager: boolean; readonly networkd: boolean; readonly firewalld: boolean }
  /** Configuration files of network managers, udev and firewalld, by path. */
  readonly files: ReadonlyMap<string, string>
  readonly vendor: string
  readonly subnetFile: { readonly path: string; readonly content: SubnetEnv | string | undefined }
  /** In the order in which runtimes take them. */
  readonly confs: { readonly directory: string; readonly files: readonly Conf[] }
  readonly plugins: { readonly directory: string; readonly types: ReadonlySet<string> }
  readonly agent: { readonly socket: string; readonly state: 'answers' | 'silent' | 'absent' }
  /** What the API server says; a text is why it does not. */
  readonly cluster: Cluster | string
}

/** The pod networks, as far as this node was told. */
export function podNetworks({ subnetFile: { content } }: Facts): readonly CidrText[] {
  return typeof content === 'object' ? content.networks : []
}

export function linkNamed({ links }: Facts, name: string): Link | undefined {
  return links.find((link) => link.name === name)
}

export const nameOf = ({ links }: Facts, index: number | undefined): string | undefined =>
  links.find((link) => link.index === index)?.name

/** This node in what the API server lists. */
export function ownNode({ cluster }: Facts): NodeView | undefined {
  return typeof cluster === 'string' ? undefined : cluster.nodes.find(({ name }) => name === cluster.node)
}
