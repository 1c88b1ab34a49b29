/**
 * Options of the extension backend: commands that the operator wrote, which make the network. Source: flannel's Documentation/extension.md.
 *
 * There is no shell. A command is a list of arguments, or text that is split at white space, as flannel splits it; `$NAME` in an argument is
 * replaced after the split, so that no value can become more than part of one argument.
 */

import * as v from 'valibot'

import { badOption, readOptions } from '../backend-options.ts'
import { shown } from '../errors.ts'
import type { Folded } from '../fold.ts'

/** Program and arguments, before variables are put in. */
export type CommandLine = readonly [string, ...string[]]

export interface ExtensionConf {
  readonly type: 'extension'
  /** Before anything else; what it prints is published as this node's data. */
  readonly preStartup?: CommandLine
  /** Once this node's subnets are known. */
  readonly postStartup?: CommandLine
  /** For each peer that comes or changes. */
  readonly subnetAdd?: CommandLine
  /** For each peer that goes, and before the new word of one that changes. */
  readonly subnetRemove?: CommandLine
  /** When the agent ends in order. */
  readonly shutdown?: CommandLine
}

const MAX_WORDS = 128
const MAX_LENGTH = 4096

const Command = v.optional(
  v.union(
    [v.string(), v.array(v.string())],
    'expected a command as text, or as a list of arguments such as ["/sbin/ip", "route", "add", "$SUBNET"]',
  ),
  '',
)
const Extension = v.object({
  prestartupcommand: Command,
  poststartupcommand: Command,
  subnetaddcommand: Command,
  subnetremovecommand: Command,
  shutdowncommand: Command,
})

export function extensionConf(folded: Folded): ExtensionConf {
  const options = readOptions(Extension, folded)
  const command = <K extends string>(
    key: K,
    option: keyof v.InferOutput<typeof Extension>,
  ): { readonly [key in K]?: CommandLine } => {
    const found: { [key in K]?: CommandLine } = {}
    const line = commandLine(options[option], folded.written.get(option) ?? option)
    if (line !== undefined) found[key] = line
    return found
  }
  return {
    type: 'extension',
    ...command('preStartup', 'prestartupcommand'),
    ...command('postStartup', 'poststartupcommand'),
    ...command('subnetAdd', 'subnetaddcommand'),
    ...command('subnetRemove', 'subnetremovecommand'),
    ...command('shutdown', 'shutdowncommand'),
  }
}

/** What only a shell understands. */
const SHELL = /[|;&<>`"'\\]|\$\(|^\s*(?:export|set|if|for|while)\s/

function commandLine(written: string | readonly string[], name: string): CommandLine | undefined {
  const remedy = 'write a script and name it here, or give the arguments as a list, which are passed as they are'
  if (typeof written === 'string' && SHELL.test(written))
    throw badOption(name, `${shown(written)} is for a shell, and there is none here`, remedy)
  const words = typeof written === 'string' ? written.split(/\s+/).filter((word) => word !== '') : written
  const [program, ...args] = words
  if (program === undefined) return undefined
  if (program === '' || program.includes('$'))
    throw badOption(name, `${shown(program)} cannot be the program`, 'write its name or path')
  if (words.length > MAX_WORDS || words.some((word) => word.length > MAX_LENGTH || word.includes('\0')))
    throw badOption(name, `it is no command line (${words.length} arguments)`, remedy)
  return [program, ...args]
}

/** Puts variables into arguments: `$NAME` or `${NAME}`; unknown ones become empty, as flannel does it. */
export function expand([program, ...args]: CommandLine, variables: Readonly<Record<string, string>>): CommandLine {
  const value = (name: string): string => (Object.hasOwn(variables, name) ? (variables[name] ?? '') : '')
  return [
    program,
    ...args.map((word) =>
      word.replaceAll(
        /\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))/g,
        (_, braced: string | undefined, bare: string | undefined) => value(braced ?? bare ?? ''),
      ),
    ),
  ]
}
