import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { endProcesses, isAlive, MARK, markedProcesses, processOf, signal, startTimeIn } from './process.ts'

const sleeper = async (env: NodeJS.ProcessEnv = {}): Promise<ChildProcess & { pid: number }> => {
  const child = spawn('sleep', ['60'], { env: { ...process.env, ...env }, stdio: 'ignore' })
  await once(child, 'spawn')
  return Object.assign(child, { pid: child.pid! })
}

test('the start time is read past any command name; a zombie is no process', () => {
  const rest = '1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2'
  assert.equal(startTimeIn(`42 (a) b (c)) S ${rest}`), 987654)
  assert.equal(startTimeIn(`42 (x) Z ${rest}`), undefined)
  assert.equal(startTimeIn(''), undefined)
})

test('a process is known again, and gone when it is gone', async () => {
  const child = await sleeper()
  try {
    const id = processOf(child.pid)
    assert.ok(id !== undefined && isAlive(id))
    const other = { pid: child.pid, startTime: id.startTime - 1 }
    assert.equal(isAlive(other), false)
    assert.equal(signal(other, 'SIGKILL'), false, 'another start time: never killed')
    assert.ok(isAlive(id))
    assert.deepEqual(await endProcesses([id], 2000), [])
    assert.equal(isAlive(id), false)
  } finally {
    child.kill('SIGKILL')
  }
})

test('marked processes are found by their environment, and only those', async () => {
  const id = randomUUID()
  const marked = await sleeper({ [MARK]: id })
  const other = await sleeper({ [MARK]: `${id}x` })
  try {
    assert.deepEqual(
      markedProcesses(id).map(({ pid }) => pid),
      [marked.pid],
    )
  } finally {
    marked.kill('SIGKILL')
    other.kill('SIGKILL')
  }
})

test('a process that ignores SIGTERM is killed after the grace', async () => {
  const child = spawn(process.execPath, [
    '-e',
    'process.on("SIGTERM", () => {}); console.log(1); setInterval(() => {}, 1000)',
  ])
  try {
    await once(child.stdout, 'data')
    const id = processOf(child.pid!)!
    assert.deepEqual(await endProcesses([id], 100), [])
    assert.equal(isAlive(id), false)
  } finally {
    child.kill('SIGKILL')
  }
})
