/** A lab whose nodes know each other by leases in etcd: up, everything reachable, etcd killed under it, down. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsProgram } from '../namespace.ts'
import { until } from '../agent/cluster.ts'
import { cannotRun, machineState, TestLab } from './harness.ts'

const skip = cannotRun === false ? needsProgram('etcd', 'etcd-server') : cannotRun

interface CheckJson {
  readonly ok: boolean
  readonly failed: readonly unknown[]
}

test('leases in etcd: every pod is reached, with etcd killed too, and nothing stays', { skip }, async () => {
  await using lab = new TestLab()
  const before = machineState(lab)
  const up = await lab.run('up', '--datastore', 'etcd', '--nodes', '2', '--pods', '1', '--backend', 'host-gw')
  assert.equal(up.code, 0, up.stderr + up.stdout)
  const status = await lab.status()
  assert.equal(status.datastore, 'etcd')
  assert.deepEqual(
    status.pods.flatMap(({ ips }) => ips),
    ['10.244.1.2', '10.244.2.2'],
  )
  const listening = (): string[] =>
    [...lab.inside('fabric', 'ss', '-ltnpH', 'sport', '=', ':2379').matchAll(/pid=(\d+)/g)].map(([, pid = '']) => pid)
  const [etcd = ''] = listening()
  process.kill(Number(etcd), 'SIGKILL')
  const check = await lab.json<CheckJson>('check')
  assert.deepEqual(check.failed, [])
  assert.ok(check.ok)
  await until('etcd is started again', () => listening().some((pid) => pid !== etcd), 20_000)
  const conf = lab.inside('worker-1', 'ip', 'route', 'show', '10.244.2.0/24')
  assert.match(conf, /via 172\.30\.1\.12 dev eth0/)

  const down = await lab.run('down')
  assert.equal(down.code, 0, down.stderr)
  assert.deepEqual(machineState(lab), before)
})

test('etcd without IPv4 is refused before anything is made', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const up = await lab.run('up', '--datastore', 'etcd', '--ipv6-only')
  assert.equal(up.code, 2, up.stdout)
  assert.match(up.stderr, /--ipv6-only/)
})
