/** Ports of Neutron: Networking API v2.0, "Ports"; extensions allowed-address-pairs, port-security, standard-attr-tag, revision-if-match. */

import * as v from 'valibot'

import type { IpText } from '#ip/address.ts'
import type { MacText } from '#ip/mac.ts'
import type { CidrText, IpNetText } from '#ip/prefix.ts'
import type { CallOptions, OpenStackClient, Query } from '../client.ts'
import { OpenStackError } from '../errors.ts'
import { listAll } from '../pages.ts'
import { Count, Id, Ip, IpNetSchema, Mac, nullable, OptionalId, Text } from '../schema.ts'
import { ifMatch, type Write } from './revision.ts'
import { setTags } from './tag.ts'

const FixedIp = v.object({ subnet_id: Id, ip_address: Ip })
const Pair = v.object({ ip_address: IpNetSchema, mac_address: nullable(Mac) })

export const PortSchema = v.object({
  id: Id,
  name: Text,
  network_id: Id,
  project_id: OptionalId,
  mac_address: Mac,
  /** A set: Neutron sorts it as text, and the node's own address may stand anywhere. */
  fixed_ips: v.array(FixedIp),
  allowed_address_pairs: v.optional(v.array(Pair), []),
  device_id: Text,
  device_owner: Text,
  status: Text,
  admin_state_up: v.optional(v.boolean(), true),
  port_security_enabled: v.optional(v.boolean(), true),
  security_groups: v.optional(v.array(Id), []),
  tags: v.optional(v.array(v.string()), []),
  'binding:host_id': v.optional(v.nullable(v.string())),
  revision_number: Count,
})
export type Port = v.InferOutput<typeof PortSchema>
export type FixedIp = v.InferOutput<typeof FixedIp>
export type AddressPair = v.InferOutput<typeof Pair>

/** An address of a port that is wanted: one by name, or any of a subnet. Never empty, which Neutron 21 answers with 500. */
export type WantedIp =
  | { readonly subnet_id: string; readonly ip_address?: IpText }
  | { readonly ip_address: IpText; readonly subnet_id?: string }

export interface WantedPair {
  /** A CIDR counts as one of the ten that a port may have. */
  readonly ip_address: CidrText | IpNetText | IpText
  readonly mac_address?: MacText
}

/** What may be set: only what is given is sent, since a PUT with the whole object undoes what others changed. */
export interface PortFields {
  readonly name?: string
  readonly fixed_ips?: readonly WantedIp[]
  readonly allowed_address_pairs?: readonly WantedPair[]
  readonly security_groups?: readonly string[]
  readonly port_security_enabled?: boolean
  readonly admin_state_up?: boolean
  readonly device_id?: string
  readonly device_owner?: string
}

export interface NewPort extends PortFields {
  readonly network_id: string
  readonly mac_address?: MacText
  readonly 'binding:host_id'?: string
  /** Up to 60 characters each. */
  readonly tags?: readonly string[]
}

export interface PortFilter {
  readonly ip?: string
  readonly subnet?: string
  readonly mac?: string
  readonly network?: string
  readonly device?: string
  readonly deviceOwner?: string
  readonly name?: string
  /** All of these tags. */
  readonly tags?: readonly string[]
  readonly project?: string
}

const One = v.object({ port: PortSchema })
const Many = v.object({ ports: v.array(PortSchema) })

function queryOf(filter: PortFilter): Query {
  const fixed = [
    ...(filter.ip === undefined ? [] : [`ip_address=${filter.ip}`]),
    ...(filter.subnet === undefined ? [] : [`subnet_id=${filter.subnet}`]),
  ]
  return {
    ...(fixed.length === 0 ? {} : { fixed_ips: fixed }),
    mac_address: filter.mac,
    network_id: filter.network,
    device_id: filter.device,
    device_owner: filter.deviceOwner,
    name: filter.name,
    project_id: filter.project,
    ...(filter.tags === undefined || filter.tags.length === 0 ? {} : { tags: filter.tags.join(',') }),
  }
}

