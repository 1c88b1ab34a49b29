/** A lab as a check sees it: who is where with which addresses, as the kernel has them now. */

import type { IpText } from '#ip/text.ts'

export interface Place {
  readonly name: string
  readonly namespace: string
  readonly ips: readonly IpText[]
}

export interface PodView extends Place {
  readonly node: string
  /** Of its eth0. */
  readonly mtu: number
  readonly hostPort?: number | undefined
}

export interface NodeView extends Place {
  readonly pods: readonly PodView[]
}

export interface LabView {
  readonly nodes: readonly NodeView[]
  readonly outside: Place
  readonly families: readonly (4 | 6)[]
}
