/** One reading of this machine, in the network namespace of the process. Changes nothing. */

import { readFileSync } from 'node:fs'
import { hostname, release } from 'node:os'
import { join } from 'node:path'

import { clusterConfig } from '#agent/cluster.ts'
import type { AgentPaths } from '#agent/paths.ts'
import { listAddrs } from '#netlink/addr.ts'
import { activeFeatures } from '#netlink/ethtool.ts'
import { openGenl } from '#netlink/genl.ts'
import { listLinks } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { listRoutes } from '#netlink/route.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { readSysctl } from '#sys/sysctl.ts'
import type { Facts } from '../facts.ts'
import { tunnels } from '../tunnels.ts'
import { agentAt, confs, pluginTypes, subnetFile } from './cni.ts'
import { readCluster } from './cluster.ts'
import { configurationFiles, namesIn, readText } from './files.ts'
import { forwardChains } from './firewall.ts'

export interface MachineOptions {
  readonly paths: AgentPaths
  readonly confDirectory: string
  readonly binDirectory: string
  readonly kubeconfig: string | undefined
  readonly kubeApiUrl: string | undefined
  /** Default: NODE_NAME, else the host's name. */
  readonly node: string | undefined
}

const SYSCTLS = [
  'net/ipv4/ip_forward',
  'net/ipv6/conf/all/forwarding',
  'net/bridge/bridge-nf-call-iptables',
  'net/ipv4/conf/all/rp_filter',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
  'net/ipv4/neigh/default/gc_thresh3',
  'net/ipv6/neigh/default/gc_thresh3',
]

/** Reads everything that the checks look at. Throws NetlinkError where the kernel does not let this user look. */
export async function readMachine(options: MachineOptions): Promise<Facts> {
  const { paths } = options
  using socket = NetlinkSocket.open()
  const links = listLinks(socket)
  const neighs = listNeighs(socket)
  const found: Omit<Facts, 'sysctls' | 'features'> = {
    kernelRelease: release(),
    links,
    addrs: listAddrs(socket),
    routes: listRoutes(socket),
    neighbours: {
      4: neighs.filter(({ ip }) => !ip.includes(':')).length,
      6: neighs.filter(({ ip }) => ip.includes(':')).length,
    },
    forwardChains: await forwardChains(),
    running: running(),
    files: configurationFiles(paths.root),
    vendor: (readText('/sys/class/dmi/id/sys_vendor') ?? '').trim(),
    subnetFile: subnetFile(paths.subnetFile),
    confs: await confs(options.confDirectory),
    plugins: pluginTypes(options.binDirectory),
    agent: await agentAt(paths.cniSocket),
    cluster: await readCluster(
      () => clusterConfig(options.kubeconfig, options.kubeApiUrl),
      options.node ?? process.env['NODE_NAME'] ?? hostname(),
    ),
  }
  const devices = tunnels({ ...found, sysctls: new Map(), features: new Map() })
  return { ...found, sysctls: sysctls(devices), features: features(devices) }
}

function sysctls(devices: readonly Link[]): ReadonlyMap<string, string> {
  const keys = [...SYSCTLS, ...devices.map(({ name }) => `net/ipv4/conf/${name}/rp_filter`)]
  return new Map(
    keys.flatMap((key) => {
      try {
        return [[key, readSysctl(key)] as const]
      } catch {
        return []
      }
    }),
  )
}

function features(devices: readonly Link[]): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, ReadonlySet<string>>()
  using socket = openGenl()
  for (const { name } of devices) {
    const on = activeFeatures(socket, name)
    if (on !== undefined) found.set(name, on)
  }
  return found
}

/** By the names of processes, as in /proc/PID/comm: it holds fifteen characters of them. */
function running(): Facts['running'] {
  const names = new Set(
    namesIn('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .map(commandOf),
  )
  return {
    networkManager: names.has('NetworkManager'),
    networkd: names.has('systemd-network'),
    firewalld: names.has('firewalld'),
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(join('/proc', pid, 'comm'), 'utf8').trim()
  } catch {
    return ''
  }
}
