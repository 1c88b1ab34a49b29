import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { KubeClient } from '#kube/client.ts'
import { loadKubeConfig } from '#kube/config.ts'
import { namespaces } from '#kube/resources.ts'
import { startApiServer } from '#kube/server/server.ts'
import { findKubectl, plainConfig } from './target.ts'

const root = mkdtempSync(join(tmpdir(), 'heddle-listen-'))
after(() => rmSync(root, { recursive: true, force: true }))

const SERVER = new URL('../../src/kube/server/server.ts', import.meta.url).href
const openssl = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

/** A self-signed certificate for 127.0.0.1. */
function certificate(name: string): { readonly key: string; readonly cert: string; readonly certFile: string } {
  const [keyFile, certFile] = [join(root, `${name}.key`), join(root, `${name}.crt`)]
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync('openssl', ['req', '-x509', ...kind, '-keyout', keyFile, '-out', certFile, ...subject], {
    stdio: 'ignore',
  })
  return { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certFile, 'utf8'), certFile }
}

function kubeconfig(name: string, server: string, ca: string, token: string): string {
  const file = join(root, name)
  writeFileSync(
    file,
    `current-context: c\nclusters: [{name: k, cluster: {server: "${server}", certificate-authority: "${ca}"}}]\nusers: [{name: u, user: {token: "${token}"}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n`,
  )
  return file
}

describe('the embedded server listens', { timeout: 60_000 }, () => {
  it('on several addresses, IPv6 too', async () => {
    await using server = await startApiServer({
      listen: [
        { host: '127.0.0.1', port: 0 },
        { host: '::1', port: 0 },
      ],
    })
    assert.equal(server.urls.length, 2)
    for (const url of server.urls) {
      using client = new KubeClient(plainConfig(url))
      assert.equal((await client.get(namespaces, { name: 'default' })).metadata.name, 'default')
    }
  })

  it('on a socket that another process opened', async () => {
    const listener = createServer()
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const address = listener.address()
    assert.ok(typeof address === 'object' && address !== null)
    const handle: unknown = Reflect.get(listener, '_handle')
    assert.ok(typeof handle === 'object' && handle !== null && 'fd' in handle && typeof handle.fd === 'number')
    const script = `const { startApiServer } = await import(${JSON.stringify(SERVER)}); const s = await startApiServer({ listen: [{ fd: 3 }] }); process.stdout.write(s.urls[0])`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit', handle.fd],
    })
    const ended = new Promise((resolve) => child.once('close', resolve))
    try {
      const url = await new Promise<string>((resolve, reject) => {
        child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString()))
        child.once('exit', () => reject(new Error('the server did not start')))
      })
      // From here on only the child accepts on it.
      await new Promise((resolve) => listener.close(resolve))
      assert.equal(url, `http://127.0.0.1:${address.port}`)
      using client = new KubeClient(plainConfig(url))
      assert.equal((await client.list(namespaces)).items.length, 4)
    } finally {
      child.kill('SIGKILL')
      await ended
      listener.close()
    }
  })

  it('refuses an address that is taken, and leaves nothing behind', async () => {
    await using server = await startApiServer()
    const port = Number(new URL(server.urls[0] ?? '').port)
    await assert.rejects(
      startApiServer({
        listen: [
          { host: '127.0.0.1', port: 0 },
          { host: '127.0.0.1', port },
        ],
      }),
      { code: 'EADDRINUSE' },
    )
  })

  it(
    'over TLS with tokens, for our client and for kubectl',
    { skip: openssl ? false : 'there is no openssl to make certificates with' },
    async (t) => {
      const [own, other] = [certificate('own'), certificate('other')]
      await using server = await startApiServer({ tls: own, tokens: new Map([['secret', 'admin']]) })
      const url = server.urls[0] ?? ''
      assert.match(url, /^https:/)
      const good = kubeconfig('good', url, own.certFile, 'secret')
      using client = new KubeClient(loadKubeConfig({ file: good }))
      assert.equal((await client.list(namespaces)).items.length, 4)
      using stranger = new KubeClient(loadKubeConfig({ file: kubeconfig('stranger', url, own.certFile, 'wrong') }))
      await assert.rejects(stranger.list(namespaces), { code: 'unauthorized' })
      using misled = new KubeClient(loadKubeConfig({ file: kubeconfig('misled', url, other.certFile, 'secret') }))
      await assert.rejects(misled.list(namespaces), { code: 'tls' })
      const [kubectl] = findKubectl()
      if (kubectl === undefined) {
        t.diagnostic('kubectl is missing: that half was not tested')
        return
      }
      const child = spawn(kubectl, ['--kubeconfig', good, 'get', 'ns', '-o', 'name'], {
        env: { PATH: process.env['PATH'], HOME: root },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let seen = ''
      child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()))
      assert.equal(await new Promise((resolve) => child.once('close', resolve)), 0)
      assert.match(seen, /namespace\/default/)
    },
  )
})
