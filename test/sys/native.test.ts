/** The native edge against the real kernel: namespaces, locks, descriptors, the poll watcher. */

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { nativeSys } from '#sys/addon.ts'
import { AF, SO, SOCK, SOL } from '#sys/constants.ts'
import { bootId } from '#sys/bootid.ts'
import { lockFile, tryLockFile, withFileLock } from '#sys/flock.ts'
import {
  createNetns,
  createNetnsOnPool,
  CURRENT_NETNS,
  deleteNetns,
  inNetns,
  isNamespaceFile,
  netnsId,
  openNetns,
  warmThreadPool,
} from '#sys/netns.ts'
import { PollWatcher, READABLE, WRITABLE } from '#sys/poll.ts'
import { readSysctl, writeSysctl } from '#sys/sysctl.ts'

const root = { skip: process.getuid?.() === 0 ? false : 'needs root: makes network namespaces' }
const sys = nativeSys()

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'heddle-sys-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

function netns(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'heddle-sys-'))
  const path = join(dir, 'ns')
  // One hook: hooks run in the order of their registration, and a mounted file cannot be removed.
  t.after(() => {
    deleteNetns(path)
    rmSync(dir, { recursive: true })
  })
  createNetns(path)
  return path
}

test('calls give results or negative errnos, and refuse arguments of the wrong type', () => {
  assert.equal(sys.open('/no/such/file', 0, 0), -2)
  assert.equal(sys.close(-1), -9)
  const misuse =
    (name: 'open' | 'recv' | 'send', ...args: readonly unknown[]) =>
    () =>
      Reflect.apply(sys[name], sys, args)
  assert.throws(misuse('open', 1, 2, 3), TypeError)
  assert.throws(() => sys.open('a\0b', 0, 0), /NUL/)
  assert.throws(() => sys.open('x'.repeat(5000), 0, 0), /too long/)
  assert.throws(misuse('recv', 0, new Uint16Array(4), 0), TypeError)
  assert.throws(misuse('send'), TypeError)
  assert.equal(sys.gettid(), process.pid)
})

test('an excursion: inside another namespace, then back, sockets and settings and children stay there', root, (t) => {
  const path = netns(t)
  const home = netnsId(CURRENT_NETNS)
  const inside = inNetns(path, () => {
    writeSysctl('net/ipv4/conf/lo/forwarding', '1')
    return { id: netnsId(CURRENT_NETNS), child: execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }) }
  })
  assert.equal(inside.id, netnsId(path))
  assert.notEqual(inside.id, home)
  assert.equal(netnsId(CURRENT_NETNS), home)
  assert.match(inside.child, new RegExp(`\\[${statSync(path).ino}\\]`))
  assert.equal(
    inNetns(path, () => readSysctl('net.ipv4.conf.lo.forwarding')),
    '1',
  )
})

test('excursions nest, and an exception leads back', root, (t) => {
  const [a, b] = [netns(t), netns(t)]
  const home = netnsId(CURRENT_NETNS)
  const seen = inNetns(a, () => [inNetns(b, () => netnsId(CURRENT_NETNS)), netnsId(CURRENT_NETNS)])
  assert.deepEqual(seen, [netnsId(b), netnsId(a)])
  assert.throws(
    () =>
      inNetns(a, () =>
        inNetns(b, () => {
          throw new Error('inside')
        }),
      ),
    /inside/,
  )
  assert.equal(netnsId(CURRENT_NETNS), home)
})

test('an excursion refuses promises, missing namespaces, and files that are none', root, (t) => {
  const path = netns(t)
  const home = netnsId(CURRENT_NETNS)
  assert.throws(() => inNetns(path, async () => 1), { code: 'async-excursion' })
  assert.throws(() => inNetns(path, () => Promise.resolve(1)), { code: 'async-excursion' })
  assert.throws(() => inNetns('/run/netns/no-such-namespace', () => 1), { code: 'netns-missing' })
  assert.throws(() => inNetns('/etc/hostname', () => 1), {
    code: 'not-a-netns',
    message: /\/etc\/hostname is not a network namespace/,
  })
  assert.throws(() => inNetns('/proc/self/ns/mnt', () => 1), { code: 'not-a-netns' })
  assert.equal(netnsId(CURRENT_NETNS), home)
  assert.ok(isNamespaceFile(path) && !isNamespaceFile('/etc/hostname') && !isNamespaceFile('/no/such'))
})

