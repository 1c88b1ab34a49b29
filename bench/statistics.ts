/** The few statistics that the comparisons need. */

/** The value below which the share `p` (0 to 1) of the samples lies, between neighbours linearly. NaN of nothing. */
export function percentile(samples: readonly number[], p: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * p
  const low = sorted[Math.floor(at)]
  const high = sorted[Math.ceil(at)]
  return low === undefined || high === undefined ? Number.NaN : low + (high - low) * (at - Math.floor(at))
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5)

/** A median with the smallest and the largest value that it stands for. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export const spread = (samples: readonly number[]): Spread => ({
  median: median(samples),
  min: percentile(samples, 0),
  max: percentile(samples, 1),
})
