/** A network of a case's own, made by requests that the clients do not have: Heddle makes no networks. */

import { randomBytes } from 'node:crypto'

import * as v from 'valibot'

import type { OpenStackClient } from '#openstack/client.ts'
import { isCode } from '#openstack/errors.ts'
import { Ports } from '#openstack/neutron/port.ts'

const WithId = v.object({ id: v.string() })

/** Makes and removes what a case needs, newest first, whatever it left behind. */
export class Site implements AsyncDisposable {
  readonly client: OpenStackClient
  readonly id = `hd-${randomBytes(4).toString('hex')}`
  readonly #undo: (() => Promise<void>)[] = []

  constructor(client: OpenStackClient) {
    this.client = client
  }

  /** Any write to Neutron, for what is only set up by tests. */
  async put<T>(
    method: 'POST' | 'PUT' | 'DELETE',
    path: readonly string[],
    body: object | undefined,
    schema: v.GenericSchema<unknown, T>,
  ): Promise<T> {
    const call = { service: 'network', method, path, object: `${method} ${path.join('/')}` } as const
    return this.client.call({ ...call, ...(body === undefined ? {} : { body }) }, schema)
  }

  async #make(type: string, key: string, entry: object): Promise<string> {
    const made = await this.put('POST', [type], { [key]: entry }, v.looseObject({ [key]: WithId }))
    return v.parse(WithId, made[key]).id
  }

  async remove(type: string, id: string): Promise<void> {
    const call = { service: 'network', method: 'DELETE', path: [type, id], object: `DELETE ${type} ${id}` } as const
    try {
      await this.client.send(call)
    } catch (error) {
      if (!isCode(error, 'not-found')) throw error
    }
  }

  async network(more: object = {}): Promise<string> {
    const id = await this.#make('networks', 'network', { name: this.id, ...more })
    this.#undo.push(() => this.remove('networks', id))
    // Before the network goes, all ports in it.
    this.#undo.push(async () => {
      const ports = new Ports(this.client)
      for (const port of await ports.list({ network: id })) {
        if (!port.device_owner.startsWith('network:')) await this.remove('ports', port.id)
      }
    })
    return id
  }

  /** It goes with its network. */
  subnet(network: string, cidr: string, more: object = {}): Promise<string> {
    const ip_version = cidr.includes(':') ? 6 : 4
    return this.#make('subnets', 'subnet', { network_id: network, cidr, ip_version, enable_dhcp: false, ...more })
  }

  async router(subnet: string, more: object = {}): Promise<string> {
    const id = await this.#make('routers', 'router', { name: this.id, ...more })
    this.#undo.push(() => this.remove('routers', id))
    await this.put('PUT', ['routers', id, 'add_router_interface'], { subnet_id: subnet }, v.unknown())
    this.#undo.push(async () => {
      for (const one of await this.floating(id)) await this.remove('floatingips', one)
      await this.put('PUT', ['routers', id], { router: { routes: [] } }, v.unknown()).catch(() => undefined)
      await this.put('PUT', ['routers', id, 'remove_router_interface'], { subnet_id: subnet }, v.unknown())
    })
    return id
  }

  async floating(router: string): Promise<readonly string[]> {
    const call = { service: 'network', method: 'GET', path: ['floatingips'], object: 'LIST floatingips' } as const
    const found = v.object({ floatingips: v.array(v.object({ id: v.string(), router_id: v.nullable(v.string()) })) })
    return (await this.client.call(call, found)).floatingips
      .filter((one) => one.router_id === router)
      .map(({ id }) => id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = []
    for (const undo of this.#undo.toReversed()) await undo().catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw new AggregateError(failures, `site ${this.id} is not all gone`)
  }
}
