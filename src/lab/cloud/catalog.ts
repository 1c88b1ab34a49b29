/** Keystone's projects, users, roles and catalog, as an operator sets them up. */

import * as v from 'valibot'
import type { OpenStackClient } from '#openstack/client.ts'
import type { Urls } from './keystone.ts'

export interface Service {
  readonly type: 'network' | 'compute'
  readonly name: string
  readonly urls: Urls
}

/** A user with a project of its own. */
export interface Account {
  readonly user: string
  readonly password: string
  readonly project: string
  readonly role: 'admin' | 'member'
}

const Made = v.record(v.string(), v.object({ id: v.string() }))
const Roles = v.object({ roles: v.array(v.object({ id: v.string(), name: v.string() })) })

/** Makes services with their endpoints, then accounts. The client is the administrator's. @throws OpenStackError */
export async function populate(
  client: OpenStackClient,
  services: readonly Service[],
  accounts: readonly Account[],
): Promise<void> {
  const post = async (type: string, key: string, entry: object): Promise<string> => {
    const call = { service: 'identity', method: 'POST', path: [type], object: `POST ${type}` } as const
    return (await client.call({ ...call, body: { [key]: entry } }, Made))[key]?.id ?? ''
  }
  for (const { type, name, urls } of services) {
    const service_id = await post('services', 'service', { type, name })
    for (const [one, url] of Object.entries({ ...urls, admin: urls.internal })) {
      await post('endpoints', 'endpoint', { service_id, interface: one, region_id: 'RegionOne', url })
    }
  }
  const list = { service: 'identity', method: 'GET', path: ['roles'], object: 'LIST roles' } as const
  const { roles } = await client.call(list, Roles)
  for (const { user: name, password, project, role } of accounts) {
    const projectId = await post('projects', 'project', { name: project, domain_id: 'default' })
    const user = await post('users', 'user', { name, domain_id: 'default', password })
    const roleId = roles.find((one) => one.name === role)?.id ?? ''
    const path = ['projects', projectId, 'users', user, 'roles', roleId]
    await client.send({ service: 'identity', method: 'PUT', path, object: 'PUT role' })
  }
}
