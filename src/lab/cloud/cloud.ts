/**
 * A lab's cloud as one process: Keystone and Neutron from Debian's packages as its children, and in itself what follows their database: cables, router, filters,
 * and the part of Nova that plugs cards in. Killed, it leaves the data path; started again, it goes on with the same database.
 */

import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openLog, type Log } from '#agent/log.ts'
import { OpenStackClient } from '#openstack/client.ts'
import { listenTcp } from '../check/responder.ts'
import { netnsPath, type LabPaths } from '../paths.ts'
import type { LabPlan } from '../plan.ts'
import { populate } from './catalog.ts'
import { cloudsYaml, directConfig } from './clouds-yaml.ts'
import { Driver } from './driver.ts'
import { forward, type Listen } from './forward.ts'
import { prepareKeystone, startKeystone, type Urls } from './keystone.ts'
import { prepareNeutron, startNeutron } from './neutron.ts'
import { Nova } from './nova.ts'
import type { CloudPlan } from './plan.ts'
import { freePort, Servers } from './servers.ts'
import { cloudPaths, readState, writeSecret, writeState, type CloudPaths, type CloudState } from './state.ts'
import { makeTopology } from './topology.ts'

/** Two cores that do other things as well need minutes for all of it. */
const PATIENCE_MS = 300_000
/** Of a card to appear: enough that a plugin has to wait for it. */
const ATTACH_MS = 300

/** Written with its pid when the cloud works, removed while it starts. */
export const readyFile = (paths: LabPaths): string => join(cloudPaths(paths.directory).directory, 'ready')

/** Resolves with what to wait for and to dispose of. Rejects when a server does not start; a half-made cloud is made anew by the next process. */
export async function startCloud(plan: LabPlan, cloud: CloudPlan, paths: LabPaths): Promise<AsyncDisposable> {
  const own = cloudPaths(paths.directory)
  const log = openLog('info', { from: 'cloud' })
  rmSync(readyFile(paths), { force: true })
  await using stack = new AsyncDisposableStack()
  const started = performance.now()
  const servers = stack.use(
    new Servers(own.directory, {
      patienceMs: PATIENCE_MS,
      // The keeper starts this process again, and that starts all of them.
      onEnd: (name) => {
        log.error({ server: name }, 'a server of the cloud ended')
        process.exit(1)
      },
    }),
  )
  const before = readState(own)
  if (before === undefined) {
    rmSync(own.directory, { recursive: true, force: true })
    mkdirSync(own.directory, { recursive: true, mode: 0o700 })
  }
  const basis = before ?? {
    ports: { identity: await freePort(), network: await freePort(), compute: await freePort() },
    passwords: { admin: password(), neutron: password(), member: password() },
  }
  const inner = { identity: await freePort(), network: await freePort() }
  const context = { plan, cloud, own, servers, basis, inner, log }
  if (before === undefined) await prepare(context)
  await startKeystone(servers, inner.identity)
  // Neutron asks about tokens where the catalog says, as everybody does.
  stack.use(await forward({ listen: listenAt(context, 'identity'), to: inner.identity }))
  const admin = stack.use(clientOf(context, 'admin'))
  if (before === undefined) await fillKeystone(context, admin)
  await startNeutron(servers, neutronOptions(context))
  const state = before ?? (await firstTime(context, admin))
  const driver = stack.use(new Driver({ plan, cloud, state, admin, log }))
  stack.use(await forward({ listen: listenAt(context, 'network'), to: inner.network, onWritten: () => driver.nudge() }))
  const settled = (): Promise<void> => driver.settled()
  stack.use(await Nova.start({ listen: listenAt(context, 'compute'), admin, state, settled, log, attachMs: ATTACH_MS }))
  await driver.settled()
  if (before === undefined) writeState(own, state)
  writeFileSync(readyFile(paths), String(process.pid))
  log.info({ ms: Math.round(performance.now() - started) }, 'the cloud is up')
  return stack.move()
}

interface Context {
  readonly plan: LabPlan
  readonly cloud: CloudPlan
  readonly own: CloudPaths
  readonly servers: Servers
  readonly basis: Pick<CloudState, 'ports' | 'passwords'>
  /** Where the servers themselves listen; they are new with every start. */
  readonly inner: { readonly identity: number; readonly network: number }
  readonly log: Log
}

const password = (): string => randomBytes(18).toString('base64url')
const local = (port: number): string => `http://127.0.0.1:${port}`

const urlsOf = ({ basis, cloud }: Context, service: keyof CloudState['ports'], path = ''): Urls => ({
  public: `http://${cloud.services.ip}:${cloud.services[service]}${path}`,
  internal: `${local(basis.ports[service])}${path}`,
})

const neutronOptions = ({ inner, basis }: Context): Parameters<typeof startNeutron>[1] => ({
  port: inner.network,
  keystone: local(inner.identity),
  password: basis.passwords.neutron,
})

function clientOf({ inner, basis }: Context, who: 'admin' | 'member'): OpenStackClient {
  const user = who === 'admin' ? { name: 'admin', project: 'admin' } : { name: 'demo', project: 'demo' }
  const config = directConfig(local(inner.identity), local(inner.network), {
    ...user,
    password: basis.passwords[who],
  })
  return new OpenStackClient(config, { userAgent: 'heddle-lab', attemptMs: 60_000, timeoutMs: 120_000 })
}

async function prepare(context: Context): Promise<void> {
  const { servers, basis, inner } = context
  const keystone = { port: inner.identity, urls: urlsOf(context, 'identity'), password: basis.passwords.admin }
  await Promise.all([prepareKeystone(servers, keystone), prepareNeutron(servers, neutronOptions(context))])
}

async function fillKeystone(context: Context, admin: OpenStackClient): Promise<void> {
  const { passwords } = context.basis
  await populate(
    admin,
    [
      { type: 'network', name: 'neutron', urls: urlsOf(context, 'network') },
      { type: 'compute', name: 'nova', urls: urlsOf(context, 'compute', '/v2.1') },
    ],
    [
      { user: 'neutron', password: passwords.neutron, project: 'service', role: 'admin' },
      { user: 'demo', password: passwords.member, project: 'demo', role: 'member' },
    ],
  )
}

/** The tenant's networks and VMs, and the files with which everybody reaches the cloud. */
async function firstTime(context: Context, admin: OpenStackClient): Promise<CloudState> {
  const { plan, cloud, own, basis } = context
  using member = clientOf(context, 'member')
  const state: CloudState = { version: 1, ...basis, ...(await makeTopology(admin, member, plan, cloud)) }
  const urls = urlsOf(context, 'identity', '/v3')
  const { admin: adminPassword, member: memberPassword } = basis.passwords
  const here = { authUrl: urls.internal, interface: 'internal', admin: adminPassword, member: memberPassword } as const
  writeSecret(own.cloudsYaml, cloudsYaml(here))
  writeSecret(own.innerCloudsYaml, cloudsYaml({ authUrl: urls.public, interface: 'public', member: memberPassword }))
  return state
}

/** On this machine's loopback, and where those inside find it. */
function listenAt({ plan, cloud, basis }: Context, service: keyof CloudState['ports']): readonly Listen[] {
  const { ip } = cloud.services
  const fd = listenTcp(netnsPath(plan.fabric.namespace), { ip, port: cloud.services[service] }, 4)
  return [{ port: basis.ports[service] }, { fd }]
}
