import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

import { Command } from 'commander'

import { CliError } from '../fail.ts'
import { say } from '../language.ts'
import { style } from '../style.ts'
import { table } from '../table.ts'
import { version } from '../version.ts'
import { lookAt } from './apply.ts'
import { nothingInstalled, readManifest } from './manifest.ts'
import { planInstall, planUninstall, type Action, type Conflict } from './plan.ts'
import { carryOut, configurationsIn, livingAttachments, lock, takeBack, targetOf } from './target.ts'
import { ownBuild, STANDALONE, USUAL, wantedFiles } from './wanted.ts'

interface InstallOptions {
  readonly bin?: string
  /** False with --no-conf. */
  readonly conf?: string | boolean
  readonly lib?: string
  readonly root?: string
  readonly from?: string
  readonly conflist?: string
  readonly confName?: string
  readonly standalone?: boolean
  readonly force?: boolean
  readonly dryRun?: boolean
  readonly json?: boolean
}

/** `heddle cni install`. */
export function installCommand(): Command {
  return new Command('install')
    .summary(say('install.summary'))
    .description(say('install.description'))
    .option('--bin <directory>', say('install.bin'))
    .option('--conf <directory>', say('install.conf'))
    .option('--lib <directory>', say('install.lib'))
    .option('--root <directory>', say('install.root'))
    .option('--from <directory>', say('install.from'))
    .option('--conflist <file>', say('install.conflist'))
    .option('--conf-name <name>', say('install.confName'))
    .option('--no-conf', say('install.noConf'))
    .option('--no-standalone', say('install.noStandalone'))
    .option('--force', say('install.force'))
    .option('--dry-run', say('install.dryRun'))
    .option('--json', say('install.json'))
    .action(install)
}

/** `heddle cni uninstall`. */
export function uninstallCommand(): Command {
  return new Command('uninstall')
    .summary(say('uninstall.summary'))
    .description(say('uninstall.description'))
    .option('--root <directory>', say('install.root'))
    .option('--force', say('uninstall.force'))
    .option('--dry-run', say('install.dryRun'))
    .option('--json', say('install.json'))
    .action(uninstall)
}

function install(options: InstallOptions): void {
  const target = targetOf(options.root)
  const { root, manifest: path } = target
  const conf = typeof options.conf === 'string' ? options.conf : '/etc/cni/net.d'
  const places = { bin: options.bin ?? '/opt/cni/bin', lib: options.lib ?? STANDALONE, conf }
  const absolute = { bin: resolve(places.bin), lib: resolve(places.lib), conf: resolve(places.conf) }
  const wanted = wantedFiles({
    from: resolve(options.from ?? ownBuild(import.meta.dirname)),
    places: absolute,
    standalone: options.standalone !== false,
    configuration: options.conf === false ? undefined : configurationOf(options),
  })
  const dry = options.dryRun === true
  using _lock = dry ? undefined : lock(path)
  const seen = (file: string) => lookAt(`${root}${file}`)
  const plan = planInstall({
    heddle: version,
    wanted,
    manifest: readManifest(path) ?? nothingInstalled,
    seen,
    configurations: configurationsIn(`${root}${absolute.conf}`),
  })
  const refused = plan.conflicts.length > 0 && options.force !== true
  // What will be changed is told before it is.
  if (options.json !== true) tell(plan.actions, plan.conflicts, refused)
  const isApplied = !dry && !refused
  if (isApplied) carryOut(plan, target)
  if (options.json === true) tellJson(plan.actions, plan.conflicts, isApplied)
  if (refused && !dry)
    throw new CliError('BUSY', say('install.refused', { count: plan.conflicts.length }), {
      remedy: say('install.refusedRemedy'),
    })
  if (options.json !== true) sum(plan.actions, dry)
}

function configurationOf({ conflist, confName }: InstallOptions): { readonly name: string; readonly text: string } {
  return {
    name: confName ?? '10-heddle.conflist',
    text: conflist === undefined ? USUAL : readFileSync(conflist, 'utf8'),
  }
}

function uninstall(options: Pick<InstallOptions, 'root' | 'force' | 'dryRun' | 'json'>): void {
  const target = targetOf(options.root)
  const { root, manifest: path } = target
  const dry = options.dryRun === true
  using _lock = dry ? undefined : lock(path)
  const manifest = readManifest(path)
  if (manifest === undefined) {
    process.stdout.write(
      options.json === true ? '{"actions":[],"conflicts":[],"applied":false}\n' : `${say('uninstall.none')}\n`,
    )
    return
  }
  const count = options.force === true ? 0 : livingAttachments(root)
  if (count > 0 && !dry)
    throw new CliError('BUSY', say('uninstall.inUse', { count }), { remedy: say('uninstall.inUseRemedy') })
  const actions = planUninstall(manifest, (file) => lookAt(`${root}${file}`))
  if (options.json !== true) tell(actions, [], false)
  if (!dry) takeBack(manifest, actions, target)
  if (options.json === true) tellJson(actions, [], !dry)
  else sum(actions, dry)
}

const pathOf = (action: Action): string => ('file' in action ? action.file.path : action.path)

const isChange = (action: Action): boolean => action.do !== 'keep' && action.do !== 'leave'

function tell(actions: readonly Action[], conflicts: readonly Conflict[], refused: boolean): void {
  const shown = actions.filter((action) => action.do !== 'keep')
  if (shown.length > 0) {
    const columns = [
      { title: say('install.column.action'), value: (action: Action) => say(`install.do.${action.do}`) },
      { title: say('install.column.path'), value: pathOf },
    ]
    process.stdout.write(`${table(columns, shown)}\n`)
  }
  for (const { why, path } of conflicts)
    process.stdout.write(`${style(refused ? 'bad' : 'warning', say(`install.conflict.${why}`, { path }))}\n`)
}

function sum(actions: readonly Action[], dry: boolean): void {
  const count = actions.filter(isChange).length
  const text = count === 0 ? say('install.nothing') : say(dry ? 'install.dry' : 'install.done', { count })
  process.stdout.write(`${style('good', text)}\n`)
}

/** Keys and codes are for programs, and the same in every language. */
function tellJson(actions: readonly Action[], conflicts: readonly Conflict[], applied: boolean): void {
  const told = actions.map((action) => ({
    do: action.do,
    path: pathOf(action),
    ...('as' in action ? { as: action.as } : {}),
    ...('backup' in action ? { backup: action.backup } : {}),
  }))
  process.stdout.write(`${JSON.stringify({ actions: told, conflicts, applied }, undefined, 2)}\n`)
}
