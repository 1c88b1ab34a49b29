import { OpenStackClient, type ClientOptions } from '#openstack/client.ts'
import { cloudConfig, type CloudConfig } from '#openstack/config.ts'
import { FakeCloud } from '#openstack/fake/server.ts'

/** A cloud that the suite runs against: with an administrator, and a project `demo` that is only a member. */
export interface Target extends AsyncDisposable {
  readonly name: string
  readonly admin: CloudConfig
  readonly member: CloudConfig
}

/** The configuration of a user with a password. */
export const userOf = (authUrl: string, username: string, password: string, project: string): CloudConfig =>
  cloudConfig('', { auth_url: authUrl, username, password, project_name: project, region_name: 'RegionOne' }, username)

export const clientOf = (config: CloudConfig, options: ClientOptions = {}): OpenStackClient =>
  new OpenStackClient(config, { userAgent: 'heddle-test', ...options })

/** The fake one, always at hand. */
export async function fakeTarget(): Promise<Target> {
  const fake = await FakeCloud.start()
  fake.addUser('admin', 'secret', 'admin', true)
  fake.addUser('demo', 'dpass', 'demo')
  return {
    name: 'fake',
    admin: userOf(fake.authUrl, 'admin', 'secret', 'admin'),
    member: userOf(fake.authUrl, 'demo', 'dpass', 'demo'),
    [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
  }
}

/** One cloud for several suites, which run one after the other: it starts with the first and ends with the last of them. */
export function shared(start: () => Promise<Target>, suites: number): () => Promise<Target> {
  let target: Promise<Target> | undefined
  let left = suites
  return async () => {
    target ??= start()
    const started = await target
    return {
      ...started,
      [Symbol.asyncDispose]: async () => void (--left === 0 && (await started[Symbol.asyncDispose]())),
    }
  }
}
