/** The shim under the compiler's sanitizers, against an agent that answers nonsense. */

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import fc from 'fast-check'

const dir = mkdtempSync(join(tmpdir(), 'cni-shim-fuzz-'))
process.on('exit', () => rmSync(dir, { recursive: true, force: true }))
const shim = join(dir, 'noop')

/** A compiler without sanitizers (musl, some containers) is a reason to skip. */
function compile(): string | false {
  const source = join(import.meta.dirname, '..', '..', 'native', 'shim')
  const files = readdirSync(source).filter((name) => name.endsWith('.c'))
  const flags = ['-std=gnu11', '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']
  try {
    execFileSync('cc', [...flags, '-o', shim, ...files.map((name) => join(source, name))], { stdio: 'pipe' })
    return false
  } catch (error) {
    return `cc cannot build with sanitizers: ${error instanceof Error ? error.message.slice(0, 200) : 'unknown'}`
  }
}

interface Ran {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: Buffer
  readonly stderr: string
}

function run(verb: string, variable: string, stdin: Uint8Array, socket: string): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const env = {
      CNI_COMMAND: verb,
      CNI_X: variable,
      HEDDLE_SOCKET: socket,
      HEDDLE_NODE: '/nonexistent',
      ASAN_OPTIONS: 'detect_leaks=0',
    }
    const child = spawn(shim, [], { env })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.stdin.on('error', () => {})
    child.once('error', reject)
    child.once('close', (code, signal) => {
      resolve({ code, signal, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString('latin1') })
    })
    child.stdin.end(stdin)
  })
}

const word = fc.string({ maxLength: 3000 }).map((text) => text.replaceAll('\0', ''))

/** Half of them are frames by their first bytes. */
const answer = fc.tuple(fc.uint8Array({ maxLength: 80 }), fc.boolean(), fc.nat(100)).map(([bytes, fix, errLength]) => {
  const frame = Buffer.from(bytes)
  if (!fix || frame.length < 11) return frame
  frame.writeUInt32BE(frame.length - 4, 0)
  frame.set([1, (frame[5] ?? 0) % 2], 4)
  frame.writeUInt32BE(errLength, 7)
  return frame
})

test('nothing an agent answers makes the shim read or write where it should not', { skip: compile() }, async () => {
  let next = Buffer.alloc(0)
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(next))
  })
  const path = join(dir, 's.sock')
  await new Promise<void>((resolve) => void server.listen(path, () => resolve()))
  try {
    const verb = fc.oneof(
      fc.constantFrom('ADD', 'DEL', 'STATUS', 'VERSION'),
      word.filter((text) => text !== ''),
    )
    await fc.assert(
      fc.asyncProperty(
        verb,
        word,
        fc.uint8Array({ maxLength: 100_000 }),
        answer,
        async (command, variable, stdin, bytes) => {
          next = bytes
          const ran = await run(command, variable, stdin, path)
          assert.equal(ran.signal, null)
          assert.ok(!/Sanitizer|runtime error/.test(ran.stderr), ran.stderr)
        },
      ),
      { numRuns: 150 },
    )
  } finally {
    await new Promise((resolve) => void server.close(resolve))
  }
})
