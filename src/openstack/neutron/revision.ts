import type { CallOptions } from '../client.ts'

/** What a write may be given. */
export interface Write extends CallOptions {
  /** The object's `revision_number` that this change is made from; if it is another by now: `precondition`. Detects, but does not lock. */
  readonly revision?: number
}

/** The header of the extension revision-if-match. What is no number would be ignored by Neutron, hence the number's type. */
export const ifMatch = (revision: number | undefined): { readonly [name: string]: string } =>
  revision === undefined ? {} : { 'If-Match': `revision_number=${revision}` }
