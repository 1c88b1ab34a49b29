import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { equal, isObject } from '../../json.ts'
import type { Json, JsonObject } from '../../json.ts'
import { applyConfig, ApplyError, toManagedFields } from './apply.ts'
import { fieldsOf, fromFieldsV1, toFieldsV1 } from './field-set.ts'
import { JsonPatchError, jsonPatch } from './json.ts'
import { listRulesOf } from './list-rules.ts'
import { mergeDiff, mergePatch } from './merge.ts'
import { StrategicPatchError, strategicPatch } from './strategic.ts'

const json = (): fc.Arbitrary<Json> =>
  fc.letrec<{ value: Json }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      fc.constantFrom(null, true, 0, 1, 'a', ''),
      fc.string({ maxLength: 4 }),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(
        fc.constantFrom('a', 'b', 'name', 'spec', 'containers', '$patch', '__proto__', 'x/y~z'),
        tie('value'),
        { maxKeys: 4 },
      ),
    ),
  })).value

const object = (): fc.Arbitrary<JsonObject> =>
  fc.dictionary(fc.constantFrom('a', 'spec', 'metadata', 'containers', 'status', '$retainKeys'), json(), { maxKeys: 4 })

const withoutNulls = (value: Json): boolean =>
  value !== null && (Array.isArray(value) || !isObject(value) || Object.values(value).every(withoutNulls))

function freeze<T extends Json>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) freeze(item)
    Object.freeze(value)
  }
  return value
}

const pod = listRulesOf('Pod')

describe('merge patch', () => {
  const cases: readonly (readonly [Json, Json, Json])[] = [
    // RFC 7386, appendix A.
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ]
  it('follows the examples of RFC 7386', () => {
    for (const [target, patch, expected] of cases) assert.deepEqual(mergePatch(target, patch), expected)
  })
  it('applies what mergeDiff makes', () => {
    fc.assert(
      fc.property(json(), json().filter(withoutNulls), (from, to) => {
        assert.ok(equal(mergePatch(from, mergeDiff(from, to)), to))
      }),
    )
  })
  it('changes neither input', () => {
    fc.assert(fc.property(json(), json(), (target, patch) => void mergePatch(freeze(target), freeze(patch))))
  })
})

