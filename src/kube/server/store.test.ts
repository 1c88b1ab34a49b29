import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { textOf } from '../json.ts'
import type { ApiObject } from './object.ts'
import { ApiError } from './status.ts'
import { Store } from './store.ts'

const object = (name: string, value: number): ApiObject => ({ apiVersion: 'v1', kind: 'X', metadata: { name }, value })
const code = (expected: number) => (error: unknown) => error instanceof ApiError && error.code === expected

describe('Store', () => {
  it('numbers all changes with one counter', () => {
    const store = new Store()
    const versions = [
      store.put('a', 'x', object('x', 1)),
      store.put('b', 'y', object('y', 1)),
      store.put('a', 'x', object('x', 2)),
    ]
    const numbers = versions.map(({ metadata }) => Number(metadata.resourceVersion))
    assert.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
    )
    assert.equal(new Set(numbers).size, 3)
    const gone = store.remove('a', 'x')
    assert.ok(Number(gone?.metadata.resourceVersion) > Math.max(...numbers))
  })

  it('shows every past state that its history reaches, and 410 for the others', () => {
    const step = fc.record({
      key: fc.constantFrom('a', 'b', 'c'),
      value: fc.integer({ min: 0, max: 9 }),
      remove: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 8 }), (steps, limit) => {
        const store = new Store(limit)
        const states: (readonly [number, readonly string[]])[] = [[store.version, []]]
        const model = new Map<string, number>()
        for (const { key, value, remove } of steps) {
          if (remove) {
            store.remove('s', key)
            model.delete(key)
          } else {
            store.put('s', key, object(key, value))
            model.set(key, value)
          }
          states.push([store.version, [...model].map(([k, v]) => `${k}=${v}`).toSorted()])
        }
        const byVersion = new Map(states)
        let reached = true
        for (const [version, expected] of [...byVersion].toReversed()) {
          try {
            const seen = store.list('s', version).map((entry) => `${entry.key}=${textOf(entry.object['value'])}`)
            assert.deepEqual(seen, expected)
            assert.ok(reached, 'a gap in the history')
          } catch (error) {
            assert.ok(code(410)(error), String(error))
            reached = false
          }
        }
        assert.throws(() => store.list('s', store.version + 1), code(504))
      }),
    )
  })

  it('tells subscribers each change once, with the state before', () => {
    const store = new Store()
    const seen: string[] = []
    const stop = store.subscribe('s', (event) =>
      seen.push(`${event.type} ${textOf(event.previous?.['value'])} ${textOf(event.object['value'])}`),
    )
    store.put('s', 'a', object('a', 1))
    store.put('s', 'a', object('a', 2))
    store.put('other', 'a', object('a', 9))
    store.remove('s', 'a')
    stop()
    store.put('s', 'a', object('a', 3))
    assert.deepEqual(seen, ['ADDED  1', 'MODIFIED 1 2', 'DELETED 2 2'])
  })

  it('forgets its history when compacted', () => {
    const store = new Store()
    const before = Number(store.put('s', 'a', object('a', 1)).metadata.resourceVersion)
    assert.equal(store.since('s', before).length, 0)
    store.compact()
    assert.throws(() => store.since('s', before), code(410))
    assert.deepEqual(store.since('s', store.version), [])
  })

  it('continues its versions after a restore', () => {
    const store = new Store()
    store.put('s', 'a', object('a', 1))
    const last = store.put('s', 'b', object('b', 1))
    const other = new Store()
    other.restore(JSON.parse(JSON.stringify(store.snapshot())))
    assert.deepEqual(other.list('s'), store.list('s'))
    assert.ok(
      Number(other.put('s', 'c', object('c', 1)).metadata.resourceVersion) > Number(last.metadata.resourceVersion),
    )
    assert.throws(() => other.since('s', 1), code(410))
  })
})
