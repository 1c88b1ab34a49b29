/** The one face of all clouds: a few route tables and this node's place in them. */

import type { CidrText, IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import type { Secret } from '#sys/secret.ts'
import type { Send } from './http.ts'
import type { TableRoute } from './route-plan.ts'

export const CLOUDS = ['gce', 'ali-vpc', 'aws-vpc', 'tencent-vpc'] as const
export type CloudName = (typeof CLOUDS)[number]

export interface Keys {
  readonly id: string
  readonly secret: Secret
  /** Of temporary keys. */
  readonly token?: Secret
}

export interface CloudOptions {
  readonly send: Send
  readonly clock: Clock
  readonly random: () => number
  /** The node's name, for what is written into routes. */
  readonly node: string
  /** The underlay interface's address: some clouds' next hop. */
  readonly address: IpText
  /** Instead of the role's that the metadata server gives out. */
  readonly keys?: Keys | undefined
  /** Instead of the tables that the instance's subnet uses. */
  readonly tables?: readonly string[] | undefined
  /** Base URLs instead of the usual ones: a private endpoint, a test's server. */
  readonly metadata?: string | undefined
  readonly api?: string | undefined
}

export interface Scope {
  readonly subnet: CidrText
  /** The whole table, rather than what concerns this node. */
  readonly all: boolean
}

/** Every method may throw CloudError, and the signal's reason. */
export interface CloudTables {
  readonly nextHop: string
  readonly tables: readonly string[]
  /** Lets the instance take packets that are not for its own address; throws `forwarding` where it cannot. */
  prepare(signal: AbortSignal): Promise<void>
  /** IPv4 routes. Where the API can choose, only those to the subnet and to this node, unless all are asked for. */
  list(scope: Scope, signal: AbortSignal): Promise<TableRoute[]>
  create(table: string, destination: CidrText, signal: AbortSignal): Promise<void>
  /** Gives a route this node as its next hop. */
  replace(route: TableRoute, signal: AbortSignal): Promise<void>
  remove(route: TableRoute, signal: AbortSignal): Promise<void>
}

/** Asks the metadata server where this node is, and the API which tables matter there. */
export type OpenCloud = (options: CloudOptions, signal: AbortSignal) => Promise<CloudTables>

/** What routes' descriptions begin with. */
export const MARK = 'heddle'

/** For a description. */
export const markOf = (node: string): string => `${MARK}: pods of ${node}`.slice(0, 120)

export const isMark = (text: string | undefined): boolean => text?.startsWith(`${MARK}:`) === true
