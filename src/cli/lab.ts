/** `heddle lab`: a cluster network in network namespaces. */

import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'

import { startCloud } from '#lab/cloud/cloud.ts'
import { LabError } from '#lab/error.ts'
import { labExec } from '#lab/exec.ts'
import { seedEtcd } from '#lab/etcd.ts'
import { startKeeper } from '#lab/keeper.ts'
import { planLab } from '#lab/plan.ts'
import { ownProgram } from '#lab/program.ts'
import { requireRecord } from '#lab/record.ts'
import { hold, isRootless, needsUserNamespace, runInUserNamespace } from '#lab/rootless.ts'
import {
  backends,
  cloudModes,
  datastores,
  defaultSpec,
  topologies,
  type CloudMode,
  type LabBackend,
  type LabDatastore,
  type LabTopology,
} from '#lab/spec.ts'
import { CliError } from './fail.ts'
import { runLabCheck } from './lab-check.ts'
import { runList, runStatus } from './lab-status.ts'
import { print } from './lab-text.ts'
import { runDown, runUp } from './lab-up.ts'
import { runWay } from './lab-way.ts'
import { say } from './language.ts'

interface Named {
  readonly name: string
}

interface UpOptions extends Named {
  readonly nodes: number
  readonly pods: number
  readonly backend: LabBackend
  readonly topology: LabTopology
  readonly datastore: LabDatastore
  readonly cloud?: 'neutron'
  readonly mode: CloudMode
  readonly filterDelay: number
  readonly ipv6: boolean
  readonly ipv6Only: boolean
  readonly timeout?: number
  readonly keep: boolean
}

/** The command with all below it. */
export function labCommand(): Command {
  // Options of `exec` end at its first argument, so that those of the command inside are its own.
  const lab = new Command('lab').description(say('lab.summary')).enablePositionalOptions()
  const named = (name: string, summary: string, hidden = false): Command =>
    lab.command(name, { hidden }).description(summary).option('--name <name>', say('lab.option.name'), defaultSpec.name)

  named('up', say('lab.up'))
    .option('--nodes <count>', say('lab.option.nodes'), count, defaultSpec.nodes)
    .option('--pods <count>', say('lab.option.pods'), count, defaultSpec.podsPerNode)
    .addOption(
      new Option('--backend <backend>', say('lab.option.backend'))
        .choices(backends)
        .default(defaultSpec.backend)
        .argParser(backendParser()),
    )
    .addOption(
      new Option('--topology <topology>', say('lab.option.topology')).choices(topologies).default(defaultSpec.topology),
    )
    .addOption(
      new Option('--datastore <datastore>', say('lab.option.datastore'))
        .choices(datastores)
        .default(defaultSpec.datastore),
    )
    .addOption(new Option('--cloud <kind>', say('lab.option.cloud')).choices(['neutron']))
    .addOption(new Option('--mode <mode>', say('lab.option.mode')).choices(cloudModes).default('veth'))
    .option('--filter-delay <ms>', say('lab.option.filterDelay'), count, 0)
    .option('--ipv6', say('lab.option.ipv6'), false)
    .option('--ipv6-only', say('lab.option.ipv6Only'), false)
    .option('--timeout <seconds>', say('lab.option.timeout'), count)
    .option('--keep', say('lab.option.keep'), false)
    .action(({ pods, keep, timeout, ipv6Only, ipv6, cloud: kind, mode, filterDelay, ...spec }: UpOptions) =>
      guarded({ verb: 'up', name: spec.name }, () =>
        runUp({
          spec: {
            ...spec,
            ipv4: !ipv6Only,
            ipv6: ipv6 || ipv6Only,
            podsPerNode: pods,
            ...(kind === undefined ? {} : { cloud: { kind, mode, filterDelayMs: filterDelay } }),
          },
          keep,
          timeout,
        }),
      ),
    )

  named('down', say('lab.down')).action(({ name }: Named) => guarded({ verb: 'down', name }, () => runDown(name)))

  named('status', say('lab.status'))
    .option('--json', say('lab.option.json'), false)
    .action(({ name, json }: Named & { json: boolean }) =>
      guarded({ verb: 'status', name }, () => runStatus(name, { json })),
    )

  named('check', say('lab.check'))
    .option('--timeout <seconds>', say('lab.option.timeoutEach'), count, 2)
    .option('--json', say('lab.option.json'), false)
    .action(({ name, json, timeout }: Named & { json: boolean; timeout: number }) =>
      guarded({ verb: 'check', name }, () => runLabCheck(name, { json, timeout })),
    )

  named('way', say('lab.way'))
    .argument('[from]', say('lab.argument.from'))
    .argument('[to]', say('lab.argument.to'))
    .option('-6', say('lab.option.v6'), false)
    .option('--json', say('lab.option.json'), false)
    .action((from: string | undefined, to: string | undefined, options: Named & { 6: boolean; json: boolean }) =>
      guarded({ verb: 'way', name: options.name }, () =>
        runWay(options.name, from, to, { family: options[6] ? 6 : 4, json: options.json }),
      ),
    )

  named('exec', say('lab.exec'))
    .argument('<place>', say('lab.argument.place'))
    .argument('<command...>', say('lab.argument.command'))
    .passThroughOptions()
    .action((place: string, command: readonly string[], { name }: Named) =>
      guarded({ verb: 'exec', name }, async () => {
        process.exitCode = await labExec(name, place, command[0] === '--' ? command.slice(1) : command)
      }),
    )

  named('kubeconfig', say('lab.kubeconfig'))
    .option('--content', say('lab.option.content'), false)
    .action(({ name, content }: Named & { content: boolean }) =>
      guarded({ verb: 'kubeconfig', name }, () => {
        const { kubeconfig } = requireRecord(name).paths
        print(content ? readFileSync(kubeconfig, 'utf8').trimEnd() : kubeconfig)
      }),
    )

  lab
    .command('list')
    .description(say('lab.list'))
    .option('--json', say('lab.option.json'), false)
    .action((options: { json: boolean }) => guarded({ verb: 'list', name: '' }, () => runList(options)))

  named('keeper', 'serves the API and runs the agents of a lab; started by `heddle lab up`', true).action(
    ({ name }: Named) => runKeeper(name),
  )
  named('seed', "fills a lab's etcd; started by its keeper", true).action(({ name }: Named) =>
    seedEtcd(planLab(requireRecord(name).record.spec)),
  )
  named('cloud', "runs a lab's cloud; started by its keeper", true).action(({ name }: Named) => runCloud(name))
  lab
    .command('holder', { hidden: true })
    .description('keeps the namespaces of labs without root; started by `heddle lab up`')
    .action(() => hold())
  return lab
}