describe('JSON patch', () => {
  const good: readonly (readonly [string, Json, Json, Json])[] = [
    ['adds a member', { foo: 'bar' }, [{ op: 'add', path: '/baz', value: 'qux' }], { baz: 'qux', foo: 'bar' }],
    [
      'adds an element',
      { foo: ['bar', 'baz'] },
      [{ op: 'add', path: '/foo/1', value: 'qux' }],
      { foo: ['bar', 'qux', 'baz'] },
    ],
    ['appends', { foo: ['bar'] }, [{ op: 'add', path: '/foo/-', value: ['abc'] }], { foo: ['bar', ['abc']] }],
    ['removes a member', { baz: 'qux', foo: 'bar' }, [{ op: 'remove', path: '/baz' }], { foo: 'bar' }],
    ['removes an element', { foo: [1, 2, 3] }, [{ op: 'remove', path: '/foo/1' }], { foo: [1, 3] }],
    ['replaces', { baz: 'qux' }, [{ op: 'replace', path: '/baz', value: 'boo' }], { baz: 'boo' }],
    ['moves a value', { a: { b: 1 }, c: {} }, [{ op: 'move', from: '/a/b', path: '/c/d' }], { a: {}, c: { d: 1 } }],
    [
      'moves an element',
      { foo: [1, 2, 3, 4] },
      [{ op: 'move', from: '/foo/1', path: '/foo/3' }],
      { foo: [1, 3, 4, 2] },
    ],
    ['copies', { a: 1 }, [{ op: 'copy', from: '/a', path: '/b' }], { a: 1, b: 1 }],
    [
      'tests values whatever their key order',
      { a: { x: 1, y: 2 } },
      [{ op: 'test', path: '/a', value: { y: 2, x: 1 } }],
      { a: { x: 1, y: 2 } },
    ],
    ['unescapes ~01 to ~1', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: 10 }], { '/': 9, '~1': 10 }],
    ['replaces the whole document', { a: 1 }, [{ op: 'replace', path: '', value: 2 }], 2],
    ['adds a null', {}, [{ op: 'add', path: '/a', value: null }], { a: null }],
    ['ignores unknown members', {}, [{ op: 'add', path: '/a', value: 1, xyz: 1 }], { a: 1 }],
    ['takes the empty key', { '': 1 }, [{ op: 'replace', path: '/', value: 2 }], { '': 2 }],
    ['treats __proto__ as data', {}, [{ op: 'add', path: '/__proto__', value: 1 }], JSON.parse('{"__proto__":1}')],
  ]
  for (const [name, target, patch, expected] of good) {
    it(name, () => assert.ok(equal(jsonPatch(freeze(target), freeze(patch)), expected)))
  }
  const bad: readonly (readonly [string, Json, Json, string])[] = [
    ['a missing parent', { foo: 'bar' }, [{ op: 'add', path: '/baz/bat', value: 1 }], 'not-applicable'],
    ['an index out of range', { foo: [1] }, [{ op: 'add', path: '/foo/8', value: 1 }], 'not-applicable'],
    ['a leading zero', { foo: [1, 2] }, [{ op: 'test', path: '/foo/01', value: 2 }], 'not-applicable'],
    ['removing what is not there', {}, [{ op: 'remove', path: '/a' }], 'not-applicable'],
    ['replacing what is not there', {}, [{ op: 'replace', path: '/a', value: 1 }], 'not-applicable'],
    ['moving into itself', { a: { b: 1 } }, [{ op: 'move', from: '/a', path: '/a/b' }], 'not-applicable'],
    ['a failing test', { a: 1 }, [{ op: 'test', path: '/a', value: '1' }], 'test-failed'],
    ['an unknown operation', {}, [{ op: 'spam', path: '/a' }], 'malformed'],
    ['a missing value', {}, [{ op: 'add', path: '/a' }], 'malformed'],
    ['a relative pointer', {}, [{ op: 'add', path: 'a', value: 1 }], 'malformed'],
    ['what is no array', {}, { op: 'add' }, 'malformed'],
    ['inherited members', {}, [{ op: 'test', path: '/constructor/name', value: 'Object' }], 'not-applicable'],
  ]
  for (const [name, target, patch, code] of bad) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => jsonPatch(target, patch),
        (error) => error instanceof JsonPatchError && error.code === code,
      )
    })
  }
  it('refuses copies that double without end', () => {
    const bomb = Array.from({ length: 40 }, () => ({ op: 'copy', from: '/a', path: '/a/-' }))
    assert.throws(() => jsonPatch({ a: ['x'.repeat(100)] }, bomb), { code: 'too-large' })
  })
  it('throws nothing but JsonPatchError, and changes nothing', () => {
    const pointer = fc
      .array(fc.constantFrom('a', 'b', '0', '1', '-', 'x~1y~0z', 'spec'), { maxLength: 3 })
      .map((parts) => parts.map((p) => `/${p}`).join(''))
    const operation = fc.record(
      {
        op: fc.constantFrom('add', 'remove', 'replace', 'move', 'copy', 'test'),
        path: pointer,
        from: pointer,
        value: json(),
      },
      { requiredKeys: ['op', 'path'] },
    )
    fc.assert(
      fc.property(json(), fc.array(operation, { maxLength: 5 }), (target, patch) => {
        try {
          jsonPatch(freeze(target), freeze(patch))
        } catch (error) {
          assert.ok(error instanceof JsonPatchError, String(error))
        }
      }),
    )
  })
})

