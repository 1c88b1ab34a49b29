/** The client against a real etcd: users, certificates, fail-over, time. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { EtcdClient } from '#etcd/client.ts'
import { EtcdError } from '#etcd/errors.ts'
import { PrefixWatch, type PrefixNews } from '#etcd/prefix-watch.ts'
import { systemClock } from '#sys/clock.ts'
import { Secret } from '#sys/secret.ts'
import { until } from '../agent/cluster.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { EtcdServer, freePorts, needsEtcdctl } from './server.ts'

const skip = needsEtcdctl
const folder = (): string => mkdtempSync(join(tmpdir(), 'hdlj-client-'))
const open = async (more: Partial<ConstructorParameters<typeof EtcdServer>[0]> = {}): Promise<EtcdServer> =>
  EtcdServer.start({ folder: folder(), ports: await freePorts(), ...more })

const fails = (code: EtcdError['code']) => (error: unknown) => error instanceof EtcdError && error.code === code

/** A watch and what it has told. */
function watched(client: EtcdClient, prefix: string): { readonly watch: PrefixWatch; readonly news: PrefixNews[] } {
  const news: PrefixNews[] = []
  const watch = new PrefixWatch({
    client,
    prefix,
    clock: systemClock,
    on: (one) => news.push(one),
    onFailure: () => undefined,
  })
  return { watch, news }
}

const told = (news: readonly PrefixNews[]): string[] =>
  news.map((one) =>
    one.type === 'list' ? `list ${one.kvs.length}` : one.type === 'put' ? `put ${one.kv.key}` : `delete ${one.key}`,
  )

test('keys, transactions, leases', { skip }, async () => {
  await using etcd = await open()
  using client = new EtcdClient({ endpoints: [etcd.url] })
  const { id, ttl } = await client.grant(60)
  assert.equal(ttl, 60)
  await client.put('/k/leased', 'x', id)
  assert.equal((await client.putIf({ key: '/k/a', absent: true }, '1', 0n)).succeeded, true)
  assert.equal((await client.putIf({ key: '/k/a', absent: true }, '2', 0n)).succeeded, false)
  const { kv } = await client.get('/k/a')
  assert.equal(kv?.value.toString(), '1')
  assert.equal((await client.deleteIf({ key: '/k/a', modRevision: kv.modRevision + 1 })).succeeded, false)
  assert.equal((await client.deleteIf({ key: '/k/a', modRevision: kv.modRevision })).succeeded, true)
  assert.deepEqual((await client.get('/k/a')).kv, undefined)
  assert.equal(await client.keepAlive(id), 60)
  assert.equal((await client.timeToLive(id))?.granted, 60)
  await client.revoke(id)
  assert.deepEqual((await client.list('/k/')).kvs, [])
  await assert.rejects(client.keepAlive(id), fails('not-found'))
  assert.equal(await client.timeToLive(id), undefined)
})

test('many keys come in pages of one revision, large values in smaller ones', { skip }, async () => {
  await using etcd = await open()
  using client = new EtcdClient({ endpoints: [etcd.url] })
  for (let i = 0; i < 600; i += 100)
    await Promise.all(Array.from({ length: 100 }, (_, j) => client.put(`/many/${i + j}`, 'x', 0n)))
  const { kvs } = await client.list('/many/')
  assert.equal(new Set(kvs.map(({ key }) => key)).size, 600)
  for (let i = 0; i < 7; i++) await client.put(`/large/${i}`, 'x'.repeat(1_400_000), 0n)
  assert.deepEqual(
    (await client.list('/large/')).kvs.map(({ value }) => value.length),
    Array(7).fill(1_400_000),
  )
})

test(
  'a watch tells what changed, also what changed while the server was away, and lists anew after compaction',
  { skip },
  async () => {
    await using etcd = await open()
    using client = new EtcdClient({ endpoints: [etcd.url] })
    await client.put('/w/a', '1', 0n)
    const { watch, news } = watched(client, '/w/')
    await using _watch = watch
    await until('listed', () => news.length === 1)
    await until('watching', () => watch.trouble === undefined)
    await client.put('/w/b', '1', 0n)
    await client.put('/elsewhere', '1', 0n)
    etcd.ctl('del', '/w/a')
    await until('heard', () => news.length === 3)
    await etcd.stop()
    await until('noticed', () => watch.trouble !== undefined)
    await etcd.start()
    etcd.ctl('put', '/w/c', '1')
    await until('heard again', () => news.length === 4, 15_000)
    assert.deepEqual(told(news), ['list 1', 'put /w/b', 'delete /w/a', 'put /w/c'])
    await etcd.stop()
    await etcd.start()
    etcd.ctl('del', '/w/b')
    const [, revision = ''] = /"revision":(\d+)/.exec(etcd.ctl('endpoint', 'status', '-w', 'json')) ?? []
    etcd.ctl('put', '/w/d', '1')
    etcd.ctl('compact', String(Number(revision) + 1))
    await until(
      'followed',
      () => told(news).at(-1) === 'list 2' || told(news).at(-1) === 'put /w/d' || told(news),
      15_000,
    )
  },
)

