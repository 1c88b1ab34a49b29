import { Command, Option } from 'commander'

import {
  controllerOptions,
  ControllerOptionError,
  type ControllerFlags,
  type ControllerOptions,
} from '#controller/options.ts'
import { runController } from '#controller/run.ts'
import { usageError } from './fail.ts'
import { say } from './language.ts'
import type { MessageKey } from './messages/en.ts'
import { version } from './version.ts'

const flag = (
  flags: string,
  key: Extract<MessageKey, `controller.${string}` | `agent.${string}`>,
  env?: string,
): Option => {
  const option = new Option(flags, say(key))
  return env === undefined ? option : option.env(env)
}

const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  ...value.split(',').filter((item) => item !== ''),
]

/** `heddle controller`: what runs once per cluster, in the foreground. */
export function controllerCommand(): Command {
  return new Command('controller')
    .description(say('controller.description'))
    .addOption(flag('--kubeconfig <file>', 'agent.kubeconfig', 'HEDDLE_KUBECONFIG'))
    .addOption(flag('--kube-api-url <url>', 'agent.kubeApiUrl', 'HEDDLE_KUBE_API_URL'))
    .addOption(flag('--namespace <name>', 'controller.namespace', 'HEDDLE_NAMESPACE'))
    .addOption(flag('--lease-name <name>', 'controller.leaseName', 'HEDDLE_LEASE_NAME'))
    .addOption(flag('--lease-duration <seconds>', 'controller.leaseDuration', 'HEDDLE_LEASE_DURATION'))
    .addOption(flag('--clouds-file <file>', 'controller.cloudsFile', 'HEDDLE_CLOUDS_FILE'))
    .addOption(flag('--cloud <name>', 'controller.cloud', 'HEDDLE_CLOUD'))
    .addOption(flag('--cluster-name <name>', 'controller.clusterName', 'HEDDLE_CLUSTER_NAME'))
    .addOption(flag('--route-strategy <strategy>', 'controller.routeStrategy', 'HEDDLE_ROUTE_STRATEGY'))
    .addOption(flag('--router <id>', 'controller.router', 'HEDDLE_ROUTER'))
    .addOption(flag('--pod-cidr <networks>', 'controller.podCidr', 'HEDDLE_POD_CIDR').argParser(collect))
    .addOption(flag('--node-cidr <networks>', 'controller.nodeCidr', 'HEDDLE_NODE_CIDR').argParser(collect))
    .addOption(flag('--max-routes <count>', 'controller.maxRoutes', 'HEDDLE_MAX_ROUTES'))
    .addOption(flag('--route-reserve <count>', 'controller.routeReserve', 'HEDDLE_ROUTE_RESERVE'))
    .addOption(flag('--aggregate <how>', 'controller.aggregate', 'HEDDLE_AGGREGATE'))
    .addOption(flag('--resync-interval <seconds>', 'controller.resyncInterval', 'HEDDLE_RESYNC_INTERVAL'))
    .addOption(flag('--gc-interval <seconds>', 'controller.gcInterval', 'HEDDLE_GC_INTERVAL'))
    .addOption(flag('--gc-limit <count>', 'controller.gcLimit', 'HEDDLE_GC_LIMIT'))
    .addOption(flag('--gc-dry-run', 'controller.gcDryRun', 'HEDDLE_GC_DRY_RUN'))
    .addOption(flag('--floating-ips', 'controller.floatingIps', 'HEDDLE_FLOATING_IPS'))
    .addOption(flag('--floating-network <id>', 'controller.floatingNetwork', 'HEDDLE_FLOATING_NETWORK'))
    .addOption(flag('--health-listen <address>', 'agent.healthListen', 'HEDDLE_HEALTH_LISTEN'))
    .addOption(flag('--log-level <level>', 'agent.logLevel', 'HEDDLE_LOG_LEVEL'))
    .addOption(flag('--until-stdin-closes', 'agent.untilStdinCloses').hideHelp())
    .action(run)
}

/** In the foreground, until SIGTERM or SIGINT. */
async function run(flags: ControllerFlags & { readonly untilStdinCloses?: boolean }): Promise<void> {
  const options = optionsOf(flags)
  const stop = new AbortController()
  // For tests: whoever started us may be killed, and must leave nobody behind.
  if (flags.untilStdinCloses === true)
    process.stdin
      .once('close', () => stop.abort())
      .resume()
      .unref()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  await runController(options, version, stop.signal)
}

function optionsOf(flags: ControllerFlags): ControllerOptions {
  try {
    return controllerOptions(flags)
  } catch (error) {
    if (error instanceof ControllerOptionError) throw usageError(error.message, error.remedy)
    throw error
  }
}
