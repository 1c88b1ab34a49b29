import { commands } from './commands.ts'
import { separateGoFlags } from './go-flags.ts'
import { takeLanguage, useLanguage } from './language.ts'
import { programFor } from './program.ts'
import { report } from './report.ts'

/** Runs `heddle ARGS…`; the exit code is 0 done, 1 failed, 2 wrong command line. */
async function main(argv: readonly string[]): Promise<void> {
  const { language, rest } = takeLanguage(argv, process.env)
  useLanguage(language)
  const program = await programFor(rest, commands)
  if (rest.length === 0) {
    program.outputHelp()
    return
  }
  await program.parseAsync(separateGoFlags(rest), { from: 'user' })
}

// A reader such as `head` that goes away is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

try {
  await main(process.argv.slice(2))
} catch (error) {
  process.exitCode = report(error)
}
