/** What a lab command tells while it works: facts, which the command line puts into words. */

export type Step =
  | { readonly step: 'namespaces'; readonly count: number }
  | { readonly step: 'network'; readonly nodes: number; readonly switches: number }
  | { readonly step: 'api'; readonly url: string }
  | { readonly step: 'cloud'; readonly nodes: number; readonly clouds: string }
  | { readonly step: 'agents'; readonly nodes: number }
  | { readonly step: 'pods'; readonly pods: number; readonly plugins: string }
  | { readonly step: 'floating-ips' }
  | { readonly step: 'pods-deleted'; readonly pods: number; readonly failures: readonly string[] }
  | { readonly step: 'processes-ended'; readonly count: number }
  | { readonly step: 'namespaces-removed'; readonly count: number }
  | { readonly step: 'files-removed'; readonly directory: string }

/** Called after each step with the milliseconds that it took. */
export type OnStep = (step: Step, ms: number) => void

/** Runs one step of the work and reports it. */
export async function timed<T>(onStep: OnStep, step: (result: T) => Step, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now()
  const result = await work()
  onStep(step(result), performance.now() - start)
  return result
}

/** Where the work is, and which log tells more about it. */
export interface Progress {
  at: string
  log?: string
}
