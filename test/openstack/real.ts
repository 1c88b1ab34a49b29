/** A real Keystone and Neutron from Debian's packages: SQLite, no broker, no agents, in a folder of their own, on free ports. */

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import * as v from 'valibot'

import type { OpenStackClient } from '#openstack/client.ts'
import { slowness } from '../slow.ts'
import { clientOf, userOf, type Target } from './target.ts'

const run = promisify(execFile)
/** Debian's Python and programs, whatever else is first in PATH. */
const env = { ...process.env, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
const START_MS = 180_000 * slowness
const FILES = {
  'neutron-server': '/usr/bin/neutron-server',
  keystone: '/usr/bin/keystone-manage',
  'uwsgi-plugin-python3': '/usr/bin/uwsgi',
} as const

/** Why there is no real cloud, or false. */
export function needsCloud(): string | false {
  if ((process.env['HEDDLE_TEST_OS_AUTH_URL'] ?? '') !== '') return false
  const missing = Object.entries(FILES).filter(([, file]) => !existsSync(file))
  return missing.length === 0 ? false : `no real Neutron: apt-get install ${missing.map(([name]) => name).join(' ')}`
}

const keystoneConf = (dir: string): string => `[DEFAULT]
log_file = ${dir}/keystone.log
[database]
connection = sqlite:///${dir}/keystone.sqlite
[token]
provider = fernet
[fernet_tokens]
key_repository = ${dir}/fernet
[fernet_receipts]
key_repository = ${dir}/fernet
[credential]
key_repository = ${dir}/credential
[oslo_messaging_notifications]
driver = noop
`

const neutronConf = (dir: string, port: number, keystone: string): string => `[DEFAULT]
auth_strategy = keystone
bind_host = 127.0.0.1
bind_port = ${port}
core_plugin = ml2
service_plugins = router,trunk,revisions,timestamp,tag,network_ip_availability
transport_url = fake:///
rpc_workers = 0
rpc_state_report_workers = 0
api_workers = 0
state_path = ${dir}
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
api_paste_config = /etc/neutron/api-paste.ini
[database]
connection = sqlite:///${dir}/neutron.sqlite
[oslo_concurrency]
lock_path = ${dir}/lock
[oslo_messaging_notifications]
driver = noop
[quotas]
quota_port = -1
quota_network = -1
quota_subnet = -1
quota_router = -1
quota_floatingip = -1
quota_security_group = -1
[ml2]
type_drivers = flat,local,vxlan
tenant_network_types = vxlan
mechanism_drivers = linuxbridge
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
[experimental]
linuxbridge = true
[keystone_authtoken]
www_authenticate_uri = ${keystone}
auth_url = ${keystone}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = neutron
password = npass
`

/** Neutron's migrations cannot run on SQLite: the tables of the newest schema are made from its models. */
const TABLES = `
import sys
from sqlalchemy import create_engine
from neutron.db.migration.models import head
head.get_metadata().create_all(create_engine('sqlite:///' + sys.argv[1]))`
/** Without it: "database is locked". */
const WAL = `
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute('pragma journal_mode=WAL')`

const python = (script: string, file: string): Promise<unknown> =>
  run('/usr/bin/python3', ['-c', script, file], { env, timeout: START_MS })

async function freePort(): Promise<number> {
  const probe = createServer()
  probe.listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

class Servers implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'heddle-cloud-'))
  readonly #children: ChildProcess[] = []

  /** A server that dies with this process, however that ends. */
  start(name: string, program: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): void {
    const log = openSync(join(this.dir, `${name}.out`), 'a')
    const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      env: { ...env, ...more },
      stdio: ['ignore', log, log],
    })
    this.#children.push(child)
  }

  async until(name: string, url: string): Promise<void> {
    const end = performance.now() + START_MS
    while (performance.now() < end && this.#children.every((child) => child.exitCode === null)) {
      const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined)
      if (answer !== undefined && answer.status < 500) return
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
    throw new Error(`${name} did not start: ${readFileSync(join(this.dir, `${name}.out`), 'utf8').slice(-2_000)}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

async function startKeystone(servers: Servers): Promise<string> {
  const { dir } = servers
  const conf = join(dir, 'keystone.conf')
  const url = `http://127.0.0.1:${await freePort()}`
  for (const folder of ['fernet', 'credential', 'lock']) mkdirSync(join(dir, folder), { mode: 0o700 })
  writeFileSync(conf, keystoneConf(dir))
  const manage = (...args: readonly string[]): Promise<unknown> =>
    run(FILES.keystone, ['--config-file', conf, ...args], { env, timeout: START_MS })
  const { username } = userInfo()
  const owner = ['--keystone-user', username, '--keystone-group', username]
  await manage('db_sync')
  await python(WAL, join(dir, 'keystone.sqlite'))
  await manage('fernet_setup', ...owner)
  await manage('credential_setup', ...owner)
  const urls = ['public', 'internal', 'admin'].flatMap((one) => [`--bootstrap-${one}-url`, `${url}/v3`])
  await manage('bootstrap', '--bootstrap-password', 'secret', '--bootstrap-region-id', 'RegionOne', ...urls)
  const options = [
    '--plugins',
    'python3',
    '--http-socket',
    new URL(url).host,
    '--wsgi-file',
    '/usr/bin/keystone-wsgi-public',
  ]
  // Without the header, clients that keep connections find them closed under their requests; without no-orphans, workers would outlive a kill.
  const more = [
    '--threads',
    '4',
    '--enable-threads',
    '--lazy-apps',
    '--need-app',
    '--buffer-size',
    '65535',
    '--no-orphans',
  ]
  servers.start('keystone', '/usr/bin/uwsgi', [...options, ...more, '--add-header', 'Connection: close'], {
    OS_KEYSTONE_CONFIG_DIR: dir,
    OS_KEYSTONE_CONFIG_FILES: 'keystone.conf',
  })
  await servers.until('keystone', `${url}/v3`)
  return url
}

/** Projects, users and the catalog, as an operator sets them up. */
async function populate(client: OpenStackClient, neutron: string): Promise<void> {
  const Made = v.record(v.string(), v.object({ id: v.string() }))
  const post = async (type: string, key: string, entry: object): Promise<string> => {
    const call = { service: 'identity', method: 'POST', path: [type], object: `POST ${type}` } as const
    return (await client.call({ ...call, body: { [key]: entry } }, Made))[key]?.id ?? ''
  }
  const service = await post('services', 'service', { type: 'network', name: 'neutron' })
  for (const one of ['public', 'internal', 'admin']) {
    await post('endpoints', 'endpoint', { service_id: service, interface: one, region_id: 'RegionOne', url: neutron })
  }
  const List = v.object({ roles: v.array(v.object({ id: v.string(), name: v.string() })) })
  const call = { service: 'identity', method: 'GET', path: ['roles'], object: 'LIST roles' } as const
  const { roles } = await client.call(call, List)
  for (const [name, password, project, role] of [
    ['neutron', 'npass', 'service', 'admin'],
    ['demo', 'dpass', 'demo', 'member'],
  ] as const) {
    const projectId = await post('projects', 'project', { name: project, domain_id: 'default' })
    const user = await post('users', 'user', { name, domain_id: 'default', password })
    const roleId = roles.find((one) => one.name === role)?.id ?? ''
    const path = ['projects', projectId, 'users', user, 'roles', roleId]
    await client.send({ service: 'identity', method: 'PUT', path, object: 'PUT role' })
  }
}

async function startNeutron(servers: Servers, keystone: string, port: number): Promise<void> {
  const { dir } = servers
  const conf = join(dir, 'neutron.conf')
  const file = join(dir, 'neutron.sqlite')
  writeFileSync(conf, neutronConf(dir, port, keystone))
  await python(TABLES, file)
  await run('/usr/bin/neutron-db-manage', ['--config-file', conf, 'stamp', 'heads'], { env, timeout: START_MS })
  await python(WAL, file)
  servers.start('neutron', FILES['neutron-server'], ['--config-file', conf, '--log-file', join(dir, 'neutron.log')])
  await servers.until('neutron', `http://127.0.0.1:${port}/`)
}

/** The one that `HEDDLE_TEST_OS_AUTH_URL` names (users admin/secret and demo/dpass), or one that is started and gone afterwards. */
export async function realTarget(): Promise<Target> {
  const given = process.env['HEDDLE_TEST_OS_AUTH_URL'] ?? ''
  const of = (url: string): Pick<Target, 'admin' | 'member'> => ({
    admin: userOf(url, 'admin', 'secret', 'admin'),
    member: userOf(url, 'demo', 'dpass', 'demo'),
  })
  if (given !== '') return { name: given, ...of(given), [Symbol.asyncDispose]: () => Promise.resolve() }
  const servers = new Servers()
  try {
    const keystone = await startKeystone(servers)
    const port = await freePort()
    const users = of(keystone)
    using client = clientOf(users.admin, { attemptMs: 60_000, timeoutMs: 120_000 })
    await populate(client, `http://127.0.0.1:${port}`)
    await startNeutron(servers, keystone, port)
    return { name: 'real', ...users, [Symbol.asyncDispose]: () => servers[Symbol.asyncDispose]() }
  } catch (error) {
    await servers[Symbol.asyncDispose]()
    throw error
  }
}
