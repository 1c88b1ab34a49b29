/** What an enemy would send, and what every parser has to make of it: a value, or one of its own errors, soon, and nothing else changed. */

import assert from 'node:assert/strict'

import fc from 'fast-check'

import { slowness } from '../slow.ts'

/** No input is longer than some kilobytes here, so every parser is done in far less. */
const MOST_MS = 1_000 * slowness

/** Words that mean something to somebody: to JavaScript, to a file system, to a terminal, to a shell, to a number parser. */
const words = fc.constantFrom(
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
  '',
  ' ',
  '.',
  '..',
  '../../../../tmp/x',
  '/',
  '/proc/self/ns/net',
  'a\0b',
  '\u001b[2J',
  '\ud800',
  '$(id)',
  '`id`',
  ';id',
  '%s%n',
  '0',
  '-0',
  '-1',
  '1e309',
  'NaN',
  'Infinity',
  '0x10',
  '08',
  '1_0',
  '4294967296',
  '18446744073709551616',
  'null',
  'true',
  '10.0.0.0/0',
  '0.0.0.0/0',
  '::/0',
  '::ffff:10.0.0.1',
  'fe80::1%eth0',
  '10.0.0.1/33',
  '256.1.1.1',
  '1.2.3',
  '00:00:00:00:00:00',
)

const numbers = fc.constantFrom(
  0,
  -0,
  -1,
  0.5,
  1e21,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  2 ** 64,
  -(2 ** 31) - 1,
  65_536,
  Number.MAX_VALUE,
)

export const text = fc.oneof(
  words,
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ maxLength: 1_000, size: 'max' }),
)

const leaf = fc.oneof(text, numbers, fc.constantFrom(null, true, false, [], {}, [[]], [null], [{}]))

/** Any JSON value, with keys that hurt. Objects are made of entries, because `__proto__` cannot be written otherwise. */
export const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(fc.oneof(words, fc.string({ maxLength: 10 })), tie('value')), { maxLength: 4 }).map(objectOf),
  ),
})).value

/** An object with exactly these own properties, whatever their names. */
function objectOf(entries: readonly (readonly [string, unknown])[]): unknown {
  const made = {}
  for (const [key, value] of entries)
    Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true })
  return made
}

/** A step to a place in a value: which of the members, and what happens to it at the end. */
interface Change {
  readonly path: readonly number[]
  readonly how: 'replace' | 'remove' | 'add'
  readonly key: string
  readonly value: unknown
}

const change: fc.Arbitrary<Change> = fc.record({
  path: fc.array(fc.nat(20), { maxLength: 5 }),
  how: fc.constantFrom('replace', 'replace', 'remove', 'add'),
  key: fc.oneof(words, fc.string({ maxLength: 10 })),
  value: json,
})

const isParent = (value: unknown): value is object => typeof value === 'object' && value !== null

function changed(value: unknown, { path, how, key, value: other }: Change, depth = 0): unknown {
  const step = path[depth]
  if (!isParent(value)) return other
  const entries = Object.entries(value)
  if (step === undefined || entries.length === 0)
    return how === 'add' ? rebuilt(value, [...entries, [key, other]]) : other
  const at = step % entries.length
  if (how === 'remove' && depth === path.length - 1) return rebuilt(value, entries.toSpliced(at, 1))
  const [name, member] = entries[at] ?? ['', undefined]
  return rebuilt(value, entries.with(at, [name, changed(member, { path, how, key, value: other }, depth + 1)]))
}

const rebuilt = (like: object, entries: readonly (readonly [string, unknown])[]): unknown =>
  Array.isArray(like) ? entries.map(([, member]) => member) : objectOf(entries)

/** Good values with a few things wrong. */
export const mutated = (samples: readonly unknown[]): fc.Arbitrary<unknown> =>
  fc
    .tuple(fc.constantFrom(...samples), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([sample, changes]) => changes.reduce<unknown>((value, one) => changed(value, one), sample))

/** JSON text: a good document with other values in it, one with other characters in it, any JSON, or no JSON at all. */
export const jsonText = (...samples: readonly unknown[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: mutated(samples).map((value) => JSON.stringify(value)) },
    { weight: 2, arbitrary: damagedText(samples.map((sample) => JSON.stringify(sample))) },
    { weight: 1, arbitrary: json.map((value) => JSON.stringify(value)) },
    { weight: 1, arbitrary: text },
    // Deeper than any stack.
    fc.nat(10_000).map((depth) => '['.repeat(depth)),
    fc.nat(10_000).map((depth) => '{"a":'.repeat(depth)),
  )

