/** Their runtime with our plugins, our runtime with theirs, and both on one cache. */

import assert from 'node:assert/strict'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { accessSync, existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, beforeEach, afterEach, describe, test } from 'node:test'
import { promisify } from 'node:util'

import { containerIdOf } from '../../src/cli/cni.ts'
import { isObject, type JsonObject } from '#cni/json.ts'
import { registry } from '#plugins/registry.ts'

const exec = promisify(execFile)
const root = join(import.meta.dirname, '..', '..')
const reference = '/usr/lib/cni'
const ours = join(root, 'dist', 'cni')
const heddle = join(root, 'bin', 'heddle')

const has = (file: string): boolean => {
  try {
    accessSync(file)
    return true
  } catch {
    return false
  }
}

const inPath = (name: string): string | undefined =>
  [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/go/bin'].map((folder) => join(folder, name)).find(has)

const noReference = has(join(reference, 'bridge'))
  ? false
  : `no reference plugins in ${reference}: apt-get install containernetworking-plugins`
const noRoot = process.getuid?.() === 0 ? false : 'needs root for network namespaces'
const noBridge = registry.has('bridge') ? false : 'Heddle has no bridge plugin yet'

/** Go's cnitool: from PATH, from an earlier run, or installed now. */
async function findCnitool(): Promise<string | undefined> {
  const folder = join(root, 'build', 'cnitool')
  const found = inPath('cnitool') ?? [join(folder, 'cnitool')].find(has)
  const go = inPath('go')
  if (found !== undefined || go === undefined) return found
  await exec(go, ['install', 'github.com/containernetworking/cni/cnitool@v1.3.1'], {
    env: { ...process.env, GOBIN: folder },
    timeout: 120_000,
  }).catch(() => undefined)
  return [join(folder, 'cnitool')].find(has)
}

const cnitool = noRoot === false ? await findCnitool() : undefined
const noCnitool = cnitool === undefined ? 'cnitool is neither in PATH nor can Go install it' : false

let number = 0
let dir = ''
let host = ''
let pod = ''
const network = `cni-interop-${process.pid}`

const netnsPath = (name: string): string => `/var/run/netns/${name}`

beforeEach(async () => {
  if (noRoot !== false) return
  number++
  dir = await mkdtemp(join(tmpdir(), 'cni-interop-'))
  host = `cni-host-${process.pid}-${number}`
  pod = `cni-pod-${process.pid}-${number}`
  for (const name of [host, pod]) await exec('ip', ['netns', 'add', name])
  await exec('ip', ['-n', host, 'link', 'set', 'lo', 'up'])
})

afterEach(async () => {
  if (noRoot !== false) return
  for (const name of [pod, host]) await exec('ip', ['netns', 'del', name]).catch(() => undefined)
  for (const name of await readdir('/var/lib/cni/results').catch(() => [])) {
    if (name.startsWith(`${network}-`)) await rm(join('/var/lib/cni/results', name), { force: true })
  }
  await rm(dir, { recursive: true, force: true })
})

before(async () => {
  if (noRoot === false) await exec(process.execPath, [join(root, 'tools', 'build.mjs')])
})

interface Tool {
  readonly argv: readonly string[]
  readonly path: string
  readonly options?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a verb in the "host" namespace; gives stdout. */
async function cni(tool: Tool, verb: string, ifname = 'eth0'): Promise<string> {
  const [command = '', ...first] = tool.argv
  const env = {
    PATH: process.env['PATH'],
    NETCONFPATH: join(dir, 'net.d'),
    CNI_PATH: tool.path,
    CNI_IFNAME: ifname,
    HEDDLE_SOCKET: join(dir, 'cni.sock'),
    ...tool.env,
  }
  const argv = [`--net=${netnsPath(host)}`, command, ...first, verb, network, netnsPath(pod), ...(tool.options ?? [])]
  return (await exec('nsenter', argv, { env, timeout: 30_000 })).stdout
}

const theirTool = (path: string, env: Readonly<Record<string, string>> = {}): Tool => ({
  argv: [cnitool ?? ''],
  path,
  env,
})
const ourTool = (path: string, ...options: string[]): Tool => ({
  argv: [heddle, 'cni'],
  path,
  options,
})

async function writeList(cniVersion: string): Promise<void> {
  const list = {
    cniVersion,
    name: network,
    plugins: [
      {
        type: 'bridge',
        bridge: 'br0',
        isGateway: true,
        ipam: {
          type: 'host-local',
          subnet: '10.98.0.0/24',
          dataDir: join(dir, 'ipam'),
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    ],
  }
  await mkdir(join(dir, 'net.d'), { recursive: true })
  await writeFile(join(dir, 'net.d', '10.conflist'), JSON.stringify(list))
}

async function addresses(ifname: string): Promise<readonly string[]> {
  const { stdout } = await exec('ip', ['-j', '-4', '-n', pod, 'addr', 'show', 'dev', ifname]).catch(() => ({
    stdout: '[]',
  }))
  const links: unknown = JSON.parse(stdout)
  assert.ok(Array.isArray(links))
  return links
    .flatMap((link: unknown) => (isObject(link) && Array.isArray(link['addr_info']) ? link['addr_info'] : []))
    .map((info: unknown) => (isObject(info) && typeof info['local'] === 'string' ? info['local'] : ''))
}

const leases = async (): Promise<readonly string[]> =>
  (await readdir(join(dir, 'ipam', network)).catch(() => [])).filter((name) => name.startsWith('10.'))

const cacheFile = (ifname = 'eth0'): string =>
  join('/var/lib/cni/results', `${network}-${containerIdOf(netnsPath(pod))}-${ifname}`)

function documentOf(text: string): JsonObject {
  const value: unknown = JSON.parse(text)
  assert.ok(isObject(value))
  return value
}

/** ADD, CHECK and DEL, each by the tool given for it. */
async function life(add: Tool, check: Tool, del: Tool): Promise<void> {
  const result = documentOf(await cni(add, 'add'))
  assert.deepEqual((Array.isArray(result['interfaces']) ? result['interfaces'] : []).length, 3)
  assert.deepEqual(await addresses('eth0'), ['10.98.0.2'])
  assert.deepEqual(await leases(), ['10.98.0.2'])
  assert.ok(existsSync(cacheFile()))
  assert.equal(await cni(check, 'check'), '')
  assert.equal(await cni(del, 'del'), '')
  assert.deepEqual(await addresses('eth0'), [])
  assert.deepEqual(await leases(), [])
  assert.ok(!existsSync(cacheFile()))
  assert.equal(await cni(del, 'del'), '', 'DEL again')
}

describe('our runtime with the reference plugins', { skip: noRoot || noReference }, () => {
  for (const version of ['0.3.1', '0.4.0', '1.0.0']) {
    test(`bridge and host-local in ${version}`, async () => {
      await writeList(version)
      const tool = ourTool(reference)
      if (version === '0.3.1') {
        assert.equal(documentOf(await cni(tool, 'add'))['cniVersion'], version)
        await cni(tool, 'del')
        assert.deepEqual(await leases(), [])
      } else await life(tool, tool, tool)
    })
  }

  test('an error of theirs arrives with its words', async () => {
    await writeList('1.0.0')
    await cni(ourTool(reference), 'add')
    await assert.rejects(cni(ourTool(reference), 'add'), {
      code: 1,
      stdout: '',
      stderr: /plugin type="bridge" failed \(add\)/,
    })
    await cni(ourTool(reference), 'del')
  })

  test('their VERSION', async () => {
    await writeList('1.0.0')
    const { bridge } = documentOf(await cni(ourTool(reference), 'version'))
    assert.ok(Array.isArray(bridge) && bridge.includes('1.0.0'))
  })

  test('one cache: what one tool added, the other checks and deletes', { skip: noCnitool }, async () => {
    await writeList('1.0.0')
    await life(ourTool(reference), theirTool(reference), theirTool(reference))
    await life2(theirTool(reference), ourTool(reference))
  })

  /** The second life of one namespace gets the next address. */
  async function life2(add: Tool, del: Tool): Promise<void> {
    await cni(add, 'add')
    assert.deepEqual(await addresses('eth0'), ['10.98.0.3'])
    await cni(del, 'check')
    await cni(del, 'gc')
    assert.deepEqual([await addresses('eth0'), await leases()], [[], []])
    assert.ok(!existsSync(cacheFile()))
  }
})

describe("Go's cnitool with our plugins", { skip: noRoot || noBridge || noCnitool }, () => {
  let agent: ChildProcess | undefined

  after(() => agent?.kill('SIGKILL'))

  async function startAgent(): Promise<void> {
    const main = join(import.meta.dirname, 'agent-main.ts')
    const argv = [
      `--net=${netnsPath(host)}`,
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      main,
      join(dir, 'cni.sock'),
    ]
    const child = spawn('nsenter', argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    agent = child
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve())
      child.once('exit', (code) => reject(new Error(`the agent ended with ${code}`)))
    })
  }

  async function stopAgent(): Promise<void> {
    const child = agent
    if (child === undefined) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
    agent = undefined
  }

  for (const version of ['0.4.0', '1.0.0', '1.1.0']) {
    test(`without an agent, in ${version}`, async () => {
      await writeList(version)
      await life(theirTool(ours), theirTool(ours), theirTool(ours))
    })

    test(`through the agent, in ${version}`, async () => {
      await writeList(version)
      await startAgent()
      try {
        // With no Node.js to fall back to, only the agent can have answered.
        const tool = theirTool(ours, { HEDDLE_NODE: '/nonexistent' })
        await life(tool, tool, tool)
      } finally {
        await stopAgent()
      }
    })
  }

  const mixes: readonly [what: string, theirs: string, ours: string][] = [
    ['our bridge with their host-local', 'host-local', 'bridge'],
    ['their bridge with our host-local', 'bridge', 'host-local'],
  ]
  for (const [what, foreign, own] of mixes) {
    for (const hasAgent of [false, true]) {
      test(`${what}, ${hasAgent ? 'through the agent' : 'without an agent'}`, { skip: noReference }, async () => {
        await writeList('1.0.0')
        const mixed = join(dir, 'mixed')
        await mkdir(mixed)
        await symlink(join(reference, foreign), join(mixed, foreign))
        await symlink(join(ours, own), join(mixed, own))
        if (hasAgent) await startAgent()
        try {
          const tool = theirTool(mixed, hasAgent ? { HEDDLE_NODE: '/nonexistent' } : {})
          await life(tool, tool, tool)
        } finally {
          await stopAgent()
        }
      })
    }
  }

  test('STATUS and GC', async () => {
    await writeList('1.1.0')
    const tool = theirTool(ours)
    assert.equal(await cni(tool, 'status'), '')
    await cni(tool, 'add')
    await rm(cacheFile())
    assert.deepEqual(await leases(), ['10.98.0.2'])
    assert.equal(await cni(tool, 'gc'), '')
    assert.deepEqual(await leases(), [], 'GC found it without the cache')
  })

  test('our runtime: in this process, and by executing the shims', async () => {
    await writeList('1.1.0')
    await life(ourTool(ours), ourTool(ours), ourTool(ours))
    await rm(join(dir, 'ipam'), { recursive: true })
    await life(ourTool(ours, '--exec'), ourTool(ours), ourTool(ours, '--exec'))
  })
})
