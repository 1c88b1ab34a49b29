/** A card: a Neutron port that Nova attaches to the node's server, and the pod that has it. */

import { randomBytes } from 'node:crypto'

import * as v from 'valibot'

import { cidrSchema, ipNetSchema, ipSchema, macSchema } from '#cni/schema.ts'
import { markText, type Mark } from '#openstack/mark.ts'

const portSchema = v.object({
  /** Neutron's. */
  id: v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/)),
  mac: macSchema,
  mtu: v.number(),
  ips: v.array(v.object({ address: ipNetSchema, gateway: v.exactOptional(ipSchema) })),
  /** Of the subnets, beside the default ones. */
  routes: v.array(v.object({ dst: cidrSchema, gw: ipSchema })),
  nameservers: v.array(ipSchema),
})

const deviceSchema = v.object({
  /** Its name on the host, and its settings there before a pod had it. */
  name: v.string(),
  mtu: v.number(),
  /** It outlives its namespace: the kernel gives it back. */
  physical: v.boolean(),
})

const holderSchema = v.object({
  containerId: v.string(),
  ifname: v.string(),
  /** Path of the pod's namespace, and which one it was in which boot. */
  netns: v.string(),
  netnsId: v.string(),
  boot: v.string(),
})

/**
 * `creating`: a port of that name may be there. `attaching`: the port is there, and may be attached. `ready`: attached. `leaving`: card and port
 * go. The state is on disk before the first request of its step.
 */
export const CARD_STATES = ['creating', 'attaching', 'ready', 'leaving'] as const

export const cardSchema = v.object({
  version: v.literal(1),
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{12}$/)),
  state: v.picklist(CARD_STATES),
  /** Milliseconds since 1970: when it came into the state. */
  since: v.number(),
  cluster: v.string(),
  /** Of the node. A disk that was copied to another server knows cards that are not there. */
  server: v.string(),
  /** The CNI network. */
  network: v.string(),
  port: v.exactOptional(portSchema),
  device: v.exactOptional(deviceSchema),
  /** Absent in the pool. */
  holder: v.exactOptional(holderSchema),
  /** Why it is of no use any more, where its pod still has it. */
  lost: v.exactOptional(v.string()),
})

export type Card = v.InferOutput<typeof cardSchema>
export type CardPort = v.InferOutput<typeof portSchema>
export type Device = v.InferOutput<typeof deviceSchema>
export type Holder = v.InferOutput<typeof holderSchema>
export type CardState = Card['state']

export const newCardId = (): string => randomBytes(6).toString('hex')

export const markOfCard = ({ cluster, server, id }: Pick<Card, 'cluster' | 'server' | 'id'>): Mark => ({
  cluster,
  kind: 'nic',
  node: server,
  subject: id,
})

/** By which its port is found, whether or not an answer told its id. */
export const portName = (card: Pick<Card, 'cluster' | 'server' | 'id'>): string => markText(markOfCard(card))

/** On the link, for people and for finding it again. */
export const aliasOfCard = ({ id }: Pick<Card, 'id'>): string => `heddle-nic:${id}`

export const isIdle = ({ state, holder, lost }: Card): boolean =>
  state === 'ready' && holder === undefined && lost === undefined