interface Edit {
  readonly at: number
  readonly remove: number
  readonly put: string
}

const edit: fc.Arbitrary<Edit> = fc.record({
  at: fc.nat(),
  remove: fc.nat(8),
  put: fc.oneof(
    words,
    fc.string({ unit: 'binary', maxLength: 4 }),
    fc.constantFrom('"', '{', '}', '[', ',', '\n', '=', '\\'),
  ),
})

/** Good text, cut, doubled, or with other characters in it. */
export const damagedText = (samples: readonly string[]): fc.Arbitrary<string> =>
  fc
    .tuple(fc.constantFrom(...samples), fc.array(edit, { minLength: 1, maxLength: 5 }), fc.nat(10))
    .map(([sample, edits, cut]) => {
      let now = sample
      for (const { at, remove, put } of edits) {
        const start = at % (now.length + 1)
        now = now.slice(0, start) + put + now.slice(start + remove)
      }
      return cut === 0 ? now.slice(0, now.length / 2) : cut === 1 ? now + now : now
    })

/** Bytes: good ones with a few others, or cut, or any. */
export const bytes = (samples: readonly Uint8Array[], maxLength = 400): fc.Arbitrary<Uint8Array> => {
  const any = fc.uint8Array({ maxLength, size: 'max' })
  if (samples.length === 0) return any
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 })
  const damaged = fc.tuple(fc.constantFrom(...samples), edits, fc.option(fc.nat())).map(([sample, changes, cut]) => {
    const copy = Uint8Array.from(sample)
    for (const [at, value] of changes) if (copy.length > 0) copy[at % copy.length] = value
    return cut === null ? copy : copy.subarray(0, cut % (copy.length + 1))
  })
  return fc.oneof({ weight: 3, arbitrary: damaged }, any)
}

/** Netlink attributes, nested in each other, most of them whole: what random bytes hardly ever are. Source: linux/netlink.h, struct nlattr. */
export const attributes: fc.Arbitrary<Uint8Array> = fc.letrec<{ list: Uint8Array }>((tie) => ({
  list: fc
    .array(
      fc.tuple(
        fc.oneof(fc.nat(70), fc.nat(0xffff)),
        fc.oneof({ depthSize: 'small' }, fc.uint8Array({ maxLength: 20 }), tie('list')),
        fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.integer({ min: -6, max: 40 })),
      ),
      { maxLength: 6 },
    )
    .map((items) =>
      Buffer.concat(
        items.map(([type, payload, lie]) => {
          const length = 4 + payload.length
          const attribute = Buffer.alloc((length + 3) & ~3)
          attribute.writeUInt16LE(Math.max(0, length + lie), 0)
          attribute.writeUInt16LE(type, 2)
          attribute.set(payload, 4)
          return attribute
        }),
      ),
    ),
})).list

type ErrorClass = abstract new (...args: never) => Error

/** Runs a parser on one input. Fails unless it answers, or throws one of its own errors, in good time, and leaves every object's prototype alone. */
export function survives(parse: () => unknown, ...errors: readonly ErrorClass[]): void {
  const started = performance.now()
  try {
    parse()
  } catch (error) {
    assertOwn(error, errors)
  } finally {
    assertUnharmed(started)
  }
}

/** The same for what answers later. */
export async function survivesLater(parse: () => Promise<unknown>, ...errors: readonly ErrorClass[]): Promise<void> {
  const started = performance.now()
  try {
    await parse()
  } catch (error) {
    assertOwn(error, errors)
  } finally {
    assertUnharmed(started)
  }
}

function assertOwn(error: unknown, errors: readonly ErrorClass[]): void {
  if (errors.some((known) => error instanceof known)) return
  throw new Error('not an error of its own', { cause: error })
}

function assertUnharmed(started: number): void {
  const took = performance.now() - started
  assert.ok(took < MOST_MS, `it took ${Math.round(took)} ms`)
  for (const prototype of [Object.prototype, Array.prototype, Function.prototype])
    assert.deepEqual(Object.keys(prototype), [], 'a prototype was changed')
}
