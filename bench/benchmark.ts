/** What every benchmark is to the program that runs them. */

import type { Measurement } from './measurement.ts'

export interface BenchmarkContext {
  /** Counted pairs, where the user asked for a number of them. */
  readonly runs: number | undefined
  /** Aborts on SIGINT; a benchmark then throws its reason and disposes what it made. */
  readonly signal: AbortSignal
  /** One line about what is being done. */
  readonly progress: (text: string) => void
}

export interface Benchmark {
  /** For `--only`. */
  readonly name: string
  readonly about: string
  /** Why it cannot run here, if so. */
  readonly obstacle?: () => string | undefined
  /** Makes what it needs, measures, and removes all of it again, failing or not. */
  readonly run: (context: BenchmarkContext) => Promise<readonly Measurement[]>
}
