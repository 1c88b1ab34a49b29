/** What an agent is told: flags, with the environment behind them. */

import { hostname } from 'node:os'
import { resolve } from 'node:path'

import { tryParseIp, formatIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { annotationKeys, DEFAULT_PREFIX, type AnnotationKeys } from '#flannel/annotations.ts'
import { FlannelError, shown } from '#flannel/errors.ts'
import type { UnderlayWish } from '#flannel/underlay.ts'
import { etcdOptions, type EtcdAgentFlags, type EtcdDatastoreOptions } from './etcd-options.ts'
import { parseListen, type ListenAddress } from './health-server.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'
import { agentPaths, type AgentPaths } from './paths.ts'

/** Flags as commander reads them, by their camel-case names. All text is unchecked. */
export interface AgentFlags extends EtcdAgentFlags {
  readonly nodeName?: string | undefined
  readonly kubeconfig?: string | undefined
  readonly kubeApiUrl?: string | undefined
  readonly netConfigPath?: string | undefined
  readonly netConfigMap?: string | undefined
  readonly iface?: readonly string[] | undefined
  readonly ifaceRegex?: readonly string[] | undefined
  readonly ifaceCanReach?: string | undefined
  readonly publicIp?: string | undefined
  readonly publicIpv6?: string | undefined
  readonly ipMasq?: boolean | undefined
  readonly ipMasqFullyRandom?: boolean | undefined
  readonly iptablesForwardRules?: boolean | undefined
  readonly iptablesResync?: string | undefined
  readonly ipBlackholeRoute?: boolean | undefined
  readonly setNodeNetworkUnavailable?: boolean | undefined
  readonly kubeAnnotationPrefix?: string | undefined
  readonly allowExtensionCommands?: boolean | undefined
  readonly subnetFile?: string | undefined
  readonly root?: string | undefined
  readonly socket?: string | undefined
  readonly dhcp?: boolean | undefined
  readonly dhcpSocket?: string | undefined
  readonly neutronConfig?: string | undefined
  readonly cniOnly?: boolean | undefined
  readonly healthListen?: string | undefined
  readonly logLevel?: string | undefined
  readonly leakInterval?: string | undefined
}

/** Where net-conf.json comes from. `usual`: the file if it is there, else a ConfigMap of flannel's manifests. */
export type NetConfSource =
  | { readonly from: 'usual'; readonly path: string }
  | { readonly from: 'file'; readonly path: string }
  | { readonly from: 'configmap'; readonly namespace: string; readonly name: string }

export interface KubeOptions {
  readonly kind: 'kubernetes'
  readonly kubeconfig: string | undefined
  readonly kubeApiUrl: string | undefined
  readonly netConf: NetConfSource
  readonly setNetworkUnavailable: boolean
  readonly keys: AnnotationKeys
}

export interface ClusterOptions {
  readonly node: string
  readonly datastore: KubeOptions | EtcdDatastoreOptions
  readonly wish: UnderlayWish
  readonly ipMasq: boolean
  readonly randomFully: boolean
  readonly forwardRules: boolean
  readonly blackhole: boolean
  /** Between two looks at flannel's rules in iptables, in seconds. */
  readonly iptablesResync: number
  /** WIREGUARD_KEY_FILE, as flannel calls it: instead of our own place. */
  readonly wireguardKeyFile: string | undefined
  /** The network configuration may name commands, which are run as the agent's user. */
  readonly allowExtension: boolean
}

export interface AgentOptions {
  readonly paths: AgentPaths
  readonly health: ListenAddress | undefined
  /** Keep DHCP leases. */
  readonly dhcp: boolean
  /** File with the configuration of neutron-ipam; absent: no daemon for it. */
  readonly neutronConfig: string | undefined
  readonly logLevel: LogLevel
  /** Milliseconds between two looks for leftovers; 0 for none. */
  readonly leakInterval: number
  /** Absent with --cni-only. */
  readonly cluster: ClusterOptions | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

/** Checks flags and environment. Throws FlannelError `bad-option` naming the flag. */
export function agentOptions(flags: AgentFlags, env: Environment): AgentOptions {
  const level = flags.logLevel ?? 'info'
  const logLevel = LOG_LEVELS.find((one) => one === level)
  if (logLevel === undefined) throw bad('log-level', level, `one of ${LOG_LEVELS.join(', ')}`)
  const health = flags.healthListen === undefined ? undefined : parseListen(flags.healthListen)
  if (flags.healthListen !== undefined && health === undefined)
    throw bad('health-listen', flags.healthListen, 'a path such as /run/heddle/health.sock, or HOST:PORT')
  const paths = agentPaths(flags)
  const leakInterval = seconds(flags.leakInterval, 'leak-interval', 60, 24 * 3600) * 1000
  return {
    paths,
    health,
    dhcp: flags.dhcp ?? true,
    neutronConfig: flags.neutronConfig === undefined ? undefined : resolve(flags.neutronConfig),
    logLevel,
    leakInterval,
    cluster: flags.cniOnly === true ? undefined : clusterOptions(flags, env, paths),
  }
}

function clusterOptions(flags: AgentFlags, env: Environment, paths: AgentPaths): ClusterOptions {
  const etcd = etcdOptions(flags)
  // In etcd a node is its subnet; its name only serves the log.
  const node = flags.nodeName ?? env['NODE_NAME'] ?? (etcd === undefined ? undefined : ownName())
  if (node === undefined || node === '')
    throw new FlannelError(
      'bad-option',
      'node-name',
      'the name of this Node is not known',
      'pass --node-name, or set NODE_NAME (in a pod from fieldRef spec.nodeName); --cni-only needs none',
    )
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(node))
    throw bad('node-name', node, "the Node's name in Kubernetes, as `kubectl get nodes` prints it")
  return {
    node,
    datastore: etcd ?? {
      kind: 'kubernetes',
      kubeconfig: flags.kubeconfig,
      kubeApiUrl: flags.kubeApiUrl,
      netConf: netConfSource(flags, paths),
      setNetworkUnavailable: flags.setNodeNetworkUnavailable ?? true,
      keys: annotationKeys(flags.kubeAnnotationPrefix ?? DEFAULT_PREFIX),
    },
    wish: {
      ifaces: flags.iface ?? [],
      patterns: (flags.ifaceRegex ?? []).map(pattern),
      ...optional('canReach', ip(flags.ifaceCanReach, 'iface-can-reach')),
      publicIps: {
        ...optional(4, ip(flags.publicIp, 'public-ip', 4)),
        ...optional(6, ip(flags.publicIpv6, 'public-ipv6', 6)),
      },
    },
    ipMasq: flags.ipMasq ?? true,
    randomFully: flags.ipMasqFullyRandom ?? true,
    forwardRules: flags.iptablesForwardRules ?? true,
    blackhole: flags.ipBlackholeRoute ?? false,
    iptablesResync: seconds(flags.iptablesResync, 'iptables-resync', 5, 3600),
    allowExtension: flags.allowExtensionCommands ?? false,
    wireguardKeyFile: env['WIREGUARD_KEY_FILE'] === '' ? undefined : env['WIREGUARD_KEY_FILE'],
  }
}

/** Of the machine, with what a node's name cannot hold left out. */
const ownName = (): string =>
  hostname()
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '') || 'node'

