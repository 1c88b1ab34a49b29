/** What a lab survives, and what survives a lab: nothing. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { Pinger, type PingResult } from '#lab/probe/pinger.ts'
import { cannotRun, machineState, processesOf, TestLab, until } from './harness.ts'

test('kill -9 of everything, then down: nothing stays', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const before = machineState(lab)
  assert.equal((await lab.run('up')).code, 0)
  const pids = processesOf(lab)
  assert.ok(pids.length >= 4, `keeper and agents: ${pids.join(' ')}`)
  // The keeper first, or it would start agents again.
  const { keeper } = await lab.status()
  process.kill(keeper.pid!, 'SIGKILL')
  for (const pid of pids) if (pid !== keeper.pid) process.kill(pid, 'SIGKILL')
  const dead = await lab.status()
  assert.equal(dead.ok, false)
  assert.ok(dead.nodes.every(({ agent }) => !agent.alive))
  const check = await lab.json<{ ok: boolean }>('check')
  assert.equal(check.ok, true, 'the data path needs no process')
  const down = await lab.run('down')
  assert.equal(down.code, 0, down.stderr)
  assert.deepEqual(machineState(lab), before)
  assert.equal((await lab.run('down')).code, 0, 'again')
})

for (const ms of [60, 250, 600, 1200, 2000]) {
  test(`up killed with -9 after ${ms} ms, then down: nothing stays`, { skip: cannotRun }, async () => {
    await using lab = new TestLab()
    const before = machineState(lab)
    const up = lab.start('up', '--nodes', '4')
    await sleep(ms)
    up.kill('SIGKILL')
    if (up.exitCode === null && up.signalCode === null) await once(up, 'exit')
    const down = await lab.run('down')
    assert.equal(down.code, 0, down.stderr)
    assert.deepEqual(machineState(lab), before)
  })
}

test('an interrupt during up removes what was made', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const before = machineState(lab)
  const up = lab.start('up')
  await sleep(700)
  up.kill('SIGINT')
  const [code] = await once(up, 'exit')
  assert.notEqual(code, 0)
  assert.deepEqual(machineState(lab), before)
})

test('the keeper dies during up: up says so, names the log, and removes everything', { skip: cannotRun }, async () => {
  await using lab = new TestLab()
  const before = machineState(lab)
  const up = lab.run('up')
  const file = `${lab.directory}/${lab.name}/processes.json`
  await until('the keeper runs', 20_000, () => existsSync(file))
  const { keeper }: { keeper: { pid: number } } = JSON.parse(readFileSync(file, 'utf8'))
  process.kill(keeper.pid, 'SIGKILL')
  const { code, stderr } = await up
  assert.equal(code, 1)
  assert.match(stderr, /the keeper ended with SIGKILL[\s\S]*Last lines of .*log/)
  assert.match(stderr, /--keep/)
  assert.deepEqual(machineState(lab), before)
})

test('in a running lab', { skip: cannotRun }, async (t) => {
  await using lab = new TestLab()
  const up = await lab.run('up')
  assert.equal(up.code, 0, up.stderr)

  await t.test('every agent killed with -9 under pings each 10 ms: none is lost, the agents come back', async () => {
    using pinger = new Pinger(`/run/netns/${lab.name}-pod-1-1`, 4)
    using back = new Pinger(`/run/netns/${lab.name}-pod-3-1`, 4)
    const results: Promise<PingResult>[] = []
    const timer = setInterval(() => {
      // One try each: a repeated request would hide a lost one.
      results.push(pinger.ping(ipText('10.244.2.2'), { timeoutMs: 1000, retryMs: 5000 }))
      results.push(back.ping(ipText('10.244.1.2'), { timeoutMs: 1000, retryMs: 5000 }))
    }, 10)
    try {
      await sleep(200)
      const first = await lab.status()
      for (const { agent } of first.nodes) process.kill(agent.pid!, 'SIGKILL')
      await until('all agents run again', 10_000, async () => {
        const now = await lab.status()
        return now.nodes.every(({ agent }, i) => agent.alive && agent.pid !== first.nodes[i]?.agent.pid)
      })
      // Long enough for the new agents to read the API and to settle.
      await sleep(2500)
    } finally {
      clearInterval(timer)
    }
    const all = await Promise.all(results)
    const lost = all.filter(({ kind }) => kind !== 'reply')
    t.diagnostic(`${lost.length} of ${all.length} pings lost`)
    assert.ok(all.length > 300)
    assert.deepEqual(lost, [])
    const status = await lab.status()
    assert.ok(status.nodes.every(({ agent }) => agent.restarts >= 1))
    assert.equal((await lab.json<{ ok: boolean }>('check')).ok, true)
  })

  const repaired = async (what: string, isThere: () => boolean, remove: readonly string[]): Promise<void> => {
    await t.test(`${what} is put back within two seconds`, async () => {
      await until(`${what} is there`, 5000, isThere)
      lab.inside('worker-1', remove[0]!, ...remove.slice(1))
      const ms = await until(`${what} is back`, 2000, isThere)
      t.diagnostic(`${what}: ${ms} ms`)
      assert.equal((await lab.json<{ ok: boolean }>('check')).ok, true)
    })
  }
  const prints = (text: string | RegExp, ...command: readonly string[]): boolean => {
    const printed = lab.inside('worker-1', command[0]!, ...command.slice(1))
    return typeof text === 'string' ? printed.includes(text) : text.test(printed)
  }
  const fdb = /(\S+) dev flannel\.1 dst 172\.30\.1\.12/.exec(lab.inside('worker-1', 'bridge', 'fdb'))
  const mac = fdb?.[1] ?? ''
  assert.notEqual(mac, '', lab.inside('worker-1', 'bridge', 'fdb'))
  await repaired('a route', () => prints('10.244.2.0/24 via', 'ip', 'route'), ['ip', 'route', 'del', '10.244.2.0/24'])
  await repaired('a forwarding entry', () => prints('dst 172.30.1.12', 'bridge', 'fdb'), [
    'bridge',
    'fdb',
    'del',
    mac,
    'dev',
    'flannel.1',
    'dst',
    '172.30.1.12',
    'self',
  ])
  await repaired('a neighbour', () => prints(mac, 'ip', 'neigh', 'show', 'dev', 'flannel.1'), [
    'ip',
    'neigh',
    'del',
    '10.244.2.0',
    'dev',
    'flannel.1',
  ])
  await repaired(
    'flannel.1 with all that hangs on it',
    () =>
      prints(/: flannel\.1[:@]/, 'ip', '-o', 'link') &&
      prints(/10\.244\.2\.0\/24 via .*\n(.*\n)*10\.244\.3\.0\/24 via /, 'ip', 'route') &&
      prints('dst 172.30.1.13', 'bridge', 'fdb'),
    ['ip', 'link', 'del', 'flannel.1'],
  )
  const [, family = '', table = ''] =
    /table (\S+) (heddle_flannel\S*)/.exec(lab.inside('worker-1', 'nft', 'list', 'tables')) ?? []
  assert.notEqual(table, '', lab.inside('worker-1', 'nft', 'list', 'tables'))
  await repaired(
    'the nft table',
    () => prints(/masquerade/, 'nft', 'list', 'ruleset') && prints(table, 'nft', 'list', 'tables'),
    ['nft', 'delete', 'table', family, table],
  )
})
