/** Microversions (API-SIG guideline "Microversion Specification"): which one is asked for, out of what both sides know. Pure. */

import { OpenStackError } from '../errors.ts'

export interface Microversion {
  readonly major: number
  readonly minor: number
}

export interface VersionRange {
  readonly minimum: Microversion
  readonly maximum: Microversion
}

export function parseMicroversion(text: string): Microversion | undefined {
  const match = /^(\d{1,4})\.(\d{1,6})$/.exec(text)
  const [, major, minor] = match ?? []
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) }
}

export const formatMicroversion = ({ major, minor }: Microversion): string => `${major}.${minor}`

const compare = (a: Microversion, b: Microversion): number => a.major - b.major || a.minor - b.minor

const rangeText = (range: VersionRange): string =>
  `${formatMicroversion(range.minimum)} to ${formatMicroversion(range.maximum)}`

/** The newest version that both know. @throws OpenStackError `bad-response` where there is none */
export function chooseVersion(ours: VersionRange, theirs: VersionRange, service: string): Microversion {
  const newest = compare(ours.maximum, theirs.maximum) <= 0 ? ours.maximum : theirs.maximum
  const oldest = compare(ours.minimum, theirs.minimum) >= 0 ? ours.minimum : theirs.minimum
  if (compare(newest, oldest) >= 0) return newest
  throw new OpenStackError('bad-response', `it speaks ${rangeText(theirs)}, and ${rangeText(ours)} is needed`, {
    object: `microversions of ${service}`,
  })
}
