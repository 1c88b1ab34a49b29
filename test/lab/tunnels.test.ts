/** Labs whose devices not every kernel has: up, every pair reachable, the shown way as the kernel's own tools print it, down. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasFeature, needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { cannotRun, machineState, TestLab } from './harness.ts'
import { verifyWay } from './verify-way.ts'

interface CheckJson {
  readonly ok: boolean
  readonly failed: readonly unknown[]
}

const labs = [
  {
    flags: ['--backend', 'udp', '--topology', 'routed'],
    skip: false,
    route: /^10\.244\.0\.0\/16 dev flannel0 .*scope link/,
  },
  {
    flags: ['--backend', 'ipip', '--topology', 'routed'],
    skip: needsKernel('ipip'),
    route: /via 172\.30\.1\.12 dev flannel\.ipip .*onlink$/,
  },
  {
    flags: ['--backend', 'wireguard', '--topology', 'routed', '--ipv6'],
    skip: needsProgram('wg', 'wireguard-tools') || needsKernel('wireguard'),
    route: /^10\.244\.0\.0\/16 dev flannel-wg .*scope link/,
  },
] as const

/** The virtual machine takes minutes for each: there only those that need its kernel, and no node more than it takes. */
const isEmulated = slowness > 1
const here = isEmulated ? labs.filter(({ flags }) => flags[1] !== 'udp') : labs

for (const { flags, skip, route } of here) {
  test(`lab ${flags.join(' ')}`, { skip: cannotRun || skip, timeout: 120_000 * slowness }, async () => {
    await using lab = new TestLab()
    const before = machineState(lab)
    const patience = String(30 * slowness)
    const up = await lab.run('up', '--nodes', isEmulated ? '2' : '3', '--pods', '1', '--timeout', patience, ...flags)
    assert.equal(up.code, 0, up.stderr + up.stdout)
    const check = await lab.json<CheckJson>('check', '--timeout', String(2 * slowness))
    assert.deepEqual(check.failed, [])
    assert.equal(check.ok, true)
    await verifyWay(lab, route, true, 'pod-1-1', 'pod-2-1')
    const down = await lab.run('down')
    assert.equal(down.code, 0, down.stderr)
    assert.deepEqual(machineState(lab), before)
  })
}

test('a kernel that lacks the devices is named at once, and nothing is left', { skip: cannotRun }, async (t) => {
  if (hasFeature('wireguard')) return t.diagnostic('this kernel has them')
  await using lab = new TestLab()
  const before = machineState(lab)
  const { code, stderr } = await lab.run('up', '--backend', 'wireguard')
  assert.notEqual(code, 0)
  assert.match(stderr, /needs devices of the kind wireguard, which this machine's kernel does not have/)
  assert.deepEqual(machineState(lab), before)
})
