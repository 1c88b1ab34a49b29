import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'

import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { execIn, type NetworkHost } from '../plugins/network-host.ts'
import { conf, dhcpHost } from './pods.ts'
import { dhcpd, until } from './servers.ts'

const root = join(import.meta.dirname, '../..')
const plugins = join(root, 'dist/cni')
const skip = existsSync(join(plugins, 'dhcp'))
  ? needsProgram('dhcpd', 'isc-dhcp-server')
  : 'needs a build: npm run build'

const SHORT = `
  authoritative;
  ping-check false;
  default-lease-time ${6 * slowness};
  min-lease-time ${6 * slowness};
  max-lease-time ${6 * slowness};
  subnet 10.99.0.0 netmask 255.255.255.0 { range 10.99.0.100 10.99.0.120; option routers 10.99.0.1; }
`

/** The agent in the namespace of `host`, with all its paths below the host's root. */
async function startAgent(host: NetworkHost): Promise<ChildProcess> {
  const socket = join(host.root, 'cni.sock')
  const dhcp = join(host.root, 'run/cni/dhcp.sock')
  for (const path of [socket, dhcp]) rmSync(path, { force: true })
  const flags = ['--cni-only', '--until-stdin-closes', '--root', host.root, '--socket', socket]
  const agent = spawn(
    'nsenter',
    [
      `--net=${host.path}`,
      join(root, 'bin/heddle'),
      'agent',
      ...flags,
      '--health-listen',
      join(host.root, 'health.sock'),
    ],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  )
  let log = ''
  agent.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()))
  await until('the agent listens', () => {
    if (agent.exitCode !== null) throw new Error(log)
    return existsSync(socket) && existsSync(dhcp)
  })
  return agent
}

function cni(host: NetworkHost, verb: string, netns: string, prevResult?: unknown): Record<string, unknown> {
  const config = { cniVersion: '1.1.0', ...conf(), ...(prevResult === undefined ? {} : { prevResult }) }
  const { status, stdout, stderr } = spawnSync('nsenter', [`--net=${host.path}`, join(plugins, 'bridge')], {
    env: {
      PATH: process.env['PATH'],
      CNI_COMMAND: verb,
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: plugins,
      HEDDLE_SOCKET: join(host.root, 'cni.sock'),
      HEDDLE_ROOT: host.root,
    },
    input: JSON.stringify(config),
    encoding: 'utf8',
    timeout: 90_000,
  })
  assert.equal(status, 0, `${verb}: ${stdout} ${stderr}`)
  return stdout === '' ? {} : JSON.parse(stdout)
}

const get = (host: NetworkHost, path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath: join(host.root, 'health.sock'), path }, (answer) => {
      let text = ''
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
      answer.on('end', () => resolve(text))
    })
      .on('error', reject)
      .end()
  })

const kill = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await ended
}

test(
  'the agent keeps the leases: through the shim, over a kill and a restart, and DEL without any agent',
  { skip },
  async () => {
    using host = dhcpHost()
    await using server = await dhcpd(host.path, SHORT)
    const requests = (): number => (server.log().match(/DHCPREQUEST/g) ?? []).length
    let agent = await startAgent(host)
    try {
      const netns = host.pod()
      const result = cni(host, 'ADD', netns)
      assert.match(JSON.stringify(result['ips']), /10\.99\.0\.1\d\d\/24/)
      await until('it renews', () => requests() >= 2, 15_000)
      assert.match(await get(host, '/metrics'), /heddle_dhcp_leases\{family="ipv4"\} 1/)
      assert.match(await get(host, '/readyz'), /"name": "dhcp",\s+"weight": "degraded",\s+"ok": true/)
      await kill(agent, 'SIGKILL')
      agent = await startAgent(host)
      const seen = requests()
      await until('the next one renews', () => requests() >= seen + 1, 15_000)
      cni(host, 'CHECK', netns, result)
      await kill(agent, 'SIGTERM')
      assert.match(execIn(netns, 'ip', 'address'), /10\.99\.0\.1\d\d/, 'an agent that ends leaves pods their addresses')
      cni(host, 'DEL', netns, result)
      await until('the server has the release', () => /DHCPRELEASE of .*\(found\)/.test(server.log()))
    } finally {
      agent.kill('SIGKILL')
    }
  },
)
