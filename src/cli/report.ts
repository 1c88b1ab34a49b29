import { CommanderError } from 'commander'

import { CliError, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from './fail.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { printable } from './width.ts'

/** A text property of an error of any floor: most carry `code` and `remedy`. */
function textOf(error: object, key: string): string | undefined {
  const value: unknown = Reflect.get(error, key)
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** The messages of the causes, outermost first, each said once. */
function causesOf(error: Error): string[] {
  const said: string[] = []
  let cause = error.cause
  while (cause instanceof Error && said.length < 5) {
    if (!error.message.includes(cause.message) && !said.includes(cause.message)) said.push(cause.message)
    cause = cause.cause
  }
  return said
}

/** Every line made safe on its own, so that a message from elsewhere keeps its lines and nothing more. */
const safe = (text: string): string => text.split('\n').map(printable).join('\n  ')

/** Is this an error that somebody foresaw? They carry a code of text, or CNI's number; a TypeError of Node's own is none. */
const isForeseen = (error: Error): boolean =>
  ['string', 'number'].includes(typeof Reflect.get(error, 'code')) && !(error instanceof TypeError)

/** An error as lines for a person; a stack trace only where nobody foresaw it. */
export function describe(error: unknown, stream: NodeJS.WriteStream = process.stderr): string {
  const mark = style('bad', 'heddle:', stream)
  if (!(error instanceof Error)) return `${mark} ${safe(String(error))}`
  if (!isForeseen(error)) {
    return `${mark} ${safe(error.message)}\n  ${say('fail.unexpected')}\n${(error.stack ?? '').split('\n').map(printable).join('\n')}`
  }
  const lines = [`${mark} ${safe(error.message)}`]
  const why = [textOf(error, 'why'), ...causesOf(error)].filter((text) => text !== undefined)
  if (why.length > 0) lines.push(`  ${say('fail.why', { why: safe(why.join(': ')) })}`)
  const remedy = textOf(error, 'remedy')
  // Some put it into the message as well, for logs.
  if (remedy !== undefined && !error.message.includes(remedy))
    lines.push(`  ${say('fail.remedy', { remedy: safe(remedy) })}`)
  return lines.join('\n')
}

/** Says what went wrong on standard error and gives the exit code. Help and version are no failures. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Commander has printed its own message already.
    return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE
  }
  process.stderr.write(`${describe(error)}\n`)
  return error instanceof CliError && error.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILED
}
