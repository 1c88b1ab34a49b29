/** What a check asks and answers itself, while its only thread is late. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'

import { ipText } from '#ip/address.ts'
import { askTcp } from '#lab/check/ask.ts'
import { tcpResponder } from '#lab/check/responder.ts'
import { needsRoot, TestNetns } from '../namespace.ts'
import { slowness } from '../slow.ts'

const IDLE = 400
const PORT = 80

/** The thread does something else. */
function late(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

test('a thread that is late resets nobody; who says nothing is given up', { skip: needsRoot }, async () => {
  using ns = new TestNetns('lab')
  ns.run('ip', 'link', 'set', 'lo', 'up')
  const ip = ipText('127.0.0.1')
  using _ = tcpResponder({ name: 'pod', namespace: ns.name, ips: [ip] }, 4, PORT, IDLE)
  const question = { namespace: ns.name, family: 4, ip, port: PORT, timeoutMs: 60_000 } as const
  // How many rounds it takes until a connection was accepted and nothing of it read yet is the kernel's affair.
  for (let rounds = 0; rounds < 6; rounds++) {
    const asked = [1, 2, 3].map(() => askTcp(question, 65_536))
    for (let round = 0; round < rounds; round++) await setImmediate()
    late(IDLE * 1.5)
    for (const answer of await Promise.all(asked)) assert.deepEqual(answer, { name: 'pod', source: ip, bytes: 65_536 })
  }
  // It ends when the other side closes.
  const silent = `require('node:net').connect(${PORT}, '127.0.0.1').on('error', () => {}).resume()`
  const child = spawn('nsenter', [`--net=${ns.path}`, process.execPath, '-e', silent], { stdio: 'ignore' })
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000 * slowness)
  const [code] = (await once(child, 'exit')) as [number | null]
  clearTimeout(timer)
  assert.equal(code, 0, 'who says nothing is given up')
})
