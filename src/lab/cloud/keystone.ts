/** A real Keystone: SQLite, Fernet tokens, uwsgi on one port of 127.0.0.1. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { PROGRAMS } from './packages.ts'
import { WAL, type Servers } from './servers.ts'

/** Where a service is reached: by those inside the cloud's networks, and by this machine. */
export interface Urls {
  readonly public: string
  readonly internal: string
}

export interface KeystoneOptions {
  /** The port that it listens on. */
  readonly port: number
  /** What its catalog says of itself, without version. */
  readonly urls: Urls
  /** The password of `admin`, in project `admin`. */
  readonly password: string
}

const configuration = (dir: string): string => `[DEFAULT]
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

/** Makes the database, the keys and the user `admin`. */
export async function prepareKeystone(servers: Servers, { urls, password }: KeystoneOptions): Promise<void> {
  for (const folder of ['fernet', 'credential']) mkdirSync(servers.file(folder), { mode: 0o700 })
  const conf = servers.file('keystone.conf')
  writeFileSync(conf, configuration(servers.directory), { mode: 0o600 })
  const manage = (...args: readonly string[]): Promise<void> =>
    servers.prepare(PROGRAMS.keystone, ['--config-file', conf, ...args])
  const { username } = userInfo()
  const owner = ['--keystone-user', username, '--keystone-group', username]
  const tables = async (): Promise<void> => {
    await manage('db_sync')
    await servers.python(WAL, servers.file('keystone.sqlite'))
  }
  await Promise.all([tables(), manage('fernet_setup', ...owner)])
  // Both make sure that the folder is there and theirs: one after the other.
  await manage('credential_setup', ...owner)
  const endpoints = Object.entries({ ...urls, admin: urls.internal })
  const flags = endpoints.flatMap(([one, url]) => [`--bootstrap-${one}-url`, `${url}/v3`])
  await manage('bootstrap', '--bootstrap-password', password, '--bootstrap-region-id', 'RegionOne', ...flags)
}

/** Starts what `prepareKeystone` made and waits until it answers. */
export async function startKeystone(servers: Servers, port: number): Promise<void> {
  const address = `127.0.0.1:${port}`
  const listening = ['--plugins', 'python3', '--http-socket', address, '--wsgi-file', '/usr/bin/keystone-wsgi-public']
  // Without no-orphans, workers would outlive a kill.
  const workers = ['--threads', '4', '--enable-threads', '--lazy-apps', '--need-app', '--no-orphans']
  // Without the header, clients that keep connections find them closed under their requests.
  const http = ['--buffer-size', '65535', '--add-header', 'Connection: close']
  servers.start('keystone', PROGRAMS['uwsgi-plugin-python3'], [...listening, ...workers, ...http], {
    OS_KEYSTONE_CONFIG_DIR: servers.directory,
    OS_KEYSTONE_CONFIG_FILES: 'keystone.conf',
  })
  await servers.until('keystone', `http://${address}/v3`)
}
