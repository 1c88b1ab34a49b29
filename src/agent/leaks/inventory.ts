/** All that attachments may have left on a node, as data: read at once, judged by `judge.ts`. */

import type { AttachmentRecord } from '#cni/attachment/record.ts'
import type { IpText } from '#ip/text.ts'
import type { TableRef } from '#nft/table.ts'
import type { LinkRecord } from '#plugins/link/record.ts'
import type { SandboxState } from './sandbox.ts'

export interface AttachmentName {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
}

/** Identifies an attachment; ' ' is in none of the three. */
export const nameOf = ({ network, containerId, ifname }: AttachmentName): string =>
  `${network} ${containerId} ${ifname}`

export interface SeenRecord {
  readonly record: AttachmentRecord
  readonly sandbox: SandboxState
}

export interface SeenLinkRecord {
  readonly record: LinkRecord
  readonly sandbox: SandboxState
}

export interface SeenCache extends AttachmentName {
  readonly file: string
  readonly netns: string
  readonly sandbox: SandboxState
}

/** A link of the host with Heddle's mark. */
export interface SeenLink {
  readonly index: number
  readonly name: string
  readonly kind: string
  readonly alias: string
  /** Its other end is in another namespace, which therefore lives. */
  readonly hasPeerElsewhere: boolean
}

/** A proxy neighbour with Heddle's mark: a card of the host answers for the address. */
export interface SeenProxy {
  readonly index: number
  readonly ip: IpText
}

/** Elements of one owner in one table. */
export interface SeenRules {
  readonly table: TableRef
  /** `ownerMark`. */
  readonly mark: string
  /** As the comment names it, where that is whole. */
  readonly owner: AttachmentName | undefined
  readonly count: number
}

/** An address file of host-local; the owner of a torn one is not known. */
export interface SeenAddress {
  readonly file: string
  readonly network: string
  readonly containerId?: string
  readonly ifname?: string
}

/** A temporary file of a writer that is no more. */
export interface SeenFile {
  readonly file: string
  readonly ageMs: number
}

export interface Inventory {
  /** Records are kept here. Without any, this may be another agent's root, or a version that kept none: nothing without a record is Heddle's for certain. */
  readonly hasRecords: boolean
  readonly records: readonly SeenRecord[]
  readonly linkRecords: readonly SeenLinkRecord[]
  readonly caches: readonly SeenCache[]
  readonly links: readonly SeenLink[]
  readonly proxies: readonly SeenProxy[]
  readonly rules: readonly SeenRules[]
  readonly addresses: readonly SeenAddress[]
  readonly files: readonly SeenFile[]
  /** Attachments and networks (`nameOf`, network) that a call works on right now. */
  readonly busy: ReadonlySet<string>
}
