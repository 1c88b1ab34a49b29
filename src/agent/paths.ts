/** Every path that the agent uses, under one root, so that several agents can share a machine. */

import { isAbsolute, join, resolve } from 'node:path'

export interface AgentPaths {
  /** '' in normal life; else prefixed to every path, plugins' state included. */
  readonly root: string
  readonly cniSocket: string
  /** Where the plugin dhcp finds its daemon. */
  readonly dhcpSocket: string
  readonly subnetFile: string
  readonly netConf: string
  /** Last-known nodes and network configuration: survives reboots. */
  readonly snapshot: string
  readonly lock: string
  /** Where the relay of the udp backend listens to the agent. */
  readonly relaySocket: string
  /** Peers that commands of the extension backend were run for. */
  readonly extension: string
  /** Routes of this node in the table of its cloud. */
  readonly cloudRoutes: string
  /** Where strongSwan's charon listens. */
  readonly charon: string
  /** This node's WireGuard key; survives reboots. */
  readonly wireguardKey: string
  /** Where flannel keeps it. */
  readonly flannelWireguardKey: string
}

export interface PathOptions {
  readonly root?: string | undefined
  readonly socket?: string | undefined
  readonly dhcpSocket?: string | undefined
  readonly subnetFile?: string | undefined
  readonly netConfigPath?: string | undefined
}

/** Paths that the user names are taken as they are; the others lie under the root. */
export function agentPaths(options: PathOptions): AgentPaths {
  const root = options.root === undefined || options.root === '/' ? '' : resolve(options.root)
  const under = (path: string): string => (root === '' ? path : join(root, path))
  const named = (path: string | undefined, usual: string): string =>
    path === undefined ? under(usual) : isAbsolute(path) ? path : resolve(path)
  return {
    root,
    dhcpSocket: named(options.dhcpSocket, '/run/cni/dhcp.sock'),
    cniSocket: named(options.socket, '/run/heddle/cni.sock'),
    subnetFile: named(options.subnetFile, '/run/flannel/subnet.env'),
    netConf: named(options.netConfigPath, '/etc/kube-flannel/net-conf.json'),
    snapshot: under('/var/lib/heddle/flannel.json'),
    lock: under('/run/heddle/agent.lock'),
    relaySocket: under('/run/heddle/relay.sock'),
    extension: under('/var/lib/heddle/extension.json'),
    cloudRoutes: under('/var/lib/heddle/cloud-routes.json'),
    charon: under('/run/charon.vici'),
    wireguardKey: under('/var/lib/heddle/wgkey'),
    flannelWireguardKey: under('/run/flannel/wgkey'),
  }
}