/** One backend of those there are. Several are told apart from a slip of the pen: nodes that disagree cannot reach each other. */
function backendParser(): (text: string) => LabBackend {
  let before: string | undefined
  return (text) => {
    const names = [...(before === undefined ? [] : [before]), ...text.split(',')]
    before = text
    if (new Set(names).size > 1) throw new InvalidArgumentError(say('lab.up.mixed', { backends: names.join(', ') }))
    const found = backends.find((name) => name === text)
    if (found !== undefined) return found
    throw new InvalidArgumentError(say('lab.up.noBackend', { backends: backends.join(', ') }))
  }
}

/** Text of a whole number for commander; `labSpec` knows the limits. */
function count(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text)
  throw new InvalidArgumentError(`${JSON.stringify(text)} is no whole number`)
}

/** Runs a command, in a user namespace if this is not root. A wrong flag ends with the exit code of wrong command lines, whoever found it wrong. */
async function guarded(
  command: { readonly verb: string; readonly name: string },
  work: () => void | Promise<void>,
): Promise<void> {
  try {
    if (needsUserNamespace() && !isRootless()) {
      const { file, args } = ownProgram()
      process.exitCode = await runInUserNamespace({
        program: { file, args },
        argv: process.argv.slice(2),
        onSwept: () => print(say('lab.down.end', command)),
        ...command,
      })
    } else await work()
  } catch (error) {
    if (error instanceof LabError && (error.code === 'bad-spec' || error.code === 'bad-name')) {
      throw new CliError('USAGE', error.message, { remedy: error.remedy })
    }
    throw error
  }
}

/** Until it is asked to end. */
async function runCloud(name: string): Promise<void> {
  const { record, paths } = requireRecord(name)
  const plan = planLab(record.spec)
  if (plan.cloud === undefined) return
  const { promise: asked, resolve: stop } = Promise.withResolvers<void>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop())
  await using _cloud = await startCloud(plan, plan.cloud, paths)
  await asked
}

/** Descriptors 3 and 4 are the listening sockets that `up` hands over. */
async function runKeeper(name: string): Promise<void> {
  const { record, paths } = requireRecord(name)
  const { promise: asked, resolve: stop } = Promise.withResolvers<void>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop())
  process.on('SIGHUP', () => {})
  await using _keeper = await startKeeper({
    record,
    paths,
    plan: planLab(record.spec),
    program: ownProgram(),
    sockets: [3, 4],
  })
  await asked
}
