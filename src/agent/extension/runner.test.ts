import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { localNode } from '#flannel/fixture.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import type { Lease } from '#flannel/lease.ts'
import { systemClock } from '#sys/clock.ts'
import { silentLog } from '../log.ts'
import { CommandError, runCommand, type RunCommand } from './command.ts'
import { ExtensionJournal } from './journal.ts'
import { ExtensionRunner } from './runner.ts'

const conf = {
  type: 'extension',
  postStartup: ['post', '$SUBNET'],
  subnetAdd: ['add', '$SUBNET', '$PUBLIC_IP'],
  subnetRemove: ['remove', '$SUBNET'],
  shutdown: ['shutdown'],
} as const
const local = localNode({ conf })

const lease = (i: number, ip = `192.168.0.${i + 1}`): Lease => ({
  node: `node-${i}`,
  4: { subnet: cidrText(`10.244.${i}.0/24`), publicIp: ipText(ip), data: { kind: 'text', text: `data ${i}` } },
})

class Bench implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'extension-'))
  readonly file = join(this.folder, 'extension.json')
  readonly ran: string[] = []
  readonly progress: (number | undefined)[] = []
  /** Commands that fail, by name; each once for each mention. */
  readonly failing: string[] = []

  readonly run: RunCommand = async (line, variables, input) => {
    await delay(1)
    this.ran.push([line[0], variables['SUBNET'], variables['PUBLIC_IP'], input].filter(Boolean).join(' '))
    const at = this.failing.indexOf(line[0])
    if (at < 0) return { output: '' }
    this.failing.splice(at, 1)
    throw new CommandError('failed', `${line[0]} ended with status 1`)
  }

  open(boot = 'this'): Promise<ExtensionRunner> {
    return ExtensionRunner.open({
      conf,
      run: this.run,
      journal: new ExtensionJournal(this.file, boot),
      clock: systemClock,
      log: silentLog,
      onCommand: () => undefined,
      onProgress: (waiting) => void this.progress.push(waiting),
    })
  }

  /** Until all is done, what is tried again too; returns what ran since the last time. */
  async quiet(runner: ExtensionRunner): Promise<string[]> {
    const end = Date.now() + 20_000
    do {
      await delay(5)
      await runner.settled()
    } while (this.progress.at(-1) !== 0 && Date.now() < end)
    return this.ran.splice(0)
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

test('the own command first, then each peer’s; a change is a removal and an addition; the end is told', async () => {
  using bench = new Bench()
  {
    await using runner = await bench.open()
    runner.setPeer('node-1', lease(1), local)
    runner.setLocal(local)
    assert.deepEqual(await bench.quiet(runner), [
      'post 10.244.0.0/24 192.168.0.1',
      'add 10.244.1.0/24 192.168.0.2 data 1',
    ])
    runner.setPeer('node-1', lease(1), local)
    runner.setLocal(local)
    assert.deepEqual(await bench.quiet(runner), [], 'the same again')
    runner.setPeer('node-1', lease(1, '192.168.0.99'), local)
    runner.setPeer('node-2', lease(2), local)
    const ran = await bench.quiet(runner)
    assert.deepEqual(ran.toSorted(), [
      'add 10.244.1.0/24 192.168.0.99 data 1',
      'add 10.244.2.0/24 192.168.0.3 data 2',
      'remove 10.244.1.0/24 192.168.0.2 data 1',
    ])
    assert.ok(
      ran.indexOf('remove 10.244.1.0/24 192.168.0.2 data 1') < ran.indexOf('add 10.244.1.0/24 192.168.0.99 data 1'),
    )
    runner.removeLeftovers()
    runner.setPeer('node-2', undefined, local)
    assert.deepEqual(await bench.quiet(runner), ['remove 10.244.2.0/24 192.168.0.3 data 2'])
  }
  assert.deepEqual(bench.ran, ['shutdown 10.244.0.0/24 192.168.0.1'])
})

test('what fails is tried again, and holds up nobody else', async () => {
  using bench = new Bench()
  await using runner = await bench.open()
  bench.failing.push('post', 'add')
  runner.setLocal(local)
  runner.setPeer('node-1', lease(1), local)
  runner.setPeer('node-2', lease(2), local)
  const ran = await bench.quiet(runner)
  assert.deepEqual(ran.slice(0, 2), ['post 10.244.0.0/24 192.168.0.1', 'post 10.244.0.0/24 192.168.0.1'])
  assert.equal(ran.filter((line) => line.startsWith('add 10.244.1.0')).length, 2)
  assert.equal(ran.filter((line) => line.startsWith('add 10.244.2.0')).length, 1)
})

test('after a restart only the difference is done; after a reboot everything', async () => {
  using bench = new Bench()
  {
    await using runner = await bench.open()
    runner.setLocal(local)
    for (const i of [1, 2, 3]) runner.setPeer(`node-${i}`, lease(i), local)
    await bench.quiet(runner)
  }
  bench.ran.splice(0)
  const again = async (boot: string): Promise<string[]> => {
    bench.progress.splice(0)
    await using runner = await bench.open(boot)
    runner.setLocal(local)
    runner.setPeer('node-1', lease(1), local)
    runner.setPeer('node-2', lease(2, '192.168.0.77'), local)
    runner.removeLeftovers()
    return (await bench.quiet(runner)).toSorted()
  }
  assert.deepEqual(await again('this'), [
    'add 10.244.2.0/24 192.168.0.77 data 2',
    'post 10.244.0.0/24 192.168.0.1',
    'remove 10.244.2.0/24 192.168.0.3 data 2',
    'remove 10.244.3.0/24 192.168.0.4 data 3',
  ])
  bench.ran.splice(0)
  assert.deepEqual(await again('another'), [
    'add 10.244.1.0/24 192.168.0.2 data 1',
    'add 10.244.2.0/24 192.168.0.77 data 2',
    'post 10.244.0.0/24 192.168.0.1',
  ])
})

test('who was killed in the middle of an addition does it again; a damaged record costs only repetition', async () => {
  using bench = new Bench()
  const begun = { variables: { SUBNET: '10.244.1.0/24', PUBLIC_IP: '192.168.0.2' }, input: 'data 1', whole: false }
  writeFileSync(bench.file, JSON.stringify({ version: 1, boot: 'this', peers: { 'node-1': begun } }))
  {
    await using runner = await bench.open()
    runner.setLocal(local)
    runner.setPeer('node-1', lease(1), local)
    assert.ok((await bench.quiet(runner)).includes('add 10.244.1.0/24 192.168.0.2 data 1'))
  }
  writeFileSync(bench.file, '{"version":1,')
  bench.progress.splice(0)
  bench.ran.splice(0)
  await using runner = await bench.open()
  runner.setLocal(local)
  runner.setPeer('node-1', lease(1), local)
  assert.ok((await bench.quiet(runner)).includes('add 10.244.1.0/24 192.168.0.2 data 1'))
})

test('a real command: arguments as they are, environment, input, output; errors with what it said', async () => {
  const script = 'printf "%s|%s|" "$1" "$SUBNET"; cat; printf "|%s" "${HOME-no}" >&2'
  const { output } = await runCommand(['sh', '-c', script, 'x', 'a;b $SUBNET'], { SUBNET: '10.0.0.0/24' }, 'in')
  assert.equal(output, 'a;b 10.0.0.0/24|10.0.0.0/24|in|no')
  const fails = async (
    line: readonly [string, ...string[]],
    code: string,
    message: RegExp,
    ms?: number,
  ): Promise<void> =>
    assert.rejects(runCommand(line, {}, 'x'.repeat(100_000), ms), (error) => {
      assert.ok(error instanceof CommandError)
      assert.equal(error.code, code)
      assert.match(error.message, message)
      return true
    })
  await fails(['sh', '-c', 'echo no way >&2; exit 3'], 'failed', /sh ended with status 3: "no way"/)
  await fails(['/nonexistent/heddle'], 'not-started', /cannot be started: .*ENOENT/)
  await fails(['sh', '-c', 'sleep 100 & sleep 100'], 'timeout', /did not end within 0\.2 s and was killed/, 200)
  await fails(['sh', '-c', 'while :; do echo xxxxxxxxxxxxxxxxxxxx; done'], 'too-much', /printed more than 65536 bytes/)
})