function pattern(text: string): RegExp {
  try {
    return new RegExp(text, 'u')
  } catch {
    throw bad('iface-regex', text, 'a regular expression')
  }
}

function seconds(text: string | undefined, flag: string, usual: number, most: number): number {
  if (text === undefined) return usual
  if (/^\d{1,6}$/.test(text) && Number(text) <= most) return Number(text)
  throw bad(flag, text, `a whole number of seconds up to ${most}, 0 for never`)
}

function netConfSource(flags: AgentFlags, paths: AgentPaths): NetConfSource {
  const { netConfigMap } = flags
  if (netConfigMap === undefined)
    return { from: flags.netConfigPath === undefined ? 'usual' : 'file', path: paths.netConf }
  if (flags.netConfigPath !== undefined)
    throw new FlannelError(
      'bad-option',
      'net-config-map',
      '--net-config-map and --net-config-path are both given',
      'the network configuration has one source: leave one out',
    )
  const [namespace, name, ...more] = netConfigMap.split('/')
  if (namespace === undefined || name === undefined || namespace === '' || name === '' || more.length > 0)
    throw bad('net-config-map', netConfigMap, 'NAMESPACE/NAME, such as kube-flannel/kube-flannel-cfg')
  return { from: 'configmap', namespace, name }
}

function ip(text: string | undefined, flag: string, family?: 4 | 6): IpText | undefined {
  if (text === undefined) return undefined
  const parsed = tryParseIp(text)
  if (parsed === undefined || (family !== undefined && parsed.family !== family))
    throw bad(flag, text, family === undefined ? 'an IP address' : `an IPv${family} address`)
  return formatIp(parsed)
}

const optional = <K extends string | number, V>(key: K, value: V | undefined): { readonly [key in K]?: V } => {
  const made: { [key in K]?: V } = {}
  if (value !== undefined) made[key] = value
  return made
}

const bad = (flag: string, value: string, wish: string): FlannelError =>
  new FlannelError('bad-option', flag, `--${flag} is ${shown(value)}`, `it must be ${wish}`)
