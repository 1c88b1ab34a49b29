/** The commands as a person types them: right, wrong, twice, beside each other, and without root. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { cannotRun, machineState, run, TestLab, until } from './harness.ts'

const has = (program: string): boolean => {
  try {
    execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test(
  'wrong command lines say what is wrong and end with 2; what is not there ends with 1',
  { skip: cannotRun },
  async () => {
    await using lab = new TestLab()
    const refused = async (code: number, message: RegExp, verb: string, ...args: readonly string[]): Promise<void> => {
      const ran = await lab.run(verb, ...args)
      assert.equal(ran.code, code, `${verb} ${args.join(' ')}: ${ran.stderr}`)
      assert.match(ran.stderr, message)
      assert.doesNotMatch(ran.stderr, /\n\s+at /, 'no stack trace')
    }
    await refused(2, /nodes is 0/, 'up', '--nodes', '0')
    await refused(2, /nodes is 101/, 'up', '--nodes', '101')
    await refused(2, /"many" is no whole number/, 'up', '--nodes', 'many')
    await refused(2, /vxlan.*udp/s, 'up', '--backend', 'pigeons')
    await refused(2, /ipip carries IPv4 only/, 'up', '--backend', 'ipip', '--ipv6')
    await refused(2, /a lab has one backend, and vxlan, host-gw are several/, 'up', '--backend', 'vxlan,host-gw')
    await refused(
      2,
      /a lab has one backend, and vxlan, host-gw are several/,
      'up',
      '--backend',
      'vxlan',
      '--backend',
      'host-gw',
    )
    await refused(2, /host-gw does not work in topology routed/, 'up', '--backend', 'host-gw', '--topology', 'routed')
    await refused(2, /"\.\.\/x" cannot name a lab/, 'up', '--name', '../x')
    await refused(2, /unknown option/, 'up', '--colour')
    for (const verb of ['status', 'check', 'kubeconfig', 'way']) await refused(1, /there is no lab/, verb)
    await refused(1, /there is no lab/, 'exec', 'worker-1', '--', 'true')
    const down = await lab.run('down')
    assert.equal(down.code, 0, 'nothing to remove is fine')
    assert.match(down.stdout, /nothing to do/)
    assert.equal(existsSync(`${lab.directory}/${lab.name}`), false)
  },
)

test('namespaces of somebody else are not touched', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const foreign = `${lab.name}-worker-2`
  execFileSync('ip', ['netns', 'add', foreign])
  try {
    const up = await lab.run('up')
    assert.equal(up.code, 1)
    assert.match(up.stderr, new RegExp(`network namespaces exist.*${foreign}`))
    assert.equal((await lab.run('down')).code, 0)
    assert.ok(existsSync(`/run/netns/${foreign}`))
  } finally {
    execFileSync('ip', ['netns', 'del', foreign])
  }
})

test('a damaged record is named, and down removes what it was about', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const before = machineState(lab)
  assert.equal((await lab.run('up', '--nodes', '1', '--pods', '1')).code, 0)
  writeFileSync(`${lab.directory}/${lab.name}/lab.json`, '{"version":1')
  for (const verb of ['up', 'status', 'check']) {
    const ran = await lab.run(verb)
    assert.equal(ran.code, 1)
    assert.match(ran.stderr, /lab\.json does not describe a lab[\s\S]*lab down/)
  }
  assert.equal((await lab.run('down')).code, 0)
  assert.deepEqual(machineState(lab), before)
})

test('two labs at once; the same one twice is refused; each goes alone', { skip: cannotRun }, async (t) => {
  await using one = new TestLab()
  await using two = new TestLab(one.directory)
  const before = machineState(one)
  const ups = await Promise.all([one.run('up'), two.run('up', '--nodes', '2', '--pods', '1', '--backend', 'host-gw')])
  for (const up of ups) assert.equal(up.code, 0, up.stderr)
  const again = await one.run('up')
  assert.equal(again.code, 1)
  assert.match(again.stderr, /is up \(3 nodes, vxlan\)/)
  const listed = JSON.parse((await run('bin/heddle', ['lab', 'list', '--json'], one.env)).stdout) as { name: string }[]
  assert.deepEqual(listed.map(({ name }) => name).sort(), [one.name, two.name].sort())
  for (const lab of [one, two]) assert.equal((await lab.json<{ ok: boolean }>('check')).ok, true)

  await t.test("exec: output and exit code are the command's own, options too", async () => {
    const hello = await one.run('exec', 'pod-1-1', '--', 'sh', '-c', 'echo hello; exit 7')
    assert.deepEqual(hello, { code: 7, stdout: 'hello\n', stderr: '' })
    assert.equal((await one.run('exec', 'pod-1-1', 'ip', '-4', '-o', 'addr', 'show', 'eth0')).code, 0)
    const killed = await one.run('exec', 'worker-1', '--', 'sh', '-c', 'kill -9 $$')
    assert.equal(killed.code, 128 + 9)
    const ping = await one.run('exec', 'pod-1-1', '--', 'ping', '-c', '1', '-W', '2', '10.244.2.2')
    assert.equal(ping.code, 0, ping.stdout)
    const nowhere = await one.run('exec', 'pod-9-9', '--', 'true')
    assert.equal(nowhere.code, 1)
    assert.match(nowhere.stderr, /no node or pod "pod-9-9"[\s\S]*worker-1 to worker-3, pod-1-1 to pod-3-2/)
  })

  await t.test('kubectl', { skip: has('kubectl') ? false : 'kubectl is not installed' }, async () => {
    const { stdout } = await one.run('kubeconfig')
    const kubeconfig = stdout.trim()
    assert.equal(statSync(kubeconfig).mode & 0o777, 0o600)
    const kubectl = (...args: readonly string[]): Promise<string> =>
      run('kubectl', ['--kubeconfig', kubeconfig, ...args], one.env).then((ran) => {
        assert.equal(ran.code, 0, ran.stderr)
        return ran.stdout
      })
    assert.equal((await kubectl('get', 'nodes', '--no-headers')).match(/ Ready /g)?.length, 3)
    const wide = await kubectl('get', 'pods', '-o', 'wide', '--no-headers')
    assert.match(wide, /pod-2-1 .*Running .*10\.244\.2\.2 +worker-2/)
    const annotations = await kubectl('get', 'node', 'worker-1', '-o', 'jsonpath={.metadata.annotations}')
    assert.match(annotations, /flannel\.alpha\.coreos\.com\/backend-type":"vxlan/)
    const conditions = await kubectl('get', 'node', 'worker-1', '-o', 'jsonpath={.status.conditions[*].reason}')
    assert.match(conditions, /FlannelIsUp/)
    const inside = await one.run('exec', 'pod-3-1', '--', 'kubectl', 'get', 'nodes', '--no-headers')
    assert.equal(inside.stdout.match(/ Ready /g)?.length, 3, inside.stderr)
  })

  await t.test('a broken lab is reported: the check names the pairs and ends with 1', async () => {
    two.inside('worker-1', 'ip', 'link', 'set', 'eth0', 'down')
    const check = await two.json<{ ok: boolean; failures: number; failed: { from: string; to: string }[] }>('check')
    assert.equal(check.ok, false)
    assert.ok(check.failed.some(({ from, to }) => from === 'pod-1-1' && to === 'pod-2-1'))
    assert.equal((await two.run('check')).code, 1)
  })

  assert.equal((await two.run('down')).code, 0)
  assert.equal((await one.status()).ok, true, 'the other one lives')
  assert.equal((await one.run('down')).code, 0)
  assert.deepEqual(machineState(one), before)
})

test('a command that still runs inside ends with the lab', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  assert.equal((await lab.run('up', '--nodes', '1', '--pods', '1')).code, 0)
  const sleeper = lab.start('exec', 'worker-1', '--', 'sleep', '600')
  const inNode = (): string => execFileSync('ip', ['netns', 'pids', `${lab.name}-worker-1`]).toString()
  const agents = inNode().trim().split('\n').length
  await until('sleep runs', 3000, () => inNode().trim().split('\n').length > agents)
  assert.equal((await lab.run('down')).code, 0)
  await until('the exec ended', 3000, () => sleeper.exitCode !== null || sleeper.signalCode !== null)
})

const nobody = 65_534
const asNobody = ['--reuid', String(nobody), '--regid', String(nobody), '--clear-groups']
const noUserNamespace = ((): string | false => {
  if (cannotRun !== false) return cannotRun
  try {
    execFileSync('setpriv', [...asNobody, 'unshare', '--user', '--map-root-user', '--net', '--mount', 'true'], {
      stdio: 'ignore',
    })
    execFileSync('setpriv', [...asNobody, fileURLToPath(new URL('../../bin/heddle', import.meta.url)), '--version'], {
      stdio: 'ignore',
    })
    return false
  } catch {
    return 'an ordinary user gets no user namespace here, or may not read this directory'
  }
})()

/** Processes of `heddle` that the unprivileged user runs. */
const pidsOfNobody = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          statSync(`/proc/${pid}`).uid === nobody &&
          / (lab|agent) /.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' '))
        )
      } catch {
        return false
      }
    })

