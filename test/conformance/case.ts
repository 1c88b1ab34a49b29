/** What a case is, and what can come out of it. */

import type { KernelFeature } from '../kernel-features.ts'
import type { Trial } from './trial.ts'

/**
 * Where a case's demand comes from: the text of the CNI specification; what the reference plugins document or do; or what an operator needs
 * beyond both (nothing leaks after a crash, a clear code instead of a general one).
 */
export type Basis = 'SPEC' | 'REF' | 'OPS'

export interface Case {
  /** `area/name`, unique for its plugin. */
  readonly id: string
  /** The plugin type it needs first of all; `chain` for those about several. */
  readonly plugin: string
  /** One line: what holds. */
  readonly asserts: string
  readonly basis: Basis
  /** Other plugin types that it runs. */
  readonly also?: readonly string[]
  readonly needs?: readonly KernelFeature[]
  /** Programs that it runs, with the Debian package that has them. */
  readonly programs?: Readonly<Record<string, string>>
  /** The oldest specification that has what it asks for; a plugin that does not claim it is left alone. */
  readonly since?: '0.4.0' | '1.1.0'
  /** Throws Failed where the plugin is wrong. */
  readonly run: (trial: Trial) => Promise<unknown>
}

export type Verdict =
  | { readonly is: 'passed' }
  | { readonly is: 'failed'; readonly why: string }
  /** The directory has no such type. */
  | { readonly is: 'absent'; readonly why: string }
  /** The plugin does not claim the specification that the case is about. */
  | { readonly is: 'unclaimed'; readonly why: string }
  /** This machine cannot tell. */
  | { readonly is: 'skipped'; readonly why: string }
  /** The suite itself failed. */
  | { readonly is: 'broken'; readonly why: string }

export type VerdictName = Verdict['is']

export const fullId = ({ plugin, id }: Pick<Case, 'plugin' | 'id'>): string => `${plugin}/${id}`