test('a copy of before is noticed, and no other break is taken for one', { skip }, async () => {
  await using etcd = await open()
  using client = new EtcdClient({ endpoints: [etcd.url] })
  await client.put('/w/a', '1', 0n)
  const file = etcd.snapshot()
  const { watch, news } = watched(client, '/w/')
  await using _watch = watch
  await client.put('/w/b', '1', 0n)
  await until('listened to', () => watch.mark !== undefined && watch.trouble === undefined)
  await etcd.restore(file)
  await until('listed anew', () => news.some((one) => one.type === 'list' && one.isOlder), 15_000)
  assert.equal(news.filter(({ type }) => type === 'list').length, 2)
})

test('an endpoint that is not there, and one that answers no more, are passed by', { skip }, async () => {
  await using first = await open()
  await using second = await open()
  using client = new EtcdClient({ endpoints: ['http://127.0.0.1:1', first.url, second.url], timeout: 700 * slowness })
  await client.put('/a', '1', 0n)
  assert.equal(first.keys('/a').size, 1)
  first.signal('SIGSTOP')
  const started = performance.now()
  assert.equal((await client.get('/a')).kv, undefined, 'the second one answers')
  assert.ok(performance.now() - started < 3_000 * slowness)
  second.signal('SIGSTOP')
  await assert.rejects(
    client.get('/a'),
    (error) => error instanceof EtcdError && /timeout|unavailable/.test(error.code),
  )
})

test('users: a wrong password, no right, a token that is no longer good', { skip }, async () => {
  await using etcd = await open()
  etcd.ctl('user', 'add', 'root:rootpw')
  etcd.ctl('user', 'grant-role', 'root', 'root')
  etcd.ctl('role', 'add', 'net')
  etcd.ctl('role', 'grant-permission', 'net', '--prefix=true', 'readwrite', '/net/')
  etcd.ctl('user', 'add', 'heddle:pw')
  etcd.ctl('user', 'grant-role', 'heddle', 'net')
  etcd.ctl('auth', 'enable')
  const user = (password: string) => ({ name: 'heddle', password: new Secret(Buffer.from(password)) })
  using nobody = new EtcdClient({ endpoints: [etcd.url] })
  await assert.rejects(nobody.get('/net/a'), fails('unauthenticated'))
  using wrong = new EtcdClient({ endpoints: [etcd.url], user: user('no') })
  await assert.rejects(wrong.get('/net/a'), fails('unauthenticated'))
  using client = new EtcdClient({ endpoints: [etcd.url], user: user('pw') })
  const { watch, news } = watched(client, '/net/')
  await using _watch = watch
  await client.put('/net/a', '1', 0n)
  await assert.rejects(client.put('/other', '1', 0n), fails('forbidden'))
  await until(
    'heard',
    () => news.some(({ type }) => type === 'put') || news.some((one) => one.type === 'list' && one.kvs.length === 1),
  )
  using alone = new EtcdClient({ endpoints: [etcd.url], user: user('pw') })
  await alone.get('/net/a')
  // This ends every token.
  etcd.ctl('--user=root:rootpw', 'auth', 'disable')
  etcd.ctl('auth', 'enable')
  await alone.get('/net/a')
  await etcd.stop()
  await etcd.start()
  await client.put('/net/b', '1', 0n)
  await until('the watch too', () => told(news).includes('put /net/b'), 15_000)
})

test('certificates of both sides', { skip: skip === false ? needsProgram('openssl', 'openssl') : skip }, async () => {
  const at = folder()
  const file = (name: string): string => join(at, name)
  const ssl = (...args: readonly string[]): unknown => execFileSync('openssl', args, { stdio: 'pipe', cwd: at })
  const pair = (name: string): void => {
    ssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
    ssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '1',
      '-out',
      `${name}.crt`,
      '-extfile',
      'names',
    )
  }
  ssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-subj',
    '/CN=ca',
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '1',
  )
  writeFileSync(file('names'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
  for (const name of ['server', 'client']) pair(name)
  const files = { ca: file('ca.crt'), cert: file('client.crt'), key: file('client.key') }
  await using etcd = await open({
    tls: { ca: file('ca.crt'), cert: file('server.crt'), key: file('server.key'), clients: true },
  }).catch((error: unknown) => {
    throw error
  })
  using client = new EtcdClient({ endpoints: [etcd.url], tls: files })
  await client.put('/a', '1', 0n)
  assert.equal((await client.get('/a')).kv?.value.toString(), '1')
  using without = new EtcdClient({ endpoints: [etcd.url], tls: { ca: files.ca } })
  await assert.rejects(without.get('/a'), (error) => error instanceof EtcdError && /tls|unavailable/.test(error.code))
  using untrusting = new EtcdClient({ endpoints: [etcd.url], tls: { cert: files.cert, key: files.key } })
  await assert.rejects(untrusting.get('/a'), fails('tls'))
  using plain = new EtcdClient({ endpoints: [etcd.url.replace('https', 'http')] })
  await assert.rejects(plain.get('/a'), EtcdError)
  using missing = new EtcdClient({ endpoints: [etcd.url], tls: { ca: '/nowhere' } })
  await assert.rejects(missing.get('/a'), fails('config'))
  rmSync(at, { recursive: true, force: true })
})
