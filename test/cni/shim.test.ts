import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'

import { peerOf } from '#agent/cni/peer.ts'
import { decodeAnswer, decodeCall, encodeCall, frameLength } from '#agent/cni/protocol.ts'
import { startCniServer, type CniServer, type CniServerOptions } from '#agent/cni/server.ts'
import { fakeHost, scriptedPlugin, type Script, type ScriptedPlugin } from '#cni/fake-host.ts'
import { isObject, type JsonObject } from '#cni/json.ts'
import { netnsIdentity } from '#cni/netns.ts'
import { isShim } from '#cni/runtime/find.ts'
import { nativeSys } from '#sys/addon.ts'
// @ts-expect-error plain JavaScript without declarations
import { buildShim } from '../../native/shim/build.mjs'

let dir = ''
let shim = ''

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cni-shim-'))
  const built: unknown = buildShim()
  assert.ok(isObject(built) && typeof built['path'] === 'string')
  await mkdir(join(dir, 'bin', 'cni'), { recursive: true })
  shim = join(dir, 'bin', 'cni', 'noop')
  await copyFile(built['path'], shim)
  await chmod(shim, 0o755)
})

after(() => rm(dir, { recursive: true, force: true }))

interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(env: Readonly<Record<string, string>>, stdin: string, cwd = dir): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(shim, [], { env, cwd })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.stdin.on('error', () => {})
    child.once('error', reject)
    child.once('close', (code) => {
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() })
    })
    child.stdin.end(stdin)
  })
}

const documentOf = (ran: Ran): JsonObject => {
  const value: unknown = JSON.parse(ran.stdout)
  assert.ok(isObject(value))
  return value
}

const stringOf = (value: unknown): string => (typeof value === 'string' ? value : '')

const baseEnv = {
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/var/run/netns/none',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
}
const config = { cniVersion: '1.1.0', name: 'net', type: 'noop' }
const stdin = JSON.stringify(config)

let sockets = 0
const freshSocket = (): string => join(dir, `run${++sockets}`, 'cni.sock')

interface Agent extends AsyncDisposable {
  readonly plugin: ScriptedPlugin
  readonly server: CniServer
  readonly env: Readonly<Record<string, string>>
}

async function agent(script: Script = {}, options: Partial<CniServerOptions> = {}): Promise<Agent> {
  const plugin = scriptedPlugin(script)
  const socketPath = freshSocket()
  const server = await startCniServer({
    socketPath,
    registry: new Map([['noop', plugin]]),
    host: fakeHost(),
    peerOf: peerOf(nativeSys()),
    ...options,
  })
  return {
    plugin,
    server,
    env: { ...baseEnv, HEDDLE_SOCKET: socketPath },
    [Symbol.asyncDispose]: () => server.close(0),
  }
}

/** Listens like an agent and does to each connection what a test wants. */
async function badAgent(
  act: (socket: Socket) => void,
): Promise<AsyncDisposable & { readonly env: Readonly<Record<string, string>> }> {
  const path = join(dir, `bad${++sockets}.sock`)
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    open.add(socket)
    socket.on('error', () => {})
    act(socket)
  })
  await new Promise<void>((resolve) => void server.listen(path, () => resolve()))
  return {
    env: { ...baseEnv, HEDDLE_SOCKET: path },
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => void server.close(resolve))
    },
  }
}

