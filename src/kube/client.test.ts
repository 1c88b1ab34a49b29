import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { backoff } from './clock.ts'
import { loadKubeConfig } from './config.ts'
import { fileText } from './credentials.ts'
import { KubeError } from './errors.ts'
import { inClusterConfig } from './in-cluster.ts'
import { LineSplitter } from './lines.ts'
import { resourcePath } from './path.ts'
import { WorkQueue } from './queue.ts'
import { nodes, pods } from './resources.ts'

let dir = ''
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'heddle-kube-'))
})
after(() => rmSync(dir, { recursive: true, force: true }))

const file = (name: string, text: string): string => {
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}

describe('kubeconfig', () => {
  it('reads server, CA, client certificate from data and files, and namespace', () => {
    file('key.pem', 'KEY\n')
    const path = file(
      'full',
      `apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: "https://[fd00::1]:6443/prefix", certificate-authority-data: ${Buffer.from('CA').toString('base64')}, tls-server-name: api}}]
users: [{name: u, user: {client-certificate-data: ${Buffer.from('CERT').toString('base64')}, client-key: key.pem}}]
contexts: [{name: c, context: {cluster: k, user: u, namespace: ns}}]`,
    )
    const config = loadKubeConfig({ file: path })
    assert.equal(config.server.href, 'https://[fd00::1]:6443/prefix')
    assert.deepEqual(config.tls(), { rejectUnauthorized: true, ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'api' })
    assert.equal(config.namespace, 'ns')
    assert.equal(config.token, undefined)
  })
  it('merges the files of KUBECONFIG: the first that names an entry counts, missing ones are passed over', () => {
    const one = file(
      'one',
      'current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nusers: [{name: u, user: {token: first}}]',
    )
    const two = file(
      'two',
      'current-context: d\nclusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]\nusers: [{name: u, user: {token: second}}]',
    )
    const config = loadKubeConfig({ env: { KUBECONFIG: `${one}:${join(dir, 'missing')}:${two}` } })
    assert.equal(config.server.host, '127.0.0.1:1')
    assert.equal(config.token?.read(), 'first')
  })
  const cluster =
    'clusters: [{name: k, cluster: {server: "https://h"}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\n'
  const bad: readonly (readonly [string, string, RegExp])[] = [
    [
      'exec plugins',
      `${cluster}users: [{name: u, user: {exec: {command: x}}}]`,
      /exec plugin.*not supported: use a token/,
    ],
    ['auth providers', `${cluster}users: [{name: u, user: {auth-provider: {name: gcp}}}]`, /auth-provider/],
    [
      'a certificate without a key',
      `${cluster}users: [{name: u, user: {client-certificate-data: eA==}}]`,
      /certificate without a key/,
    ],
    ['a missing user', cluster, /no user "u"/],
    ['no current context', 'clusters: []', /current-context/],
    ['text that is no YAML', 'a: [', /cannot be read/],
    ['wrong types', 'current-context: 5', /malformed at current-context/],
    [
      'a server that is no URL',
      cluster.replace('https://h', 'ftp://h') + 'users: [{name: u, user: {}}]',
      /no http or https URL/,
    ],
  ]
  for (const [name, text, expected] of bad) {
    it(`refuses ${name} with a clear error`, () => {
      const path = file('bad', text)
      assert.throws(
        () => loadKubeConfig({ file: path }),
        (error) => error instanceof KubeError && error.code === 'config' && expected.test(error.message),
      )
    })
  }
  it('throws nothing but KubeError on any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          loadKubeConfig({ file: file('fuzz', text) })
        } catch (error) {
          assert.ok(error instanceof KubeError, String(error))
        }
      }),
      { numRuns: 50 },
    )
  })
})

