import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { writeFileAtomic, writeFileAtomicSync } from './atomic-file.ts'
import { Journal, journalLine, readJournal } from './journal.ts'

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'heddle-journal-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

const anyRecords = fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 8 })
const textOf = (records: readonly unknown[]): Buffer => Buffer.from(records.map(journalLine).join(''))
/** JSON has no -0, so compare through it. */
const asJson = (records: readonly unknown[]): unknown[] => JSON.parse(JSON.stringify(records))

test('a journal cut anywhere holds a prefix of its records, and says how much of it is sound', () => {
  fc.assert(
    fc.property(anyRecords, fc.nat(), (records, at) => {
      const whole = textOf(records)
      const { records: read, sound, corruptLine } = readJournal(whole.subarray(0, at % (whole.length + 1)))
      assert.equal(corruptLine, undefined)
      assert.deepEqual(read, asJson(records.slice(0, read.length)))
      assert.deepEqual(textOf(read), whole.subarray(0, sound))
    }),
  )
})

test('a changed byte before the last line is noticed', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(), { minLength: 2, maxLength: 5 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (records, at, flip) => {
        const whole = textOf(records)
        const lastLine = whole.lastIndexOf(0x0a, whole.length - 2) + 1
        const index = at % lastLine
        whole[index] = (whole[index] ?? 0) ^ flip
        const { records: read, corruptLine } = readJournal(whole)
        assert.ok(corruptLine !== undefined || read.length < records.length)
      },
    ),
  )
})

test('what was appended is there after reopening; a torn line is cut off and the next one is sound', async (t) => {
  const path = join(folder(t), 'j')
  {
    await using opened = (await Journal.open(path)).journal
    await Promise.all([1, 2, 3].map((n) => opened.append({ n })))
  }
  assert.equal(statSync(path).mode & 0o777, 0o600)
  appendFileSync(path, journalLine({ n: 4 }).slice(0, -3))
  const again = await Journal.open(path)
  assert.deepEqual(again.records, [{ n: 1 }, { n: 2 }, { n: 3 }])
  await again.journal.append({ n: 5 })
  await again.journal[Symbol.asyncDispose]()
  assert.deepEqual(readJournal(readFileSync(path)).records, [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 5 }])
  await assert.rejects(again.journal.append({}), { code: 'closed' })
})

test('compaction keeps the meaning, whatever is appended meanwhile', async (t) => {
  const path = join(folder(t), 'j')
  const { journal } = await Journal.open(path)
  const state = new Map<string, number>()
  const put = (key: string, value: number): Promise<void> => {
    state.set(key, value)
    return journal.append([key, value])
  }
  await put('a', 1)
  await put('a', 2)
  const work = [put('b', 1), journal.compact(() => [...state]), put('c', 1), put('a', 3)]
  await Promise.all(work)
  await put('d', 4)
  await journal[Symbol.asyncDispose]()
  const replayed = new Map(readJournal(readFileSync(path)).records as [string, number][])
  assert.deepEqual(replayed, state)
  assert.ok(!readFileSync(path, 'utf8').includes('["a",1]'))
})

test('a damaged journal is refused, not silently shortened', async (t) => {
  const path = join(folder(t), 'j')
  writeFileSync(path, `${journalLine(1)}00000000 2\n${journalLine(3)}`)
  await assert.rejects(Journal.open(path), { code: 'corrupt', message: /line 2 of .*restore/ })
})

test('an atomic write replaces all or nothing, with its mode', async (t) => {
  const dir = folder(t)
  const path = join(dir, 'file')
  await writeFileAtomic(path, 'one', { mode: 0o640 })
  assert.equal(statSync(path).mode & 0o777, 0o640)
  writeFileAtomicSync(path, 'two')
  assert.equal(readFileSync(path, 'utf8'), 'two')
  await assert.rejects(writeFileAtomic(join(dir, 'missing', 'file'), 'x'), { code: 'ENOENT' })
  assert.deepEqual(readdirSync(dir), ['file'])
})
