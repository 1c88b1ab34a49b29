/** A real Keystone and Neutron from Debian's packages: SQLite, no broker, no agents, in a folder of their own, on free ports. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { populate } from '#lab/cloud/catalog.ts'
import { prepareKeystone, startKeystone } from '#lab/cloud/keystone.ts'
import { prepareNeutron, startNeutron } from '#lab/cloud/neutron.ts'
import { installCommand, missingPackages } from '#lab/cloud/packages.ts'
import { freePort, Servers } from '#lab/cloud/servers.ts'
import { slowness } from '../slow.ts'
import { clientOf, userOf, type Target } from './target.ts'

const START_MS = 180_000 * slowness

/** Why there is no real cloud, or false. */
export function needsCloud(): string | false {
  if ((process.env['HEDDLE_TEST_OS_AUTH_URL'] ?? '') !== '') return false
  const missing = missingPackages()
  return missing.length === 0 ? false : `no real Neutron: ${installCommand(missing)}`
}

const usersOf = (url: string): Pick<Target, 'admin' | 'member'> => ({
  admin: userOf(url, 'admin', 'secret', 'admin'),
  member: userOf(url, 'demo', 'dpass', 'demo'),
})

async function start(servers: Servers): Promise<Pick<Target, 'admin' | 'member'>> {
  const [keystonePort, port] = [await freePort(), await freePort()]
  const [keystone, network] = [`http://127.0.0.1:${keystonePort}`, `http://127.0.0.1:${port}`]
  const identity = { port: keystonePort, urls: { public: keystone, internal: keystone }, password: 'secret' }
  const options = { port, keystone, password: 'npass' }
  await Promise.all([prepareKeystone(servers, identity), prepareNeutron(servers, options)])
  await startKeystone(servers, keystonePort)
  const users = usersOf(keystone)
  using client = clientOf(users.admin, { attemptMs: 60_000, timeoutMs: 120_000 })
  await populate(
    client,
    [{ type: 'network', name: 'neutron', urls: { public: network, internal: network } }],
    [
      { user: 'neutron', password: 'npass', project: 'service', role: 'admin' },
      { user: 'demo', password: 'dpass', project: 'demo', role: 'member' },
    ],
  )
  await startNeutron(servers, options)
  return users
}

/** The one that `HEDDLE_TEST_OS_AUTH_URL` names (users admin/secret and demo/dpass), or one that is started and gone afterwards. */
export async function realTarget(): Promise<Target> {
  const given = process.env['HEDDLE_TEST_OS_AUTH_URL'] ?? ''
  if (given !== '') return { name: given, ...usersOf(given), [Symbol.asyncDispose]: () => Promise.resolve() }
  const directory = mkdtempSync(join(tmpdir(), 'heddle-cloud-'))
  const servers = new Servers(directory, { patienceMs: START_MS })
  const end = async (): Promise<void> => {
    await servers[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    return { name: 'real', ...(await start(servers)), [Symbol.asyncDispose]: end }
  } catch (error) {
    await end()
    throw error
  }
}