test('threads of the pool stay at home, even when the pool starts inside an excursion', root, async (t) => {
  const path = netns(t)
  inNetns(path, () => void warmThreadPool())
  await Promise.all(Array.from({ length: 8 }, () => sys.rest(5)))
  const home = readlinkSync('/proc/self/ns/net')
  for (const tid of readdirSync('/proc/self/task'))
    assert.equal(readlinkSync(`/proc/self/task/${tid}/ns/net`), home, tid)
})

test('a namespace is made and removed without a process, also on the pool; failures leave nothing', root, async (t) => {
  const dir = folder(t)
  const path = join(dir, 'x')
  await createNetnsOnPool(path)
  assert.notEqual(netnsId(path), netnsId(CURRENT_NETNS))
  assert.throws(() => createNetns(path), { code: 'EEXIST' })
  const fd = openNetns(path)
  assert.equal(netnsId(fd), netnsId(path))
  sys.close(fd)
  assert.equal(deleteNetns(path), true)
  assert.equal(deleteNetns(path), false)
  writeFileSync(path, '')
  assert.equal(deleteNetns(path), true, 'what an interrupted creation left')
  assert.equal(existsSync(path), false)
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(dir))
})

test('ip netns knows what we make in /run/netns, and its mounts are seen as shared', root, (t) => {
  const name = `sys-test-${process.pid}`
  createNetns(`/run/netns/${name}`)
  t.after(() => deleteNetns(`/run/netns/${name}`))
  assert.match(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }), new RegExp(`^${name}`, 'm'))
})

test('a lock excludes inside the process, in order, and is free after release', async (t) => {
  const path = join(folder(t), 'lock')
  const order: number[] = []
  await Promise.all(
    [1, 2, 3].map((n) =>
      withFileLock(
        path,
        async () => {
          assert.equal(tryLockFile(path), undefined)
          await new Promise((resolve) => void setTimeout(resolve, 5))
          order.push(n)
        },
        { timeoutMs: 5000 },
      ),
    ),
  )
  assert.deepEqual(order, [1, 2, 3])
  const lock = tryLockFile(path)
  assert.ok(lock)
  lock[Symbol.dispose]()
  lock[Symbol.dispose]()
})

test('a lock that another program holds (flock(1), as Go holds it): waiting, timing out, getting it', async (t) => {
  const path = join(folder(t), 'lock')
  const other = spawn('flock', [path, 'sh', '-c', 'echo held; read line'], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => other.kill())
  await once(other.stdout, 'data')
  const started = performance.now()
  await assert.rejects(lockFile(path, { timeoutMs: 120 }), { code: 'timeout', message: /locked by another program/ })
  const took = performance.now() - started
  assert.ok(took >= 115 && took < 1500, `${took} ms`)
  const waiting = lockFile(path, { timeoutMs: 5000 })
  const queued = lockFile(path, { timeoutMs: 50 })
  await assert.rejects(queued, { code: 'timeout' })
  other.stdin.write('go\n')
  using lock = await waiting
  assert.equal(lock.path, path)
  assert.throws(() => execFileSync('flock', ['-n', path, 'true']), 'the other program sees our lock')
})

test('a lock is on the file that has the name now, and on directories too', async (t) => {
  const dir = folder(t)
  const path = join(dir, 'lock')
  const first = await lockFile(path, { timeoutMs: 1000 })
  const second = lockFile(path, { timeoutMs: 3000 })
  await new Promise((resolve) => void setTimeout(resolve, 30))
  unlinkSync(path)
  first[Symbol.dispose]()
  using lock = await second
  assert.ok(existsSync(path) && tryLockFile(path) === undefined)
  assert.ok(lock)
  using onDirectory = await lockFile(dir, { timeoutMs: 1000 })
  assert.equal(onDirectory.path, dir)
})