describe('in-cluster configuration', () => {
  it('takes the address from the environment and the token from its file, also when it changes', () => {
    file('token', 'one')
    file('ca.crt', 'CA')
    file('namespace', 'kube-flannel')
    const config = inClusterConfig({ KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' }, dir)
    assert.equal(config.server.origin, 'https://[fd00::1]')
    assert.equal(config.namespace, 'kube-flannel')
    assert.equal(config.token?.read(), 'one')
    file('token', 'two')
    assert.equal(config.token?.refresh(), true)
    assert.equal(config.token.read(), 'two')
    assert.equal(config.token.refresh(), false)
  })
  it('says what is missing outside of a pod', () => {
    assert.throws(() => inClusterConfig({}, dir), /KUBERNETES_SERVICE_HOST/)
    assert.throws(
      () => inClusterConfig({ KUBERNETES_SERVICE_HOST: 'h', KUBERNETES_SERVICE_PORT: '1' }, join(dir, 'none')),
      /cannot be read/,
    )
  })
  it('keeps the last token while the file is empty or gone', () => {
    const path = file('rotating', 'a')
    let now = 0
    const source = fileText(path, () => now)
    assert.equal(source.read(), 'a')
    writeFileSync(path, '')
    now += 60_000
    assert.equal(source.read(), 'a')
    rmSync(path)
    now += 60_000
    assert.equal(source.read(), 'a')
    writeFileSync(path, 'b')
    assert.equal(source.read(), 'a')
    now += 60_000
    assert.equal(source.read(), 'b')
  })
})

describe('lines', () => {
  it('come out the same however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\n', ''))),
        fc.array(fc.nat(20)),
        (texts, cuts) => {
          const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(''))
          const splitter = new LineSplitter()
          const lines: string[] = []
          let at = 0
          for (const cut of [...cuts, bytes.length]) {
            lines.push(...splitter.push(bytes.subarray(at, at + cut)))
            at += cut
          }
          lines.push(...splitter.push(bytes.subarray(at)))
          assert.deepEqual(
            lines,
            texts.filter((text) => text !== '').map((text) => Buffer.from(text).toString()),
          )
        },
      ),
    )
  })
  it('have a bound', () => {
    const splitter = new LineSplitter(10)
    splitter.push(Buffer.from('12345678\n'))
    splitter.push(Buffer.from('123456'))
    assert.throws(() => splitter.push(Buffer.from('7890123')), { code: 'bad-response' })
  })
})

describe('paths', () => {
  it('are those of the API', () => {
    assert.equal(resourcePath(nodes, undefined, 'n1', 'status'), '/api/v1/nodes/n1/status')
    assert.equal(resourcePath(pods, 'a b', 'p'), '/api/v1/namespaces/a%20b/pods/p')
  })
  it('cannot be changed by names', () => {
    for (const name of ['', '..', '.', 'a/b', '/etc'])
      assert.throws(() => resourcePath(nodes, undefined, name), { code: 'bad-request' })
  })
})

describe('backoff', () => {
  it('doubles up to its cap, within half and one and a half', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempt, random) => {
          const wait = backoff(attempt, { base: 100, cap: 5000 }, () => random)
          const middle = Math.min(5000, 100 * 2 ** (attempt - 1))
          assert.ok(wait >= middle * 0.5 - 1 && wait <= middle * 1.5 + 1)
        },
      ),
    )
  })
})

describe('WorkQueue', () => {
  it('works once for many requests, and once more for those that came during the work', async () => {
    const worked: string[] = []
    let release = (): void => {}
    using queue = new WorkQueue({
      work: async (key) => {
        worked.push(key)
        if (worked.length === 1) await new Promise<void>((resolve) => (release = resolve))
      },
    })
    for (let n = 0; n < 5; n += 1) queue.add('a')
    queue.add('b')
    for (let n = 0; n < 5; n += 1) queue.add('a')
    release()
    await queue.idle()
    assert.deepEqual(worked, ['a', 'b', 'a'])
  })
  it('never works on one key twice at once, and keeps to its concurrency', async () => {
    const running = new Set<string>()
    let most = 0
    using queue = new WorkQueue({
      concurrency: 3,
      work: async (key) => {
        assert.ok(!running.has(key))
        running.add(key)
        most = Math.max(most, running.size)
        await new Promise((resolve) => setImmediate(resolve))
        running.delete(key)
      },
    })
    for (let n = 0; n < 60; n += 1) queue.add(`k${n % 7}`)
    await queue.idle()
    assert.equal(most, 3)
  })
  it('brings failed keys back with growing waits, and forgets the failures after a success', async () => {
    const waits: number[] = []
    let left = 4
    using queue = new WorkQueue({
      work: () => (left-- > 0 ? Promise.reject(new Error('not yet')) : Promise.resolve()),
      clock: { now: () => 0, sleep: () => Promise.resolve() },
      random: () => 0.5,
      onError: (_key, _error, attempt, wait) => waits.push(attempt, wait),
    })
    queue.add('a')
    await queue.idle()
    assert.deepEqual(waits, [1, 100, 2, 200, 3, 400, 4, 800])
    left = 1
    queue.add('a')
    await queue.idle()
    assert.deepEqual(waits.slice(8), [1, 100])
  })
  it('has a bound, and ends', async () => {
    const queue = new WorkQueue({ limit: 2, work: () => new Promise(() => {}) })
    assert.ok(queue.add('running'))
    assert.ok(queue.add('a'))
    assert.ok(queue.addAfter('b', 60_000))
    assert.equal(queue.add('c'), false)
    queue[Symbol.dispose]()
    assert.equal(queue.add('d'), false)
  })
})
