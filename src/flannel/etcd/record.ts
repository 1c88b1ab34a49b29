/** A lease as it lies in etcd, and what it means to the agent: a node, named by its lease. */

import type { KeyValue, LeaseId } from '#etcd/messages.ts'
import type { NodeView } from '../node-view.ts'
import { annotationsOf, parseAttributes, type Attributes } from './attributes.ts'
import { parseLeaseKey, type Subnets } from './key.ts'

export interface LeaseRecord {
  readonly key: string
  readonly subnets: Subnets
  /** Undefined where the value cannot be read; its subnet is taken all the same. */
  readonly attributes: Attributes | undefined
  readonly value: string
  readonly lease: LeaseId
  readonly createRevision: number
  readonly modRevision: number
}

/** Undefined for a key that is no lease's. Never throws. */
export function leaseRecord(kv: KeyValue): LeaseRecord | undefined {
  const subnets = parseLeaseKey(kv.key)
  if (subnets === undefined) return undefined
  const attributes = parseAttributes(kv.value)
  const { key, lease, createRevision, modRevision } = kv
  // Of what cannot be read nothing is kept, however long it is.
  return {
    key,
    subnets,
    attributes,
    value: attributes === undefined ? '' : kv.value.toString(),
    lease,
    createRevision,
    modRevision,
  }
}

/** As if it were a Node of Kubernetes, which has the rest of the agent in common with it. Older leases count as older nodes. */
export function viewOf(record: LeaseRecord, name: string, ownType: string): NodeView {
  const { subnets, attributes, createRevision } = record
  return {
    name,
    uid: String(createRevision),
    created: String(createRevision).padStart(16, '0'),
    podCidrs: [subnets[4], ...(subnets[6] === undefined ? [] : [subnets[6]])],
    annotations: attributes === undefined ? {} : annotationsOf(attributes, ownType),
  }
}

/** The view of this node with subnets that it has, or might have. */
export const ownView = (name: string, subnets: Subnets, known?: LeaseRecord): NodeView =>
  known === undefined
    ? {
        name,
        uid: '',
        created: '',
        podCidrs: [subnets[4], ...(subnets[6] === undefined ? [] : [subnets[6]])],
        annotations: {},
      }
    : viewOf({ ...known, subnets }, name, '')

/** Names of leases, for messages and sources: the last part of the key. */
export const recordName = ({ key }: LeaseRecord): string => key.slice(key.lastIndexOf('/') + 1)
