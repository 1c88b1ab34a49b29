/** What is needed of Nova: servers, and their interfaces (Compute API v2.1, "Port interfaces"). */

import * as v from 'valibot'

import type { Call, CallOptions, OpenStackClient } from '../client.ts'
import { isCode } from '../errors.ts'
import { Id, Ip, Mac, Text } from '../schema.ts'
import { chooseVersion, formatMicroversion, parseMicroversion, type VersionRange } from './microversion.ts'

/** 2.49 knows tags of attached interfaces; later ones add nothing that is used here. Every supported release knows 2.1. */
const OURS: VersionRange = { minimum: { major: 2, minor: 1 }, maximum: { major: 2, minor: 49 } }

const Version = v.object({ version: v.optional(v.string(), ''), min_version: v.optional(v.string(), '') })
/** One version at the endpoint itself, several above it. */
const Root = v.union([v.object({ version: Version }), v.object({ versions: v.array(Version) })])

const InterfaceSchema = v.object({
  port_id: Id,
  net_id: Id,
  mac_addr: Mac,
  port_state: Text,
  fixed_ips: v.optional(v.array(v.object({ subnet_id: Id, ip_address: Ip })), []),
})
/** A network card of a server. */
export type Interface = v.InferOutput<typeof InterfaceSchema>

const ServerSchema = v.object({
  id: Id,
  name: Text,
  /** `ACTIVE`, `BUILD`, `ERROR`, `SHUTOFF` … */
  status: v.string(),
  'OS-EXT-STS:task_state': v.optional(v.nullable(v.string())),
})
export type Server = v.InferOutput<typeof ServerSchema>

/** How a card is made: from a port, or with a port of Nova's making, which goes with the card. */
export type Attachment =
  | { readonly port: string; readonly tag?: string }
  | { readonly network: string; readonly tag?: string }

export class Compute {
  readonly #client: OpenStackClient
  #version: string | undefined

  constructor(client: OpenStackClient) {
    this.#client = client
  }

  /** The microversion that is spoken, found out once. @throws OpenStackError */
  async version(options: CallOptions = {}): Promise<string> {
    if (this.#version !== undefined) return this.#version
    const call = {
      ...options,
      service: 'compute',
      method: 'GET',
      path: [],
      atVersion: true,
      object: 'GET versions of Nova',
    } as const
    const root = await this.#client.call(call, Root)
    const all = 'version' in root ? [root.version] : root.versions
    const ranges = all.flatMap(({ version, min_version }): readonly VersionRange[] => {
      const [minimum, maximum] = [parseMicroversion(min_version), parseMicroversion(version)]
      return minimum === undefined || maximum === undefined ? [] : [{ minimum, maximum }]
    })
    // A Nova that names none is 2.0 or 2.1 without microversions: the header would be for nobody.
    const theirs = ranges[0] ?? { minimum: OURS.minimum, maximum: OURS.minimum }
    const version = formatMicroversion(chooseVersion(OURS, theirs, 'Nova'))
    this.#version = version
    return version
  }

  async #call(call: Omit<Call, 'service'>): Promise<Call> {
    const { signal, timeoutMs } = call
    const version = await this.version({
      ...(signal === undefined ? {} : { signal }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    })
    // Newcomers read the first header, those before Newton the second.
    const headers = { 'OpenStack-API-Version': `compute ${version}`, 'X-OpenStack-Nova-API-Version': version }
    return { ...call, service: 'compute', headers }
  }

  /** Like `openstack server show ID`. @throws OpenStackError */
  async server(id: string, options: CallOptions = {}): Promise<Server> {
    const call = { ...options, method: 'GET', path: ['servers', id], object: `GET server ${id}` } as const
    return (await this.#client.call(await this.#call(call), v.object({ server: ServerSchema }))).server
  }

  /** Like `openstack port list --server ID`, as Nova sees it. @throws OpenStackError */
  async interfaces(server: string, options: CallOptions = {}): Promise<readonly Interface[]> {
    const path = ['servers', server, 'os-interface']
    const call = { ...options, method: 'GET', path, object: `LIST interfaces of server ${server}` } as const
    const schema = v.object({ interfaceAttachments: v.array(InterfaceSchema) })
    return (await this.#client.call(await this.#call(call), schema)).interfaceAttachments
  }

  /**
   * Like `openstack server add port SERVER PORT`. Takes about two seconds, and more the more cards a server has. The answer does not mean
   * that the guest sees it: that takes until its kernel says so.
   * @throws OpenStackError `conflict` (port in use, or server in a state that forbids it), `over-quota`
   */
  async attach(server: string, what: Attachment, options: CallOptions = {}): Promise<Interface> {
    const version = await this.version(options)
    const tag = what.tag !== undefined && version === formatMicroversion(OURS.maximum) ? { tag: what.tag } : {}
    const interfaceAttachment = 'port' in what ? { port_id: what.port, ...tag } : { net_id: what.network, ...tag }
    const call = {
      ...options,
      method: 'POST',
      path: ['servers', server, 'os-interface'],
      body: { interfaceAttachment },
      object: `POST interface of server ${server}`,
    } as const
    const schema = v.object({ interfaceAttachment: InterfaceSchema })
    return (await this.#client.call(await this.#call(call), schema)).interfaceAttachment
  }

  /**
   * Like `openstack server remove port SERVER PORT`. Accepted (202), not done: ask `interfaces` until it is gone. A port that was made
   * before stays, one of Nova's making is deleted. False: there was none.
   * @throws OpenStackError
   */
  async detach(server: string, port: string, options: CallOptions = {}): Promise<boolean> {
    const call = {
      ...options,
      method: 'DELETE',
      path: ['servers', server, 'os-interface', port],
      object: `DELETE interface ${port} of server ${server}`,
    } as const
    try {
      await this.#client.send(await this.#call(call))
      return true
    } catch (error) {
      if (isCode(error, 'not-found')) return false
      throw error
    }
  }
}
