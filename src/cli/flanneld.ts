/** `heddle flanneld`: the agent with flanneld's command line and environment, so that manifests and units need another program only. */

import { Command } from 'commander'

import { clusterConfig } from '#agent/cluster.ts'
import { agentFlagsOf, FlanneldFlagError, flanneldFlagNames, parseFlanneldFlags } from '#agent/flanneld-flags.ts'
import type { AgentFlags } from '#agent/options.ts'
import { KubeClient } from '#kube/client.ts'
import { pods } from '#kube/resources.ts'
import { runUntilSignal } from './agent.ts'
import { CliError, usageError } from './fail.ts'
import { say } from './language.ts'
import { version } from './version.ts'

export function flanneldCommand(): Command {
  return new Command('flanneld')
    .description(say('flanneld.description'))
    .argument('[flags...]', say('flanneld.flags'))
    .action(run)
}

async function run(args: readonly string[]): Promise<void> {
  const { flags, switches } = read(args)
  if (switches.get('version') === true) {
    // Where flanneld prints it.
    process.stderr.write(`heddle ${version}\n`)
    return
  }
  if (switches.get('help') === true || switches.get('h') === true) {
    process.stdout.write(
      `${say('flanneld.description')}\n\n${flanneldFlagNames.map((name) => `  -${name}`).join('\n')}\n`,
    )
    return
  }
  // What flanneld has no flags for.
  const {
    HEDDLE_ROOT: root,
    HEDDLE_SOCKET: socket,
    HEDDLE_SUBNET_LEASE_TTL: subnetLeaseTtl,
    HEDDLE_UNTIL_STDIN_CLOSES: bound,
  } = process.env
  const nodeName = flags.etcdEndpoints === undefined ? await ownNode(flags) : undefined
  await runUntilSignal({ ...flags, root, socket, subnetLeaseTtl, untilStdinCloses: bound === '1', nodeName })
}

function read(args: readonly string[]) {
  try {
    const parsed = parseFlanneldFlags(args, process.env)
    return {
      flags: agentFlagsOf(parsed),
      switches: parsed.switches,
    }
  } catch (error) {
    if (error instanceof FlanneldFlagError) throw usageError(error.message, error.remedy)
    throw error
  }
}

const TIMEOUT = 10_000

/** NODE_NAME, else the node that the pod POD_NAMESPACE/POD_NAME runs on. */
async function ownNode(flags: AgentFlags): Promise<string | undefined> {
  const { NODE_NAME: node, POD_NAME: name, POD_NAMESPACE: namespace } = process.env
  if (node !== undefined && node !== '') return node
  if (name === undefined || name === '' || namespace === undefined || namespace === '') return undefined
  using client = new KubeClient(clusterConfig(flags.kubeconfig, flags.kubeApiUrl), { timeout: TIMEOUT })
  const { spec } = await client.get(pods, { name, namespace })
  if (typeof spec?.nodeName === 'string' && spec.nodeName !== '') return spec.nodeName
  throw new CliError('UNAVAILABLE', say('flanneld.noNode', { pod: `${namespace}/${name}` }))
}