test('without root: the same lab, and nothing of it outside', { skip: noUserNamespace }, async () => {
  const heddle = fileURLToPath(new URL('../../bin/heddle', import.meta.url))
  const { HEDDLE_LAB_DIR: _, ...env } = process.env
  const name = `r${process.pid}`
  const lab = (verb: string, ...args: readonly string[]) =>
    run('setpriv', [...asNobody, heddle, 'lab', verb, '--name', name, ...args], { ...env, HOME: '/tmp' })
  const links = execFileSync('ip', ['-o', 'link']).toString()
  try {
    const up = await lab('up')
    assert.equal(up.code, 0, up.stderr)
    assert.equal(existsSync(`/run/netns/${name}-worker-1`), false)
    assert.equal(execFileSync('ip', ['-o', 'link']).toString(), links)
    const check = await lab('check', '--json')
    const report: { checks: number; failures: number } = JSON.parse(check.stdout)
    assert.deepEqual([report.checks, report.failures], [111, 0])
    const exec = await lab('exec', 'pod-1-1', '--', 'ping', '-c', '1', '-W', '2', '10.244.2.2')
    assert.equal(exec.code, 0, exec.stdout + exec.stderr)
    // Everything of that user's that is the lab's, the holder too: the namespaces go with it.
    for (const pid of pidsOfNobody()) process.kill(pid, 'SIGKILL')
    const dead = await lab('check')
    assert.equal(dead.code, 1)
    assert.match(dead.stderr, /has lost 11 of its network namespaces/)
  } finally {
    const down = await lab('down')
    assert.equal(down.code, 0, down.stderr)
    assert.match(down.stdout, /is gone/)
  }
  assert.deepEqual(pidsOfNobody(), [])
  assert.equal(existsSync(`/tmp/heddle-${nobody}`), false)
})