test('a watcher sees a descriptor become ready, stops, starts, and ends', async (t) => {
  const path = join(folder(t), 'fifo')
  execFileSync('mkfifo', [path])
  const fd = sys.open(path, 2, 0)
  const events: number[] = []
  const seen = Promise.withResolvers<void>()
  const watcher = new PollWatcher(fd, (status, ready) => {
    assert.equal(status, 0)
    events.push(ready)
    watcher.stop()
    seen.resolve()
  })
  watcher.start(READABLE)
  sys.write(fd, Uint8Array.of(1))
  await seen.promise
  await new Promise((resolve) => void setTimeout(resolve, 10))
  assert.deepEqual(events, [READABLE], 'stopped after the first')
  watcher.start(WRITABLE)
  await new Promise((resolve) => void setTimeout(resolve, 10))
  assert.deepEqual(events, [READABLE, WRITABLE])
  watcher[Symbol.dispose]()
  watcher[Symbol.dispose]()
  watcher.start()
  sys.close(fd)
  await new Promise((resolve) => void setTimeout(resolve, 10))
  assert.equal(events.length, 2)
  assert.throws(() => new PollWatcher(-1, () => undefined), { code: 'EBADF' })
})

test('descriptors travel over a unix socket, and the peer is known', (t) => {
  const path = join(folder(t), 'socket')
  const address = new Uint8Array(110)
  new DataView(address.buffer).setUint16(0, AF.UNIX, true)
  new TextEncoder().encodeInto(path, address.subarray(2))
  const name = address.subarray(0, 2 + path.length + 1)
  const server = sys.socket(AF.UNIX, SOCK.STREAM, 0)
  assert.equal(sys.bind(server, name), 0)
  assert.equal(sys.listen(server, 1), 0)
  const client = sys.socket(AF.UNIX, SOCK.STREAM, 0)
  assert.equal(sys.connect(client, name), 0)
  const peer = sys.accept(server, 0)
  const credentials = new Uint8Array(12)
  assert.equal(sys.getsockopt(peer, SOL.SOCKET, SO.PEERCRED, credentials), 12)
  assert.equal(new DataView(credentials.buffer).getInt32(0, true), process.pid)

  // struct cmsghdr { length 20, SOL_SOCKET, SCM_RIGHTS } and one descriptor, padded to 24 bytes.
  const control = new Uint8Array(24)
  const view = new DataView(control.buffer)
  const source = sys.open('/proc/self/status', 0, 0)
  view.setBigUint64(0, 20n, true)
  view.setInt32(8, SOL.SOCKET, true)
  view.setInt32(12, 1, true)
  view.setInt32(16, source, true)
  assert.equal(sys.sendmsg(client, Uint8Array.of(42), null, control, 0), 1)
  const received = new Uint8Array(24)
  const lengths = new Uint8Array(12)
  const payload = new Uint8Array(8)
  assert.equal(sys.recvmsg(peer, payload, null, received, 0, lengths), 1)
  assert.deepEqual([payload[0], new DataView(lengths.buffer).getInt32(4, true)], [42, 24])
  const copy = new DataView(received.buffer).getInt32(16, true)
  assert.ok(copy > 2 && copy !== source)
  assert.equal(readlinkSync(`/proc/self/fd/${copy}`), readlinkSync(`/proc/self/fd/${source}`))
  for (const fd of [copy, source, peer, client, server]) assert.equal(sys.close(fd), 0)
})

test('a process that gave up its capabilities can no longer change the network', root, (t) => {
  const path = netns(t)
  const program = `
    import { nativeSys } from '#sys/addon.ts'
    import { inNetns } from '#sys/netns.ts'
    const sys = nativeSys()
    const dropped = sys.capSet(0, 0)
    try { inNetns(${JSON.stringify(path)}, () => 1) } catch (error) { console.log(dropped, error.code) }`
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
    cwd: join(import.meta.dirname, '..', '..'),
  })
  assert.equal(output.trim(), '0 EPERM')
})

test('the boot id is a UUID', () => {
  assert.match(bootId(), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
})
