/** The agent's side, against a relay that only speaks. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { keyOf, type RelayEntry, type RelayPeerEntry } from '#state/entry.ts'
import { FakeKernel } from '#state/fake-kernel.ts'
import { NodeState } from '#state/node-state.ts'
import { systemClock } from '#sys/clock.ts'
import { line, LineReader, parseRequest, PROTOCOL, type Event, type Request } from './protocol.ts'
import { RelayKernel } from './relay-kernel.ts'
import { RelaySupervisor } from './supervisor.ts'

const relayEntry: RelayEntry = {
  kind: 'relay',
  dev: 'flannel0',
  address: ipText('192.0.2.1'),
  port: 8285,
  network: cidrText('10.244.0.0/16'),
  subnet: cidrText('10.244.0.0/24'),
  anySource: false,
}
const peerEntry = (i: number): RelayPeerEntry => ({
  kind: 'relaypeer',
  relay: 'flannel0',
  dst: cidrText(`10.244.${i}.0/24`),
  via: ipText(`192.0.2.${i + 1}`),
})
const { kind: _kind, dev, ...rest } = relayEntry
const conf = { device: dev, ...rest }

interface Hello {
  readonly version?: string
  readonly conf?: typeof conf | null
  readonly peers?: readonly (readonly [string, string])[]
}

/** Greets, writes down what it is asked, and answers. */
class FakeRelay {
  readonly asked: Request[] = []
  readonly server: Server
  fails: string | undefined
  #socket: Socket | undefined

  constructor(path: string, hello: Hello) {
    this.server = createServer((socket) => {
      this.#socket = socket
      const reader = new LineReader()
      socket.setEncoding('utf8').on('error', () => undefined)
      socket.on('data', (chunk: string) => {
        for (const text of reader.take(chunk)) this.#answer(socket, parseRequest(text))
      })
      const { version = 'v1', conf: given = null, peers = [] } = hello
      const greeting = { event: 'hello', protocol: PROTOCOL, version, pid: 1, conf: given, peers }
      socket.write(`${JSON.stringify(greeting)}\n`)
    }).listen(path)
  }

  tell(event: Event): void {
    this.#socket?.write(line(event))
  }

  hangUp(): void {
    this.#socket?.destroy()
  }

  #answer(socket: Socket, request: Request): void {
    this.asked.push(request)
    const error = this.fails === undefined ? null : { code: this.fails, message: 'no' }
    socket.write(line({ event: 'answer', id: request.id, error }))
    if (request.do === 'stop') socket.end()
  }
}

async function setUp(t: TestContext, hello?: Hello) {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-relay-'))
  const socket = join(folder, 'relay.sock')
  const fake = hello === undefined ? undefined : new FakeRelay(socket, hello)
  const notes: string[] = []
  const supervisor = await RelaySupervisor.open({
    socket,
    version: 'v1',
    program: { file: process.execPath, args: ['--eval', 'console.error("no luck today"); process.exit(3)', '--'] },
    clock: systemClock,
    onNote: (_level, message) => notes.push(message),
    onCounters: () => undefined,
    onStart: () => undefined,
  })
  t.after(() => {
    supervisor[Symbol.dispose]()
    fake?.hangUp()
    fake?.server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { supervisor, fake, notes }
}

const keys = (supervisor: RelaySupervisor): string[] => [...supervisor.entries()].map(keyOf)

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return
    await delay(10)
  }
  assert.fail(what)
}

test('a relay that runs is taken over with what it holds', async (t) => {
  const { supervisor, fake } = await setUp(t, { conf, peers: [['10.244.1.0/24', '192.0.2.2']] })
  assert.deepEqual(keys(supervisor), ['relay flannel0', 'relaypeer flannel0 10.244.1.0/24'])
  assert.deepEqual(supervisor.get(relayEntry), relayEntry)
  assert.deepEqual(fake?.asked, [], 'and told nothing')
})

test('a relay of another version is told to stop', async (t) => {
  const { supervisor, fake } = await setUp(t, { version: 'v0', conf })
  assert.deepEqual(
    fake?.asked.map((request) => request.do),
    ['stop'],
  )
  assert.deepEqual(keys(supervisor), [])
  assert.equal(supervisor.isConnected, false)
})