describe('strategic merge patch', () => {
  const apply = (target: JsonObject, patch: JsonObject): JsonObject =>
    strategicPatch(freeze(target), freeze(patch), pod)
  it('merges containers by name, and their ports by containerPort', () => {
    const before = {
      spec: { containers: [{ name: 'a', image: '1', ports: [{ containerPort: 80, name: 'w' }] }, { name: 'b' }] },
    }
    const patch = { spec: { containers: [{ name: 'a', image: '2', ports: [{ containerPort: 81 }] }, { name: 'c' }] } }
    assert.deepEqual(apply(before, patch), {
      spec: {
        containers: [
          { name: 'a', image: '2', ports: [{ containerPort: 80, name: 'w' }, { containerPort: 81 }] },
          { name: 'b' },
          { name: 'c' },
        ],
      },
    })
  })
  it('deletes items and maps by $patch', () => {
    const before = { spec: { containers: [{ name: 'a' }, { name: 'b' }], nodeSelector: { x: 'y' } } }
    const patch = { spec: { containers: [{ name: 'a', $patch: 'delete' }], nodeSelector: { $patch: 'delete' } } }
    assert.deepEqual(apply(before, patch), { spec: { containers: [{ name: 'b' }] } })
  })
  it('replaces lists and maps by $patch', () => {
    const before = { spec: { containers: [{ name: 'a' }, { name: 'b' }] }, metadata: { labels: { a: '1', b: '2' } } }
    const patch = {
      spec: { containers: [{ $patch: 'replace' }, { name: 'z' }] },
      metadata: { labels: { $patch: 'replace', c: '3' } },
    }
    assert.deepEqual(apply(before, patch), { spec: { containers: [{ name: 'z' }] }, metadata: { labels: { c: '3' } } })
  })
  it('keeps only the keys of $retainKeys', () => {
    const before = { spec: { volumes: [{ name: 'v', emptyDir: {}, x: 1 }] } }
    const patch = { spec: { volumes: [{ name: 'v', hostPath: { path: '/' }, $retainKeys: ['name', 'hostPath'] }] } }
    assert.deepEqual(apply(before, patch), { spec: { volumes: [{ name: 'v', hostPath: { path: '/' } }] } })
  })
  it('orders by $setElementOrder and deletes from primitive lists', () => {
    const before = { metadata: { finalizers: ['a', 'b', 'c'] }, spec: { containers: [{ name: 'a' }, { name: 'b' }] } }
    const patch = {
      metadata: {
        '$deleteFromPrimitiveList/finalizers': ['b'],
        finalizers: ['d'],
        '$setElementOrder/finalizers': ['d', 'c', 'a'],
      },
      spec: {
        '$setElementOrder/containers': [{ name: 'n' }, { name: 'b' }, { name: 'a' }],
        containers: [{ name: 'n' }],
      },
    }
    assert.deepEqual(apply(before, patch), {
      metadata: { finalizers: ['d', 'c', 'a'] },
      spec: { containers: [{ name: 'n' }, { name: 'b' }, { name: 'a' }] },
    })
  })
  it('merges conditions by type and replaces tolerations whole', () => {
    const before = {
      spec: { tolerations: [{ key: 'a' }] },
      status: { conditions: [{ type: 'Ready', status: 'False', reason: 'x' }] },
    }
    const patch = { spec: { tolerations: [{ key: 'b' }] }, status: { conditions: [{ type: 'Ready', status: 'True' }] } }
    assert.deepEqual(apply(before, patch), {
      spec: { tolerations: [{ key: 'b' }] },
      status: { conditions: [{ type: 'Ready', status: 'True', reason: 'x' }] },
    })
  })
  it('leaves no directive behind where nothing was', () => {
    const patch = {
      spec: { containers: [{ name: 'a', env: [{ name: 'X', $patch: 'delete' }], $retainKeys: ['name', 'env'] }] },
    }
    assert.deepEqual(apply({}, patch), { spec: { containers: [{ name: 'a', env: [] }] } })
  })
  it('refuses items without their merge key', () => {
    assert.throws(() => apply({ spec: { containers: [] } }, { spec: { containers: [{ image: 'x' }] } }), {
      code: 'no-merge-key',
    })
  })
  it('throws nothing but StrategicPatchError, and changes nothing', () => {
    fc.assert(
      fc.property(object(), object(), (target, patch) => {
        try {
          strategicPatch(freeze(target), freeze(patch), pod)
        } catch (error) {
          assert.ok(error instanceof StrategicPatchError, String(error))
        }
      }),
    )
  })
  it('equals a merge patch where there are neither lists nor directives', () => {
    const plain = fc.letrec<{ value: Json }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom<Json[]>(null, 1, 'a'),
        fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value')),
      ),
    })).value
    const map = fc.dictionary(fc.constantFrom('a', 'b', 'c'), plain)
    fc.assert(
      fc.property(map, map, (target, patch) =>
        assert.ok(equal(strategicPatch(target, patch, pod), mergePatch(target, patch))),
      ),
    )
  })
})

