/** Something that stops a tool and that a person can mend: what happened, why, and what to do about it. */
export class Problem extends Error {
  name = 'Problem'

  /** @param {{ what: string, why?: string, remedy?: string }} parts */
  constructor({ what, why, remedy }) {
    super([what, why, remedy === undefined ? undefined : `To do: ${remedy}`].filter(Boolean).join('\n  '))
  }
}

/** Runs a tool's main function; a Problem is printed without a stack trace, everything else with one. Exit code 1 either way. */
export async function runTool(name, main) {
  try {
    process.exitCode = (await main()) ?? 0
  } catch (error) {
    console.error(error instanceof Problem ? `${name}: ${error.message}` : error)
    process.exitCode = 1
  }
}
