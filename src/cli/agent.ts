import { Command, Option } from 'commander'

import { agentOptions, type AgentFlags } from '#agent/options.ts'
import { runAgent } from '#agent/run.ts'
import { FlannelError } from '#flannel/errors.ts'
import { usageError } from './fail.ts'
import { say } from './language.ts'
import type { MessageKey } from './messages/en.ts'
import { version } from './version.ts'

const flag = (flags: string, key: Extract<MessageKey, `agent.${string}`>, env?: string): Option => {
  const option = new Option(flags, say(key))
  return env === undefined ? option : option.env(env)
}

const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  ...value.split(',').filter((item) => item !== ''),
]

const append = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value]

/** `heddle agent`: the node daemon, in the foreground. Every flag also as HEDDLE_… in the environment. */
export function agentCommand(): Command {
  return new Command('agent')
    .description(say('agent.description'))
    .addOption(flag('--node-name <name>', 'agent.nodeName', 'HEDDLE_NODE_NAME'))
    .addOption(flag('--kubeconfig <file>', 'agent.kubeconfig', 'HEDDLE_KUBECONFIG'))
    .addOption(flag('--kube-api-url <url>', 'agent.kubeApiUrl', 'HEDDLE_KUBE_API_URL'))
    .addOption(flag('--net-config-path <file>', 'agent.netConfigPath', 'HEDDLE_NET_CONFIG_PATH'))
    .addOption(flag('--net-config-map <namespace/name>', 'agent.netConfigMap', 'HEDDLE_NET_CONFIG_MAP'))
    .addOption(flag('--etcd-endpoints <urls>', 'agent.etcdEndpoints', 'HEDDLE_ETCD_ENDPOINTS'))
    .addOption(flag('--etcd-prefix <key>', 'agent.etcdPrefix', 'HEDDLE_ETCD_PREFIX'))
    .addOption(flag('--etcd-cafile <file>', 'agent.etcdCafile', 'HEDDLE_ETCD_CAFILE'))
    .addOption(flag('--etcd-certfile <file>', 'agent.etcdCertfile', 'HEDDLE_ETCD_CERTFILE'))
    .addOption(flag('--etcd-keyfile <file>', 'agent.etcdKeyfile', 'HEDDLE_ETCD_KEYFILE'))
    .addOption(flag('--etcd-username <name>', 'agent.etcdUsername', 'HEDDLE_ETCD_USERNAME'))
    .addOption(flag('--etcd-password <password>', 'agent.etcdPassword', 'HEDDLE_ETCD_PASSWORD'))
    .addOption(flag('--subnet-lease-renew-margin <minutes>', 'agent.renewMargin', 'HEDDLE_SUBNET_LEASE_RENEW_MARGIN'))
    .addOption(flag('--subnet-lease-ttl <seconds>', 'agent.leaseTtl', 'HEDDLE_SUBNET_LEASE_TTL'))
    .addOption(flag('--iface <name-or-ip>', 'agent.iface', 'HEDDLE_IFACE').argParser(collect))
    .addOption(flag('--iface-regex <pattern>', 'agent.ifaceRegex', 'HEDDLE_IFACE_REGEX').argParser(append))
    .addOption(flag('--iface-can-reach <ip>', 'agent.ifaceCanReach', 'HEDDLE_IFACE_CAN_REACH'))
    .addOption(flag('--public-ip <ip>', 'agent.publicIp', 'HEDDLE_PUBLIC_IP'))
    .addOption(flag('--public-ipv6 <ip>', 'agent.publicIpv6', 'HEDDLE_PUBLIC_IPV6'))
    .addOption(flag('--no-ip-masq', 'agent.noIpMasq'))
    .addOption(flag('--no-ip-masq-fully-random', 'agent.noFullyRandom'))
    .addOption(flag('--no-iptables-forward-rules', 'agent.noForwardRules'))
    .addOption(flag('--iptables-resync <seconds>', 'agent.iptablesResync', 'HEDDLE_IPTABLES_RESYNC'))
    .addOption(flag('--no-set-node-network-unavailable', 'agent.noNetworkUnavailable'))
    .addOption(flag('--kube-annotation-prefix <prefix>', 'agent.annotationPrefix', 'HEDDLE_KUBE_ANNOTATION_PREFIX'))
    .addOption(flag('--ip-blackhole-route', 'agent.blackhole', 'HEDDLE_IP_BLACKHOLE_ROUTE'))
    .addOption(flag('--subnet-file <file>', 'agent.subnetFile', 'HEDDLE_SUBNET_FILE'))
    .addOption(flag('--root <directory>', 'agent.root', 'HEDDLE_ROOT'))
    .addOption(flag('--socket <path>', 'agent.socket', 'HEDDLE_SOCKET'))
    .addOption(flag('--dhcp-socket <path>', 'agent.dhcpSocket', 'HEDDLE_DHCP_SOCKET'))
    .addOption(flag('--no-dhcp', 'agent.noDhcp'))
    .addOption(flag('--neutron-config <file>', 'agent.neutronConfig', 'HEDDLE_NEUTRON_CONFIG'))
    .addOption(flag('--allow-extension-commands', 'agent.allowExtension', 'HEDDLE_ALLOW_EXTENSION_COMMANDS'))
    .addOption(flag('--cni-only', 'agent.cniOnly', 'HEDDLE_CNI_ONLY'))
    .addOption(flag('--health-listen <address>', 'agent.healthListen', 'HEDDLE_HEALTH_LISTEN'))
    .addOption(flag('--leak-interval <seconds>', 'agent.leakInterval', 'HEDDLE_LEAK_INTERVAL'))
    .addOption(flag('--log-level <level>', 'agent.logLevel', 'HEDDLE_LOG_LEVEL'))
    .addOption(flag('--until-stdin-closes', 'agent.untilStdinCloses').hideHelp())
    .action(runUntilSignal)
}

/** In the foreground, until SIGTERM or SIGINT. */
export async function runUntilSignal(flags: AgentFlags & { readonly untilStdinCloses?: boolean }): Promise<void> {
  const stop = new AbortController()
  // For tests: whoever started us may be killed, and must leave nobody behind.
  if (flags.untilStdinCloses === true)
    process.stdin
      .once('close', () => stop.abort())
      .resume()
      .unref()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  await runAgent(optionsOf(flags), version, stop.signal)
}

function optionsOf(flags: AgentFlags): ReturnType<typeof agentOptions> {
  try {
    return agentOptions(flags, process.env)
  } catch (error) {
    if (error instanceof FlannelError) throw usageError(error.message.slice(0, -error.remedy.length - 2), error.remedy)
    throw error
  }
}
