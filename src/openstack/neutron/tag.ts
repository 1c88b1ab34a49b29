/** Tags (extension standard-attr-tag): how one finds again what is one's own. */

import * as v from 'valibot'

import type { CallOptions, OpenStackClient } from '../client.ts'

export type Tagged = 'ports' | 'networks' | 'subnets' | 'routers' | 'floatingips'

const List = v.object({ tags: v.array(v.string()) })

/** Like `openstack TYPE set --no-tag --tag …`: replaces all tags. @throws OpenStackError */
export async function setTags(
  client: OpenStackClient,
  type: Tagged,
  id: string,
  tags: readonly string[],
  options: CallOptions = {},
): Promise<readonly string[]> {
  const object = `PUT tags of ${type} ${id}`
  const call = {
    ...options,
    service: 'network',
    method: 'PUT',
    path: [type, id, 'tags'],
    body: { tags },
    object,
  } as const
  return (await client.call(call, List)).tags
}

/** Like `openstack TYPE set --tag TAG`. @throws OpenStackError */
export function addTag(
  client: OpenStackClient,
  type: Tagged,
  id: string,
  tag: string,
  options: CallOptions = {},
): Promise<void> {
  const object = `PUT tag of ${type} ${id}`
  return client.send({ ...options, service: 'network', method: 'PUT', path: [type, id, 'tags', tag], object })
}

/** Like `openstack TYPE unset --tag TAG`. @throws OpenStackError `not-found`: it has no such tag */
export function removeTag(
  client: OpenStackClient,
  type: Tagged,
  id: string,
  tag: string,
  options: CallOptions = {},
): Promise<void> {
  const object = `DELETE tag of ${type} ${id}`
  return client.send({ ...options, service: 'network', method: 'DELETE', path: [type, id, 'tags', tag], object })
}
