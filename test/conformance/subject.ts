/** A plugin type as the common cases see it: how a pod gets one, and what can be damaged or misconfigured. */

import type { JsonObject } from '#cni/json.ts'
import type { KernelFeature } from '../kernel-features.ts'
import type { Pod } from './pod.ts'
import type { ReadResult } from './shape.ts'
import type { Trial } from './trial.ts'

/** Something that an outsider breaks after an ADD, and CHECK has to find. */
export interface Damage {
  readonly id: string
  /** What is gone, for "CHECK fails after …". */
  readonly what: string
  readonly basis?: 'SPEC' | 'REF' | 'OPS'
  readonly apply: (trial: Trial, pod: Pod) => Promise<unknown>
}

/** A configuration that must be refused, and leave nothing. */
export interface Refusal {
  readonly id: string
  readonly what: string
  readonly change: (conf: JsonObject) => JsonObject
  readonly basis?: 'SPEC' | 'REF' | 'OPS'
}

export interface Subject {
  readonly type: string
  /** main makes a link; ipam is what a main plugin delegates to, called directly; chained changes what is there. */
  readonly role: 'main' | 'ipam' | 'chained'
  /** Other types that its configuration names. */
  readonly also?: readonly string[]
  readonly needs?: readonly KernelFeature[]
  readonly programs?: Readonly<Record<string, string>>
  /** The oldest version with which it makes sense. */
  readonly oldest?: string
  /** Makes what the host needs; once a machine. */
  readonly prepare?: (trial: Trial) => Promise<void>
  /** Makes what the nth pod needs; for a chained plugin the previous result. */
  readonly before?: (trial: Trial, pod: Pod) => Promise<ReadResult | undefined>
  /** Removes what `before` made, as far as it is still there. */
  readonly after?: (trial: Trial, pod: Pod) => Promise<unknown>
  /** A device of the host that DEL gives back. */
  readonly device?: (n: number) => string
  /** The nth pod's configuration, without name and cniVersion. */
  readonly conf: (n: number) => JsonObject
  /** ADD makes CNI_IFNAME in the pod. */
  readonly makesLink: boolean
  /** Every ADD makes something that DEL has to undo (loopback has only `lo`, static nothing). */
  readonly keepsState: boolean
  /** Its pods get addresses of this range by host-local, which has room for 253 of them. */
  readonly hostLocal?: boolean
  readonly damages: readonly Damage[]
  readonly refusals: readonly Refusal[]
}
