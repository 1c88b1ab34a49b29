import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { decodeAnswer, encodeCall, frameLength } from '#agent/cni/protocol.ts'
import { needsRoot, TestCluster, until } from './cluster.ts'

/** What the shim does: one call, one answer. */
function call(
  socket: string,
  type: string,
  env: Record<string, string>,
  config: object,
): Promise<{ exitCode: number; json: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket)
    let bytes = Buffer.alloc(0)
    connection.on('error', reject)
    connection.on('data', (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])))
    connection.on('end', () => {
      const length = frameLength(bytes)
      const answer = length === undefined ? undefined : decodeAnswer(bytes)
      if (answer === undefined) reject(new Error(`no answer: ${bytes.toString('hex')}`))
      else resolve({ exitCode: answer.exitCode, json: answer.stdout === '' ? {} : JSON.parse(answer.stdout) })
    })
    connection.write(encodeCall({ env: { ...env, HEDDLE_TYPE: type }, stdin: JSON.stringify(config) }))
  })
}

const conf = { cniVersion: '1.1.0', name: 'cbr0', type: 'flannel', delegate: { isDefaultGateway: true } }

test('--cni-only answers without a cluster', { skip: needsRoot }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-cni-'))
  const socket = join(folder, 'cni.sock')
  const agent = spawn(
    join(import.meta.dirname, '../../bin/heddle'),
    ['agent', '--until-stdin-closes', '--cni-only', '--socket', socket, '--root', folder],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  )
  let log = ''
  agent.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  try {
    await until('the socket is there', () => existsSync(socket) || log, 10_000)
    assert.equal(statSync(socket).mode & 0o777, 0o600)
    const { exitCode, json } = await call(socket, 'flannel', { CNI_COMMAND: 'VERSION' }, { cniVersion: '1.1.0' })
    assert.equal(exitCode, 0)
    assert.ok(Array.isArray(json['supportedVersions']))
    const exited = new Promise((resolve) => agent.once('exit', (code) => resolve(code)))
    agent.kill('SIGTERM')
    assert.equal(await exited, 0)
    assert.equal(existsSync(socket), false, 'a clean stop removes the socket')
  } finally {
    agent.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})

test(
  'from the very start: code 50 and 11 while there is no subnet, served once there is',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 1 })
    const a = cluster.node(0)
    cluster.api.faults.inject({ action: { kind: 'status', code: 503 } })
    cluster.start(a)
    const socket = join(a.root, 'run/heddle/cni.sock')
    await until('the socket is there', () => existsSync(socket), 10_000)
    const path = join(import.meta.dirname, '../../dist/cni')
    const status = () => call(socket, 'flannel', { CNI_COMMAND: 'STATUS', CNI_PATH: path }, conf)
    const add = () =>
      call(
        socket,
        'flannel',
        {
          CNI_COMMAND: 'ADD',
          CNI_CONTAINERID: 'c1',
          CNI_IFNAME: 'eth0',
          CNI_NETNS: `/run/netns/${cluster.switch}`,
          CNI_PATH: path,
        },
        conf,
      )
    const before = await status()
    assert.deepEqual([before.exitCode, before.json['code']], [1, 50])
    const refused = await add()
    assert.deepEqual([refused.exitCode, refused.json['code']], [1, 11])
    assert.match(String(refused.json['details']), /agent/)
    cluster.api.faults.clear()
    await cluster.ready()
    assert.deepEqual(await status(), { exitCode: 0, json: {} })
    await until(
      'calls are counted',
      async () => (await a.metric('heddle_cni_errors_total{verb="ADD",type="flannel"}')) === 1,
    )
  },
)
