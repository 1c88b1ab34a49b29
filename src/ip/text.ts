/** The canonical text types together, for models that only carry them. */

export type { Family, IpText } from './address.ts'
export type { MacText } from './mac.ts'
export type { CidrText, IpNetText } from './prefix.ts'
