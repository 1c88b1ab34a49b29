/** The credentials of a lab's cloud, as `openstack` and Heddle read them. */

import { cloudConfig, type CloudConfig } from '#openstack/config.ts'
import { jsonText } from '../network.ts'

/** The name of the tenant's entry: what nodes use, and everybody who plays the article's tenant. */
export const MEMBER_CLOUD = 'lab'
const ADMIN_CLOUD = 'lab-admin'

export interface Login {
  readonly authUrl: string
  /** Which of the catalog's URLs. */
  readonly interface: 'public' | 'internal'
  readonly admin?: string
  readonly member: string
}

const entry = (login: Login, username: string, password: string, project_name: string): object => ({
  auth: {
    auth_url: login.authUrl,
    username,
    password,
    project_name,
    user_domain_name: 'Default',
    project_domain_name: 'Default',
  },
  region_name: 'RegionOne',
  interface: login.interface,
  identity_api_version: '3',
})

/** In JSON, which is YAML. */
export const cloudsYaml = (login: Login): string =>
  jsonText({
    clouds: {
      [MEMBER_CLOUD]: entry(login, 'demo', login.member, 'demo'),
      ...(login.admin === undefined ? {} : { [ADMIN_CLOUD]: entry(login, 'admin', login.admin, 'admin') }),
    },
  })

/** Straight to the servers, past what watches over their users' requests. */
export const directConfig = (
  keystone: string,
  network: string,
  user: { readonly name: string; readonly password: string; readonly project: string },
): CloudConfig =>
  cloudConfig(
    'lab',
    {
      auth_url: keystone,
      username: user.name,
      password: user.password,
      project_name: user.project,
      region_name: 'RegionOne',
      interface: 'internal',
      network_endpoint_override: network,
      identity_endpoint_override: `${keystone}/v3`,
    },
    "the lab's cloud",
  )