/** Ports. Each method is one command of `openstack port`. */
export class Ports {
  readonly #client: OpenStackClient

  constructor(client: OpenStackClient) {
    this.#client = client
  }

  /** Like `openstack port show ID`. @throws OpenStackError `not-found`, also where it is another project's */
  async get(id: string, options: CallOptions = {}): Promise<Port> {
    const call = {
      ...options,
      service: 'network',
      method: 'GET',
      path: ['ports', id],
      object: `GET port ${id}`,
    } as const
    return (await this.#client.call(call, One)).port
  }

  /** Like `openstack port list`. Another project's ports are just not there. @throws OpenStackError */
  list(filter: PortFilter = {}, options: CallOptions = {}): Promise<readonly Port[]> {
    const call = {
      ...options,
      service: 'network',
      path: ['ports'],
      query: queryOf(filter),
      object: 'LIST ports',
    } as const
    return listAll(this.#client, call, 'ports', PortSchema)
  }

  /**
   * Like `openstack port create --tag …`. Most Neutrons pass over tags in this request (only those with the ML2 extension driver
   * tag_ports_during_bulk_creation take them, and only in a list), so they are set in a second one where they are missing; a port that cannot
   * be tagged is deleted again. A crash between the two leaves a port without tags: give it a name or device_id that tells whose it is.
   * Without an answer (`perhapsDone`) the port may be there: look for that name before making another.
   * @throws OpenStackError `subnet-full`, `over-quota`, `address-in-use`, `forbidden`
   */
  async create(port: NewPort, options: CallOptions = {}): Promise<Port> {
    const { tags = [], ...fields } = port
    if (tags.length === 0) {
      const object = `POST port on network ${port.network_id}`
      const call = {
        ...options,
        service: 'network',
        method: 'POST',
        path: ['ports'],
        body: { port: fields },
        object,
      } as const
      return (await this.#client.call(call, One)).port
    }
    const [made] = await this.createMany([port], options)
    if (made === undefined) {
      throw new OpenStackError('bad-response', 'no port came back', { object: 'POST ports', perhapsDone: true })
    }
    if (tags.every((tag) => made.tags.includes(tag))) return made
    try {
      await setTags(this.#client, 'ports', made.id, tags, options)
      return await this.get(made.id, options)
    } catch (error) {
      await this.delete(made.id, options).catch(() => undefined)
      throw error
    }
  }

  /** Many ports at once: all or none. No faster for each than one by one, and tags may be passed over (Neutron 21). @throws OpenStackError */
  async createMany(ports: readonly NewPort[], options: CallOptions = {}): Promise<readonly Port[]> {
    const object = `POST ${ports.length} ports`
    const call = { ...options, service: 'network', method: 'POST', path: ['ports'], body: { ports }, object } as const
    return (await this.#client.call(call, Many)).ports
  }

  /**
   * Like `openstack port set`. Lists are replaced, as sets. An address that is left out of `fixed_ips` and in whose place stands
   * `{subnet_id}` of the same subnet stays: Neutron uses it for that. So of two writers that each add one, both may be told the same address.
   *
   * `revision` finds a slow conflict; it is no lock, since Neutron lets writers at the same time through.
   * @throws OpenStackError `precondition`, `address-in-use` (then nothing was changed), `subnet-full`, `over-quota`, `forbidden`
   */
  async update(id: string, port: PortFields, write: Write = {}): Promise<Port> {
    const { revision, ...options } = write
    const call = {
      ...options,
      service: 'network',
      method: 'PUT',
      path: ['ports', id],
      body: { port },
      headers: ifMatch(revision),
      object: `PUT port ${id}`,
    } as const
    return (await this.#client.call(call, One)).port
  }

  /** Like `openstack port delete`. @throws OpenStackError `not-found`, `conflict` (a router's) */
  delete(id: string, options: CallOptions = {}): Promise<void> {
    const object = `DELETE port ${id}`
    return this.#client.send({ ...options, service: 'network', method: 'DELETE', path: ['ports', id], object })
  }
}