describe('the shim with an agent', () => {
  test('prints the answer and exits with its code', async () => {
    await using it = await agent()
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD', CNI_ARGS: 'A=b' }, stdin)
    assert.deepEqual({ code: ran.code, stderr: ran.stderr }, { code: 0, stderr: '' })
    assert.deepEqual(documentOf(ran), { cniVersion: '1.1.0' })
    const { input } = it.plugin.calls[0]!
    assert.deepEqual(
      [input.containerId, input.ifname, input.netns, input.args.get('A')],
      ['c1', 'eth0', '/var/run/netns/none', 'b'],
    )
    assert.deepEqual(input.config.raw, config)
  })

  test('exits 1 with the error of the plugin', async () => {
    await using it = await agent({ fail: () => new Error('no') })
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    assert.equal(ran.code, 1)
    assert.equal(documentOf(ran)['msg'], 'no')
  })

  test('asks for VERSION without stdin', async () => {
    await using it = await agent({ versions: ['1.0.0'] })
    const ran = await run({ HEDDLE_SOCKET: it.server.socketPath, CNI_COMMAND: 'VERSION' }, '')
    assert.deepEqual(documentOf(ran), { cniVersion: '1.1.0', supportedVersions: ['1.0.0'] })
  })

  test('carries a large configuration', async () => {
    await using it = await agent()
    const ran = await run(
      { ...it.env, CNI_COMMAND: 'ADD' },
      JSON.stringify({ ...config, filler: 'é'.repeat(3_000_000) }),
    )
    assert.equal(ran.code, 0, ran.stdout)
    assert.equal(stringOf(it.plugin.calls[0]?.input.config.raw['filler']).length, 3_000_000)
  })

  test('relative paths and /proc/self mean the caller', async () => {
    await using it = await agent()
    await run({ ...it.env, CNI_COMMAND: 'ADD', CNI_NETNS: 'ns/x', CNI_PATH: 'plugins:/abs' }, stdin)
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD', CNI_NETNS: '/proc/self/ns/mnt' }, stdin)
    assert.equal(ran.code, 0, ran.stdout)
    assert.equal(it.plugin.calls[0]?.input.netns, join(dir, 'ns/x'))
    assert.deepEqual(it.plugin.calls[0]?.input.path, [join(dir, 'plugins'), '/abs'])
    assert.match(it.plugin.calls[1]?.input.netns ?? '', /^\/proc\/\d+\/ns\/mnt$/)
    assert.ok(!it.plugin.calls[1]?.input.netns.includes(`/${process.pid}/`))
  })

  test('calls of one attachment wait for each other, others do not', async () => {
    let open = (): void => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    await using it = await agent({
      pause: (verb, input) => (verb === 'ADD' && input.containerId === 'c1' ? gate : Promise.resolve()),
    })
    const add = run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    while (it.plugin.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const del = run({ ...it.env, CNI_COMMAND: 'DEL' }, stdin)
    const other = await run({ ...it.env, CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c2' }, stdin)
    assert.equal(other.code, 0)
    assert.deepEqual(
      it.plugin.calls.map((call) => `${call.verb} ${call.input.containerId}`),
      ['ADD c1', 'ADD c2'],
    )
    open()
    assert.deepEqual([(await add).code, (await del).code], [0, 0])
    assert.equal(it.plugin.calls.at(-1)?.verb, 'DEL')
  })

  test('a call that takes too long is answered with code 11', async () => {
    let open = (): void => {}
    await using it = await agent({ pause: () => new Promise((resolve) => (open = resolve)) }, { deadlineMs: 100 })
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    open()
    assert.equal(documentOf(ran)['code'], 11)
  })

  test('too many waiting calls are answered with code 11', async () => {
    let open = (): void => {}
    const gate = new Promise<void>((resolve) => (open = resolve))
    const pause = (verb: string): Promise<void> => (verb === 'ADD' ? gate : Promise.resolve())
    await using it = await agent({ pause }, { maxRunning: 1, maxWaiting: 1 })
    const first = run({ ...it.env, CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a' }, stdin)
    while (it.plugin.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const both = ['b', 'c'].map((id) => run({ ...it.env, CNI_COMMAND: 'ADD', CNI_CONTAINERID: id }, stdin))
    const refused = await Promise.race(both)
    assert.equal(documentOf(refused)['code'], 11)
    const status = await run({ ...it.env, CNI_COMMAND: 'STATUS' }, stdin)
    assert.equal(status.code, 0, 'STATUS does not wait')
    open()
    const codes = [await first, ...(await Promise.all(both))].map(({ code }) => code)
    assert.equal(codes.filter((code) => code === 1).length, 1)
  })

  test('a caller that sees another namespace at the path is left to the standalone program', async () => {
    await using it = await agent()
    const call = (target: string): Buffer =>
      encodeCall({
        env: { ...baseEnv, CNI_COMMAND: 'ADD', CNI_NETNS: dir, HEDDLE_TYPE: 'noop', HEDDLE_TARGET: target },
        stdin,
      })
    const exchange = (frame: Buffer): Promise<Buffer> =>
      new Promise((resolve) => {
        const chunks: Buffer[] = []
        const socket = connect(it.server.socketPath)
        socket.on('data', (chunk) => chunks.push(chunk))
        socket.once('close', () => resolve(Buffer.concat(chunks)))
        socket.write(frame)
      })
    assert.equal(decodeAnswer(await exchange(call('1:1'))), undefined)
    assert.deepEqual(it.plugin.calls, [])
    assert.equal(decodeAnswer(await exchange(call(netnsIdentity(dir) ?? '')))?.exitCode, 0)
  })

  test('the kernel names the caller', async () => {
    let seen: unknown
    const peer = peerOf(nativeSys())
    await using it = await agent({}, { peerOf: (fd) => (seen = peer(fd)) })
    await run({ ...it.env, CNI_COMMAND: 'STATUS' }, stdin)
    assert.ok(isObject(seen) && typeof seen['pid'] === 'number' && seen['pid'] !== process.pid)
    assert.equal(seen['uid'], process.getuid?.())
  })

  test('another user is refused, and nothing is done', async () => {
    await using it = await agent({}, { peerOf: () => ({ uid: 12345, pid: 1 }) })
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    assert.equal(documentOf(ran)['code'], 11)
    assert.deepEqual(it.plugin.calls, [])
  })

  test('the socket is its owner only, in a directory of its own', async () => {
    await using it = await agent()
    const socket = await stat(it.server.socketPath)
    const folder = await stat(join(it.server.socketPath, '..'))
    assert.deepEqual([socket.mode & 0o777, folder.mode & 0o777], [0o600, 0o700])
  })

  test('a second agent does not take the socket of a living one; a stale one is replaced', async () => {
    await using it = await agent()
    const again = startCniServer({ socketPath: it.server.socketPath, registry: new Map(), host: fakeHost() })
    await assert.rejects(again, /another agent answers/)
    const stale = join(dir, 'stale.sock')
    const child = spawn(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ])
    await new Promise((resolve) => child.once('close', resolve))
    assert.ok(existsSync(stale))
    const server = await startCniServer({ socketPath: stale, registry: new Map(), host: fakeHost() })
    await server.close(0)
    assert.ok(!existsSync(stale))
  })

  test('close lets a running call finish', async () => {
    let open = (): void => {}
    const it = await agent({ pause: () => new Promise((resolve) => (open = resolve)) })
    const add = run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    while (it.plugin.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const closed = it.server.close()
    setTimeout(() => open(), 50)
    assert.equal((await add).code, 0)
    await closed
    assert.ok(!existsSync(it.server.socketPath))
  })

  const answerTo = (socketPath: string, frame: Buffer, patience = 0): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      const socket = connect(socketPath)
      socket.on('error', reject)
      socket.write(frame, () => setTimeout(() => socket.on('data', (chunk) => chunks.push(chunk)), patience))
      socket.once('end', () => resolve(Buffer.concat(chunks)))
    })

  test('an answer that fits no buffer arrives whole at a slow reader', async () => {
    const versions = Array.from({ length: 200_000 }, () => '1.0.0')
    await using it = await agent({ versions })
    const frame = encodeCall({ env: { CNI_COMMAND: 'VERSION', HEDDLE_TYPE: 'noop' }, stdin: '' })
    const answers = await Promise.all([0, 50].map((ms) => answerTo(it.server.socketPath, frame, ms)))
    for (const answer of answers)
      assert.ok(
        decodeAnswer(answer)?.stdout.endsWith(
          `${versions
            .slice(1)
            .map((version) => `"${version}"`)
            .join(',')}]}\n`,
        ),
      )
  })

  test('a call in pieces is one call', async () => {
    await using it = await agent()
    const frame = encodeCall({ env: { ...baseEnv, CNI_COMMAND: 'STATUS', HEDDLE_TYPE: 'noop' }, stdin })
    const socket = connect(it.server.socketPath)
    const ended = new Promise<Buffer>((resolve) => socket.once('data', resolve))
    for (const piece of [frame.subarray(0, 2), frame.subarray(2, 9), frame.subarray(9)]) {
      socket.write(piece)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    assert.equal(decodeAnswer(await ended)?.exitCode, 0)
  })

  test('who sends too much hears so, though the rest is not read', async () => {
    await using it = await agent()
    const frame = Buffer.alloc(1024 * 1024)
    frame.writeUInt32BE(0xffff_fff0)
    const answer = decodeAnswer(await answerTo(it.server.socketPath, frame))
    assert.match(answer?.stdout ?? '', /are allowed/)
  })

  test('a connection that sends nothing, half a frame or nonsense harms nobody', async () => {
    await using it = await agent()
    for (const bytes of ['', '\0', '\0\0\0\x20\x01CNI_', '\xff\xff\xff\xff', '\0\0\0\x04\x01AAA']) {
      const socket = connect(it.server.socketPath)
      socket.on('error', () => {})
      socket.end(Buffer.from(bytes, 'latin1'))
      await new Promise((resolve) => {
        socket.resume()
        socket.once('close', resolve)
      })
    }
    assert.equal((await run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)).code, 0)
  })
})

/** A stand-in for the standalone program and its Node.js, beside the shim, that shows what it got. */
async function installStandalone(): Promise<void> {
  await mkdir(join(dir, 'bin', 'lib'), { recursive: true })
  await mkdir(join(dir, 'bin', 'bin'), { recursive: true })
  await writeFile(
    join(dir, 'bin', 'lib', 'cni.mjs'),
    `import { readFileSync } from 'node:fs'
     console.log(JSON.stringify({ standalone: process.argv.slice(2), verb: process.env.CNI_COMMAND, stdin: readFileSync(0, 'utf8'), options: process.env.NODE_OPTIONS ?? null }))`,
  )
}

describe('the shim without an agent', () => {
  before(installStandalone)
  const env = { ...baseEnv, HEDDLE_SOCKET: '/nonexistent/cni.sock', HEDDLE_NODE: process.execPath }

  test('runs the standalone program with the type, the environment and stdin', async () => {
    const ran = await run({ ...env, CNI_COMMAND: 'ADD', NODE_OPTIONS: '--inspect' }, stdin)
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(documentOf(ran), { standalone: ['noop'], verb: 'ADD', stdin, options: null })
  })

  test('answers VERSION by itself where nothing is installed', async () => {
    const ran = await run({ ...env, HEDDLE_NODE: '/nonexistent', CNI_COMMAND: 'VERSION' }, '')
    assert.deepEqual(documentOf(ran)['supportedVersions'], [
      '0.1.0',
      '0.2.0',
      '0.3.0',
      '0.3.1',
      '0.4.0',
      '1.0.0',
      '1.1.0',
    ])
  })

  test('prints what it is when it is run by hand', async () => {
    const ran = await run({}, '')
    assert.deepEqual([ran.code, ran.stdout], [0, ''])
    assert.match(ran.stderr, /^CNI plugin noop \(Heddle .*\)\nCNI protocol versions supported: 0\.1\.0, /)
  })

  test('answers code 11 with a remedy when there is no standalone program either', async () => {
    const ran = await run({ ...env, HEDDLE_NODE: '/nonexistent/node', CNI_COMMAND: 'ADD' }, stdin)
    assert.equal(ran.code, 1)
    assert.equal(documentOf(ran)['code'], 11)
    assert.match(stringOf(documentOf(ran)['details']), /start the agent/)
  })

  test('refuses a configuration of more than 10 MiB', async () => {
    const ran = await run({ ...env, CNI_COMMAND: 'ADD' }, ' '.repeat(11 * 1024 * 1024))
    assert.equal(documentOf(ran)['code'], 6)
  })

  test('is what an agent recognises in CNI_PATH', async () => {
    assert.ok(isShim(shim))
    assert.ok(!isShim(process.execPath))
    assert.ok((await readFile(shim)).length <= 36_864)
  })
})

describe('the shim when the agent fails in the middle', () => {
  before(installStandalone)

  for (const verb of ['DEL', 'CHECK', 'STATUS', 'GC']) {
    test(`${verb} runs again alone`, async () => {
      await using it = await badAgent((socket) => socket.once('data', () => socket.destroy()))
      const ran = await run({ ...it.env, HEDDLE_NODE: process.execPath, CNI_COMMAND: verb }, stdin)
      assert.equal(documentOf(ran)['verb'], verb)
    })
  }

  test('ADD is answered with code 11', async () => {
    await using it = await badAgent((socket) => socket.once('data', () => socket.destroy()))
    const ran = await run({ ...it.env, HEDDLE_NODE: process.execPath, CNI_COMMAND: 'ADD' }, stdin)
    assert.equal(documentOf(ran)['code'], 11)
    assert.match(stringOf(documentOf(ran)['msg']), /went away during ADD/)
  })

  test('half an answer is no answer', async () => {
    await using it = await badAgent((socket) =>
      socket.once('data', () => socket.end(Buffer.from([0, 0, 1, 0, 1, 0, 0]))),
    )
    const ran = await run({ ...it.env, CNI_COMMAND: 'ADD' }, stdin)
    assert.equal(documentOf(ran)['code'], 11)
  })

  test('a silent agent costs no more than the deadline', async () => {
    await using it = await badAgent(() => {})
    const started = performance.now()
    const ran = await run({ ...it.env, HEDDLE_CNI_TIMEOUT: '1', CNI_COMMAND: 'DEL' }, stdin)
    assert.equal(documentOf(ran)['code'], 11)
    assert.ok(performance.now() - started < 5000)
  })

  test('an agent in another network namespace leaves the call to the standalone program', async () => {
    let frame = Buffer.alloc(0)
    await using it = await badAgent((socket) => {
      socket.on('data', (chunk) => {
        frame = Buffer.concat([frame, chunk])
        if (frame.length === frameLength(frame)) socket.end(Buffer.from([0, 0, 0, 7, 1, 1, 0, 0, 0, 0, 0]))
      })
    })
    const ran = await run({ ...it.env, HEDDLE_NODE: process.execPath, CNI_COMMAND: 'ADD' }, stdin)
    assert.deepEqual(documentOf(ran)['standalone'], ['noop'])
    const sent = decodeCall(frame)
    assert.equal(sent.env['HEDDLE_TYPE'], 'noop')
    assert.match(sent.env['HEDDLE_NETNS'] ?? '', /^\d+:\d+$/)
    assert.equal(sent.stdin, stdin)
  })
})
