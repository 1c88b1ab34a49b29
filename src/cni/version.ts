/** Versions of the CNI specification: which there are, how they compare, and which verbs need which. Source: CNI SPEC.md §1, `cniVersion`. */

/** Every published version, oldest first. */
export const specVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export type SpecVersion = (typeof specVersions)[number]

export const newestVersion: SpecVersion = '1.1.0'

/** What a configuration without `cniVersion` means. */
export const oldestVersion: SpecVersion = '0.1.0'

export const isSpecVersion = (text: string): text is SpecVersion => specVersions.some((version) => version === text)

/** The versions from `oldest` on, for a plugin that cannot speak the older ones. */
export const versionsFrom = (oldest: SpecVersion): readonly SpecVersion[] =>
  specVersions.slice(specVersions.indexOf(oldest))

/** `major.minor.micro` as numbers, missing parts zero; undefined for anything else. '' means 0.1.0. */
export function parseVersion(text: string): readonly [number, number, number] | undefined {
  if (text === '') return [0, 1, 0]
  const match = /^(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?$/.exec(text)
  if (match === null) return undefined
  return [Number(match[1]), Number(match[2] ?? 0), Number(match[3] ?? 0)]
}

/** Negative, zero or positive as `a` is older than, equal to or newer than `b`; undefined when either is no version. */
export function compareVersions(a: string, b: string): number | undefined {
  const x = parseVersion(a)
  const y = parseVersion(b)
  if (x === undefined || y === undefined) return undefined
  return x[0] - y[0] || x[1] - y[1] || x[2] - y[2]
}

/** True when `version` is `minimum` or newer; undefined when it is no version. */
export function isAtLeast(version: string, minimum: SpecVersion): boolean | undefined {
  const order = compareVersions(version, minimum)
  return order === undefined ? undefined : order >= 0
}

/** The version each verb appeared in, where that is checked at run time. */
export const verbSince = { CHECK: '0.4.0', STATUS: '1.1.0', GC: '1.1.0' } as const satisfies Record<string, SpecVersion>

/** prevResult is given to DEL from this version on. */
export const prevResultForDelSince: SpecVersion = '0.4.0'
