import { Command } from 'commander'

import { CliError } from './fail.ts'
import { say } from './language.ts'
import type { MessageKey } from './messages/en.ts'

/** The key of a command's line in the help. */
export type SummaryKey = Extract<MessageKey, `${string}.summary`>

/** A command of `heddle`, loaded only when it is the one that was asked for: `heddle --help` stays quick. */
export interface LazyCommand {
  readonly summary: SummaryKey
  readonly load: () => Promise<Command>
}

/** The file src/cli/NAME.ts exports `NAMECommand()`. */
function inFile(name: string, summary: SummaryKey): LazyCommand {
  return {
    summary,
    load: async () => {
      const module: unknown = await import(`./${name}.ts`).catch((cause: unknown) => {
        if (!isAbsent(cause, name)) throw cause
        throw new CliError('UNAVAILABLE', say('fail.missingCommand', { command: name }), {
          remedy: say('fail.missingCommandRemedy'),
        })
      })
      const make: unknown = typeof module === 'object' && module !== null && Reflect.get(module, `${name}Command`)
      const command: unknown = typeof make === 'function' ? Reflect.apply(make, undefined, []) : undefined
      if (command instanceof Command) return command
      throw new TypeError(`src/cli/${name}.ts exports no ${name}Command() that gives a Command`)
    },
  }
}

const isAbsent = (error: unknown, name: string): boolean =>
  error instanceof Error &&
  Reflect.get(error, 'code') === 'ERR_MODULE_NOT_FOUND' &&
  error.message.includes(`/cli/${name}.ts'`)

export const commands: Readonly<Record<string, LazyCommand>> = {
  lab: inFile('lab', 'lab.summary'),
  cni: inFile('cni', 'cni.summary'),
  agent: inFile('agent', 'agent.summary'),
}
