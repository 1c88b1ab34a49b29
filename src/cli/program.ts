import { stripVTControlCharacters } from 'node:util'

import { Command } from 'commander'

import type { LazyCommand } from './commands.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { version } from './version.ts'
import { widthOf } from './width.ts'

/** Commander's own headings, in the language of this process. */
function title(text: string): string {
  const titles: Readonly<Record<string, string>> = {
    'Usage:': say('help.usage'),
    'Options:': say('help.options'),
    'Arguments:': say('help.arguments'),
    'Commands:': say('help.commands'),
  }
  return style('heading', titles[text] ?? text)
}

/** Errors come back as exceptions, help speaks our language: for a command and all below it. */
function prepare(command: Command): Command {
  command
    .exitOverride()
    .configureHelp({ styleTitle: title, displayWidth: (text) => widthOf(stripVTControlCharacters(text)) })
    .helpOption('-h, --help', say('heddle.help'))
  for (const child of command.commands) prepare(child)
  return command
}

/** The command that a command line asks for: its first word, or the one after `help`. */
export function wantedCommand(args: readonly string[]): string | undefined {
  const [first, second] = args.filter((argument) => !argument.startsWith('-'))
  return first === 'help' ? second : first
}

/** The `heddle` command: the wanted subcommand in full, the others by name and summary. */
export async function programFor(
  args: readonly string[],
  commands: Readonly<Record<string, LazyCommand>>,
): Promise<Command> {
  const program = new Command('heddle')
    .description(say('heddle.summary'))
    .version(version, '-V, --version', say('heddle.version'))
    .helpCommand('help [command]', say('heddle.help'))
    // Taken out of the command line before it gets here; named for the help.
    .option('--lang <language>', say('heddle.lang'))
  const wanted = wantedCommand(args)
  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = name === wanted ? await load() : new Command(name)
    program.addCommand(command.name(name).summary(say(summary)))
  }
  return prepare(program)
}
