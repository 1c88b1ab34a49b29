/** `heddle migrate flannel`. */

import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { Command } from 'commander'

import { failpoints } from '#cni/runtime/host.ts'
import { agentAt } from '#doctor/collect/cni.ts'
import { agentPaths } from '#agent/paths.ts'
import { CliError, usageError } from '../fail.ts'
import { lookAt } from '../install/apply.ts'
import { nothingInstalled, readManifest } from '../install/manifest.ts'
import { planInstall, type InstallPlan } from '../install/plan.ts'
import { livingAttachments, lock, targetOf, type Target } from '../install/target.ts'
import { ownBuild, STANDALONE, wantedFiles } from '../install/wanted.ts'
import { say } from '../language.ts'
import { version } from '../version.ts'
import { applyMigration, returnMigration, type Place } from './apply.ts'
import { collect } from './collect.ts'
import { journalPath, readJournal } from './journal.ts'
import { planMigration } from './plan.ts'
import { pageOf, returnedPage } from './page.ts'

interface Flags {
  readonly plan?: boolean
  readonly apply?: boolean
  readonly back?: boolean
  readonly force?: boolean
  readonly json?: boolean
  readonly root?: string
  readonly from?: string
  readonly bin?: string
  readonly conf?: string
  /** False with --no-plugins. */
  readonly plugins?: boolean
  readonly systemd?: boolean | string
  readonly netConfigPath?: string
  readonly kubeconfig?: string
  readonly kubeApiUrl?: string
  readonly node?: string
}

/** `heddle migrate`, which so far knows one network to come from. */
export function migrateCommand(): Command {
  return new Command('migrate')
    .description(say('migrate.summary'))
    .addCommand(
      new Command('flannel')
        .summary(say('migrate.flannel'))
        .description(say('migrate.description'))
        .option('--plan', say('migrate.plan'))
        .option('--apply', say('migrate.apply'))
        .option('--back', say('migrate.back'))
        .option('--force', say('migrate.force'))
        .option('--json', say('migrate.json'))
        .option('--root <directory>', say('install.root'))
        .option('--from <directory>', say('install.from'))
        .option('--bin <directory>', say('install.bin'))
        .option('--conf <directory>', say('install.conf'))
        .option('--no-plugins', say('migrate.noPlugins'))
        .option('--systemd [program]', say('migrate.systemd'))
        .option('--net-config-path <file>', say('migrate.netConf'))
        .option('--kubeconfig <file>', say('doctor.kubeconfig'))
        .option('--kube-api-url <url>', say('doctor.kubeApiUrl'))
        .option('--node <name>', say('doctor.node'))
        .action(run),
    )
}

async function run(flags: Flags): Promise<void> {
  const wishes = [flags.plan, flags.apply, flags.back].filter((flag) => flag === true).length
  if (wishes > 1) throw usageError(say('migrate.oneOnly'), say('migrate.oneOnlyRemedy'))
  if (process.getuid?.() !== 0)
    throw new CliError('NOT_PERMITTED', say('migrate.notRoot'), { remedy: say('migrate.notRootRemedy') })
  const target = targetOf(flags.root)
  const failpoint = failpoints(process.env)
  let steps = 0
  const place: Place = { target, journal: journalPath(target.root), step: () => failpoint(`migrate.${steps++}`) }
  await (flags.back === true ? back(flags, place) : forth(flags, place))
}

async function forth(flags: Flags, place: Place): Promise<void> {
  const { target } = place
  const isApplied = flags.apply === true
  // The lock of the installation: both change the same files.
  using _lock = isApplied ? lock(target.manifest) : undefined
  const install = flags.plugins === false ? undefined : installPlan(flags, place)
  const facts = await collect({
    root: target.root,
    kubeconfig: flags.kubeconfig,
    kubeApiUrl: flags.kubeApiUrl,
    node: flags.node,
    netConf: flags.netConfigPath,
    confDirectory: resolve(flags.conf ?? '/etc/cni/net.d'),
    binDirectory: binOf(flags),
    install,
    dropIn: flags.systemd === undefined || flags.systemd === false ? undefined : programOf(flags),
  })
  const plan = planMigration(facts)
  const problems = plan.steps.filter(({ fate }) => fate === 'problem').length
  const isRefused = isApplied && problems > 0 && flags.force !== true
  // What will be changed is told before it is.
  if (flags.json !== true) process.stdout.write(`${pageOf(plan)}\n`)
  if (isApplied && !isRefused) applyMigration(plan, install, place)
  if (flags.json === true)
    process.stdout.write(`${JSON.stringify({ steps: plan.steps, applied: isApplied && !isRefused }, undefined, 2)}\n`)
  if (isRefused)
    throw new CliError('FAILED', say('migrate.refused', { count: problems }), { remedy: say('migrate.refusedRemedy') })
  if (flags.json !== true) process.stdout.write(`${say(isApplied ? 'migrate.applied' : 'migrate.planned')}\n`)
}

const binOf = ({ bin }: Flags): string => resolve(bin ?? '/opt/cni/bin')

/** Undefined where Heddle's plugins are there already, and not by a migration: they are not this command's to take back. */
function installPlan(flags: Flags, { target, journal }: Place): InstallPlan | undefined {
  const manifest = readManifest(target.manifest)
  if (manifest !== undefined && readJournal(journal)?.plugins !== true) return undefined
  const wanted = wantedFiles({
    from: resolve(flags.from ?? ownBuild(import.meta.dirname)),
    places: { bin: binOf(flags), lib: STANDALONE, conf: '/etc/cni/net.d' },
    standalone: true,
    // flannel's own configuration stays: pods, caches and addresses bear its network's name.
    configuration: undefined,
  })
  return planInstall({
    heddle: version,
    wanted,
    manifest: manifest ?? nothingInstalled,
    seen: (file) => lookAt(`${target.root}${file}`),
    configurations: [],
  })
}

function programOf({ systemd, from }: Flags): string {
  if (typeof systemd === 'string') return resolve(systemd)
  const own = join(resolve(from ?? ownBuild(import.meta.dirname)), 'bin/heddle')
  return existsSync(own) ? own : '/usr/local/bin/heddle'
}

async function back(flags: Flags, place: Place): Promise<void> {
  const { target } = place
  using _lock = lock(target.manifest)
  refuseWhileInUse(flags, place, target)
  const agent = await agentAt(agentPaths({ root: target.root }).cniSocket)
  const returned = await returnMigration(place, agent.state === 'answers')
  const text =
    flags.json === true ? JSON.stringify({ returned: returned ?? null }, undefined, 2) : returnedPage(returned)
  process.stdout.write(`${text}\n`)
}

/** The plugins that were there before do not know what Heddle's have made: host ports, limits, records. */
function refuseWhileInUse({ force }: Flags, { journal }: Place, { root }: Target): void {
  if (force === true || readJournal(journal)?.plugins !== true) return
  const count = livingAttachments(root)
  if (count > 0) throw new CliError('BUSY', say('uninstall.inUse', { count }), { remedy: say('uninstall.inUseRemedy') })
}