test('many peers are one request; what is removed is not sent again', async (t) => {
  const { supervisor, fake } = await setUp(t, { conf })
  const failures = await supervisor.apply([
    { do: 'add', entry: peerEntry(1) },
    { do: 'add', entry: peerEntry(2) },
    { do: 'remove', entry: peerEntry(3) },
  ])
  assert.deepEqual(failures, [])
  assert.deepEqual(fake?.asked, [
    {
      do: 'peers',
      id: 1,
      set: [
        ['10.244.1.0/24', '192.0.2.2'],
        ['10.244.2.0/24', '192.0.2.3'],
      ],
      remove: ['10.244.3.0/24'],
    },
  ])
  assert.deepEqual(supervisor.get(peerEntry(2)), peerEntry(2))
  await supervisor.apply([{ do: 'remove', entry: relayEntry }])
  assert.equal(fake?.asked.at(-1)?.do, 'stop')
  assert.deepEqual(keys(supervisor), [])
})

test('what the relay cannot do fails with its reason, and is not held', async (t) => {
  const { supervisor, fake } = await setUp(t, {})
  assert.ok(fake)
  fake.fails = 'EADDRINUSE'
  const failures = await supervisor.apply([{ do: 'add', entry: relayEntry }])
  assert.deepEqual(
    failures.map(({ error }) => Reflect.get(error, 'code')),
    ['EADDRINUSE'],
  )
  assert.equal(supervisor.get(relayEntry), undefined)
})

test('a lost tunnel is told as gone, its peers stay; a relay that goes takes all with it', async (t) => {
  const { supervisor, fake, notes } = await setUp(t, { conf, peers: [['10.244.1.0/24', '192.0.2.2']] })
  let stirred = 0
  supervisor.watch(() => stirred++)
  fake?.tell({ event: 'lost', why: 'reading flannel0: EBADFD' })
  await until('the loss is heard of', () => stirred === 1)
  assert.deepEqual(supervisor.drain(), [{ what: 'gone', key: 'relay flannel0' }])
  assert.deepEqual(keys(supervisor), ['relaypeer flannel0 10.244.1.0/24'])
  fake?.hangUp()
  await until('the end is heard of', () => stirred === 2)
  assert.deepEqual(supervisor.drain(), [{ what: 'gone', key: 'relaypeer flannel0 10.244.1.0/24' }])
  assert.deepEqual(supervisor.drain(), [])
  assert.deepEqual(notes, ['the relay carries nothing any more', 'the relay is gone'])
})

test('a relay that cannot be started says why', async (t) => {
  const { supervisor } = await setUp(t)
  const [failure] = await supervisor.apply([{ do: 'add', entry: relayEntry }])
  assert.equal(Reflect.get(failure?.error ?? {}, 'code'), 'relay-not-started')
  assert.match(failure?.error.message ?? '', /code 3 no luck today/)
  const [peer] = await supervisor.apply([{ do: 'add', entry: peerEntry(1) }])
  assert.equal(Reflect.get(peer?.error ?? {}, 'code'), 'relay-absent')
  assert.deepEqual(await supervisor.apply([{ do: 'remove', entry: peerEntry(1) }]), [])
})

test('beside the kernel: one state, each operation where it belongs', async (t) => {
  const { supervisor, fake } = await setUp(t, { conf })
  const inner = new FakeKernel([], ['eth0'])
  const kernel = new RelayKernel(inner, supervisor)
  const sysctl = { kind: 'sysctl', key: 'net/ipv4/ip_forward', value: '1' } as const
  const failures = await kernel.apply([
    { do: 'add', entry: peerEntry(1) },
    { do: 'add', entry: sysctl },
  ])
  assert.deepEqual(failures, [])
  assert.equal(fake?.asked.length, 1)
  assert.deepEqual([...kernel.observe(new NodeState()).keys()].toSorted(), [
    'relay flannel0',
    'relaypeer flannel0 10.244.1.0/24',
    'sysctl net/ipv4/ip_forward',
  ])
  assert.deepEqual(kernel.look(relayEntry), relayEntry)
  assert.deepEqual(kernel.look(peerEntry(2)), undefined)
  inner.lose()
  assert.equal(kernel.drain(), 'overrun')
})
