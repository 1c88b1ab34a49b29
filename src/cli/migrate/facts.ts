/** What flanneld has left on this node, read once, as plain data. */

import type { Conf, Facts as NodeFacts } from '#doctor/facts.ts'
import type { NetConf } from '#flannel/net-conf.ts'
import type { InstallPlan } from '../install/plan.ts'
import type { FlannelEntry } from './entry.ts'
import type { FoundProcess, FoundUnit } from './flanneld.ts'

export interface Device {
  readonly name: string
  readonly kind: string
  readonly mac: string | undefined
  readonly mtu: number
}

/** A chain or a table of flannel's rules. */
export interface RuleSet {
  readonly kind: 'iptables' | 'nftables'
  /** `iptables-nft nat FLANNEL-POSTRTG`, `ip flannel-ipv4`. */
  readonly name: string
  /** Undefined for a table, which is not counted. */
  readonly rules: number | undefined
}

export interface DaemonSet {
  readonly namespace: string
  readonly name: string
  readonly images: readonly string[]
  /** It runs Heddle's image or command already. */
  readonly isHeddle: boolean
}

export interface Facts {
  readonly processes: readonly FoundProcess[]
  readonly unit: FoundUnit | undefined
  /** Those of flannel; a text is why they cannot be had. */
  readonly daemonSets: readonly DaemonSet[] | string
  /** A text is why there is none that can be used. */
  readonly netConf: { readonly path: string; readonly conf: NetConf | string }
  readonly subnetFile: NodeFacts['subnetFile']
  readonly devices: readonly Device[]
  /** What flanneld programmed; what Heddle did bears other marks and is not here. */
  readonly entries: readonly FlannelEntry[]
  readonly rules: readonly RuleSet[]
  readonly confs: { readonly directory: string; readonly files: readonly Conf[] }
  /** Where runtimes look for plugins. */
  readonly plugins: string
  /** Undefined where Heddle's plugins are installed already, or are to be left alone. */
  readonly install: InstallPlan | undefined
  readonly cluster: NodeFacts['cluster']
  readonly agent: NodeFacts['agent']
  /** The drop-in that is asked for: its content, and what is there now. */
  readonly dropIn:
    | { readonly path: string; readonly text: string | undefined; readonly now: string | undefined }
    | undefined
}