describe('server-side apply', () => {
  const by = (name: string) => ({ name, subresource: '', apiVersion: 'v1', time: '2026-01-01T00:00:00Z' })
  const run = (live: JsonObject | undefined, config: JsonObject, name: string, force = false): JsonObject => {
    const result = applyConfig(live, config, by(name), pod, force)
    if (!result.ok)
      throw new Error(result.conflicts.map(({ manager, path }) => `${manager.name}:${path.join('/')}`).join(','))
    const metadata = isObject(result.object['metadata']) ? result.object['metadata'] : {}
    return { ...result.object, metadata: { ...metadata, managedFields: toManagedFields(result.managers) } }
  }
  const config = (spec: JsonObject): JsonObject => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec })

  it('removes what a manager no longer applies, and keeps what others own', () => {
    const first = run(
      undefined,
      config({
        containers: [
          { name: 'a', image: '1' },
          { name: 'b', image: '1' },
        ],
        nodeName: 'n',
      }),
      'one',
    )
    const second = run(first, config({ containers: [{ name: 'b', image: '1' }], hostname: 'h' }), 'two')
    const third = run(second, config({ containers: [{ name: 'a', image: '1' }] }), 'one')
    assert.deepEqual(third['spec'], {
      containers: [
        { name: 'a', image: '1' },
        { name: 'b', image: '1' },
      ],
      hostname: 'h',
    })
    const fourth = run(third, config({ hostname: 'h' }), 'two')
    assert.deepEqual(fourth['spec'], { containers: [{ name: 'a', image: '1' }], hostname: 'h' })
  })
  it('reports fields that others own with other values, and takes them when forced', () => {
    const first = run(undefined, config({ containers: [{ name: 'a', image: '1' }] }), 'one')
    const change = config({ containers: [{ name: 'a', image: '2' }] })
    assert.throws(() => run(first, change, 'two'), /one:f:spec\/f:containers\/k:\{"name":"a"\}\/f:image/)
    const forced = run(first, change, 'two', true)
    assert.deepEqual(forced['spec'], change['spec'])
    assert.throws(() => run(forced, config({ containers: [{ name: 'a', image: '1' }] }), 'one'), /two:/)
  })
  it('changes nothing when applied a second time', () => {
    fc.assert(
      fc.property(object(), (spec) => {
        let once: JsonObject
        try {
          once = run(undefined, config(spec), 'm')
        } catch (error) {
          // Lists that break their rules are refused, and by this error alone.
          assert.ok(error instanceof ApplyError, String(error))
          return
        }
        assert.ok(equal(run(once, config(spec), 'm'), once))
      }),
    )
  })
  it('reads back the field sets that it writes', () => {
    fc.assert(
      fc.property(object(), (spec) => {
        const fields = fieldsOf(config(spec), pod)
        assert.deepEqual([...fromFieldsV1(toFieldsV1(fields)).keys()].toSorted(), [...fields.keys()].toSorted())
      }),
    )
  })
})
