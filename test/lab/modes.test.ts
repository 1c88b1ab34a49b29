/** Every mode from nothing to nothing: up, every pair reachable, the shown way as the kernel's own tools print it, down, the machine as before. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cannotRun, machineState, TestLab } from './harness.ts'
import { verifyWay } from './verify-way.ts'

interface CheckJson {
  readonly ok: boolean
  readonly checks: number
  readonly failures: number
  readonly failed: readonly unknown[]
}

const modes = [
  { flags: [], checks: 111, route: /^10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1 .*onlink$/, outer: true },
  {
    flags: ['--backend', 'directrouting', '--topology', 'routed'],
    checks: 111,
    route: /^10\.244\.2\.0\/24 via 172\.30\.1\.12 dev eth0/,
    outer: false,
    beyond: /^10\.244\.3\.0\/24 via 10\.244\.3\.0 dev flannel\.1 .*onlink$/,
  },
  {
    flags: ['--backend', 'host-gw'],
    checks: 108,
    route: /^10\.244\.2\.0\/24 via 172\.30\.1\.12 dev eth0/,
    outer: false,
  },
  {
    flags: ['--backend', 'host-gw', '--ipv6'],
    checks: 216,
    route: /^10\.244\.2\.0\/24 via 172\.30\.1\.12 dev eth0/,
    outer: false,
  },
  {
    flags: ['--backend', 'alloc', '--topology', 'routed'],
    checks: 108,
    route: /^default via 172\.30\.1\.1 dev eth0/,
    outer: false,
  },
  { flags: ['--ipv6-only'], checks: 111, route: undefined, outer: true },
  { flags: ['--ipv6', '--topology', 'routed'], checks: 222, route: /dev flannel\.1 .*onlink$/, outer: true },
] as const

for (const mode of modes) {
  test(`lab ${mode.flags.join(' ')}`, { skip: cannotRun }, async () => {
    await using lab = new TestLab()
    const before = machineState(lab)
    const up = await lab.run('up', ...mode.flags)
    assert.equal(up.code, 0, up.stderr + up.stdout)

    const status = await lab.status()
    assert.equal(status.ok, true)
    assert.equal(status.pods.length, 6)
    const during = machineState(lab)
    for (const key of ['links', 'addresses', 'routes', 'routes6', 'rules', 'neighbours', 'fdb', 'nft', 'sysctls'])
      assert.deepEqual(during[key], before[key], `${key} of the machine itself`)

    const check = await lab.json<CheckJson>('check')
    assert.deepEqual(check.failed, [])
    assert.equal(check.ok, true)
    assert.equal(check.checks, mode.checks)

    if (mode.route !== undefined) await verifyWay(lab, mode.route, mode.outer, 'pod-1-1', 'pod-2-1')
    if ('beyond' in mode) await verifyWay(lab, mode.beyond, true, 'pod-1-1', 'pod-3-1')
    if (status.ipv6)
      await verifyWay(
        lab,
        mode.outer
          ? /^fd00:10:244:2::\/64 via fd00:10:244:2:: dev flannel-v6\.1/
          : /^fd00:10:244:2::\/64 via fd00:30:1::12 dev eth0/,
        mode.outer,
        'pod-1-1',
        'pod-2-1',
        '-6',
      )

    const down = await lab.run('down')
    assert.equal(down.code, 0, down.stderr)
    assert.doesNotMatch(down.stdout, /could not be detached/)
    assert.deepEqual(machineState(lab), before)
  })
}
