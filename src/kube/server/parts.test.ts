import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Json, JsonObject } from '../json.ts'
import { humanDuration } from './duration.ts'
import { jsonPath } from './json-path.ts'
import { negotiate } from './negotiate.ts'
import type { ApiObject } from './object.ts'
import { decodeProtobuf } from './protobuf.ts'
import { compareVersions } from './registry.ts'
import { parseRequest } from './request.ts'
import { prune, validate, withDefaults } from './schema.ts'
import { fieldSelector, labelSelector, pinnedName } from './selectors.ts'
import { ApiError } from './status.ts'

const labelled = (labels: { readonly [key: string]: string }): ApiObject => ({
  apiVersion: 'v1',
  kind: 'X',
  metadata: { name: 'x', labels },
})

describe('label selectors', () => {
  const cases: readonly (readonly [string, { readonly [key: string]: string }, boolean])[] = [
    ['', {}, true],
    ['a=b', { a: 'b' }, true],
    ['a==b,c!=d', { a: 'b' }, true],
    ['a=b,c!=d', { a: 'b', c: 'd' }, false],
    ['a', { a: '' }, true],
    ['!a', {}, true],
    ['!a', { a: 'x' }, false],
    ['a in (x, y)', { a: 'y' }, true],
    ['a in (x,y)', {}, false],
    ['a notin (x,y)', {}, true],
    ['a notin (x,y),b', { a: 'z', b: '1' }, true],
    ['n>5', { n: '6' }, true],
    ['n<5', { n: '6' }, false],
    ['flannel.alpha.coreos.com/backend-type=vxlan', { 'flannel.alpha.coreos.com/backend-type': 'vxlan' }, true],
    ['constructor', {}, false],
  ]
  for (const [selector, labels, expected] of cases) {
    it(`${JSON.stringify(selector)} on ${JSON.stringify(labels)}: ${expected}`, () => {
      assert.equal(labelSelector(selector)(labelled(labels)), expected)
    })
  }
  it('refuse what they cannot read, and only by ApiError', () => {
    for (const bad of ['a in x', '=b', 'a=(b)', 'a b', 'n>x', ','])
      assert.throws(() => labelSelector(bad), { code: 400 })
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          labelSelector(text)(labelled({ a: 'b' }))
        } catch (error) {
          assert.ok(error instanceof ApiError)
        }
      }),
    )
  })
})

describe('field selectors', () => {
  const fields = { 'spec.nodeName': ['spec', 'nodeName'], 'spec.unschedulable': ['spec', 'unschedulable'] }
  const pod: ApiObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'n' },
    spec: { nodeName: 'a,b' },
  }
  it('match, negate, and unescape', () => {
    assert.ok(fieldSelector(String.raw`spec.nodeName=a\,b,metadata.namespace!=x`, fields)(pod))
    assert.ok(!fieldSelector('spec.nodeName=', fields)(pod))
    assert.ok(fieldSelector('spec.unschedulable=false', fields)(pod))
    assert.throws(() => fieldSelector('spec.other=x', fields), /field label not supported: spec.other/)
  })
  it('find a pinned name', () => {
    assert.equal(pinnedName('metadata.namespace=a,metadata.name=b'), 'b')
    assert.equal(pinnedName('metadata.name!=b'), undefined)
  })
})

describe('structural schemas', () => {
  const schema: JsonObject = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        required: ['cidr'],
        properties: {
          cidr: { type: 'string', pattern: '^[0-9./]+$', maxLength: 18 },
          size: { type: 'integer', minimum: 1, maximum: 32, default: 26 },
          mode: { type: 'string', enum: ['a', 'b'] },
          port: { 'x-kubernetes-int-or-string': true },
          list: {
            type: 'array',
            'x-kubernetes-list-type': 'map',
            'x-kubernetes-list-map-keys': ['n'],
            items: { type: 'object', properties: { n: { type: 'string' }, d: { type: 'string', default: 'x' } } },
          },
          free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
          map: { type: 'object', additionalProperties: { type: 'integer' } },
        },
      },
    },
  }
  const fieldsOf = (value: Json): readonly string[] =>
    validate(value, schema).map((error) => `${error.field} ${error.reason}`)
  it('name the field and the reason', () => {
    assert.deepEqual(fieldsOf({ spec: { cidr: '10.0.0.0/8', size: 3, mode: 'a', port: 'http', map: { a: 1 } } }), [])
    assert.deepEqual(fieldsOf({ spec: {} }), ['spec.cidr FieldValueRequired'])
    assert.deepEqual(fieldsOf({ spec: { cidr: 1 } }), ['spec.cidr FieldValueTypeInvalid'])
    assert.deepEqual(fieldsOf({ spec: { cidr: 'x' } }), ['spec.cidr FieldValueInvalid'])
    assert.deepEqual(fieldsOf({ spec: { cidr: '1', size: 33, mode: 'c' } }), [
      'spec.size FieldValueInvalid',
      'spec.mode FieldValueNotSupported',
    ])
    assert.deepEqual(fieldsOf({ spec: { cidr: '1', size: 1.5 } }), ['spec.size FieldValueTypeInvalid'])
    assert.deepEqual(fieldsOf({ spec: { cidr: '1', port: true } }), ['spec.port FieldValueInvalid'])
    assert.deepEqual(fieldsOf({ spec: { cidr: '1', list: [{ n: 'a' }, { n: 'a' }] } }), [
      'spec.list[1] FieldValueInvalid',
    ])
    assert.deepEqual(fieldsOf({ spec: { cidr: '1', map: { a: 'x' } } }), ['spec.map.a FieldValueTypeInvalid'])
  })
  it('fill defaults, prune unknown fields, and keep what must be kept', () => {
    assert.deepEqual(withDefaults({ spec: { cidr: '1', list: [{ n: 'a' }] } }, schema), {
      spec: { cidr: '1', size: 26, list: [{ n: 'a', d: 'x' }] },
    })
    const pruned = prune(
      { spec: { cidr: '1', bad: 1, free: { x: { y: 1 } }, map: { z: 1 }, list: [{ n: 'a', q: 1 }] }, top: 1 },
      schema,
    )
    assert.deepEqual(pruned.value, { spec: { cidr: '1', free: { x: { y: 1 } }, map: { z: 1 }, list: [{ n: 'a' }] } })
    assert.deepEqual(pruned.dropped, ['spec.bad', 'spec.list[0].q', 'top'])
  })
  it('pruned and defaulted values stay as they are when it is done again', () => {
    const value = fc.dictionary(
      fc.constantFrom('spec', 'x'),
      fc.dictionary(fc.constantFrom('cidr', 'size', 'list', 'free', 'y'), fc.jsonValue()),
    )
    fc.assert(
      fc.property(value, (raw) => {
        const json: Json = JSON.parse(JSON.stringify(raw))
        const once = withDefaults(prune(json, schema).value, schema)
        assert.deepEqual(prune(once, schema), { value: once, dropped: [] })
        assert.deepEqual(withDefaults(once, schema), once)
        validate(once, schema)
      }),
    )
  })
})

describe('small parts', () => {
  it('ages read as kubectl prints them', () => {
    const second = 1000
    const cases: readonly (readonly [number, string])[] = [
      [0, '0s'],
      [119, '119s'],
      [120, '2m'],
      [125, '2m5s'],
      [599, '9m59s'],
      [600, '10m'],
      [10_799, '179m'],
      [10_800, '3h'],
      [10_860, '3h1m'],
      [28_800, '8h'],
      [172_800, '2d'],
      [176_400, '2d1h'],
      [691_200, '8d'],
      [63_072_000, '2y'],
      [-5, '<invalid>'],
    ]
    for (const [seconds, text] of cases) assert.equal(humanDuration(seconds * second), text)
  })
  it('versions are ordered by stability, then by number', () => {
    const sorted = ['v1alpha1', 'v2', 'foo', 'v1beta2', 'v10', 'v1', 'v1beta1'].toSorted(compareVersions)
    assert.deepEqual(sorted, ['v10', 'v2', 'v1', 'v1beta2', 'v1beta1', 'v1alpha1', 'foo'])
  })
  it('JSONPaths of printer columns find what they mean', () => {
    const value = {
      status: {
        conditions: [
          { type: 'A', status: '1' },
          { type: 'Ready', status: 'True' },
        ],
      },
      metadata: { labels: { 'a.b/c': 'd' } },
      list: [1, 2, 3],
    }
    const find = (path: string): readonly Json[] | undefined => jsonPath(path)?.(value)
    assert.deepEqual(find('.status.conditions[?(@.type=="Ready")].status'), ['True'])
    assert.deepEqual(find('.list[-1]'), [3])
    assert.deepEqual(find('.list[*]'), [1, 2, 3])
    assert.deepEqual(find(String.raw`.metadata.labels['a.b/c']`), ['d'])
    assert.deepEqual(find('.none.at.all'), [])
    assert.equal(find('.bad['), undefined)
  })
  it('the first representation that can be served wins', () => {
    assert.deepEqual(negotiate('application/json;as=Table;v=v1;g=meta.k8s.io,application/json'), {
      as: 'Table',
      version: 'v1',
    })
    assert.deepEqual(negotiate('application/vnd.kubernetes.protobuf,application/json')?.as, undefined)
    assert.equal(negotiate('application/xml'), undefined)
    assert.deepEqual(negotiate(undefined), { as: undefined, version: '' })
  })
  it('paths are read as resources', () => {
    const read = (url: string): string => {
      const { group, version, namespace, plural, name, subresource, watch } = parseRequest('GET', url)
      return [group, version, namespace ?? '-', plural, name, subresource, String(watch)].join(' ')
    }
    assert.equal(read('/api/v1/nodes/n1/status'), ' v1 - nodes n1 status false')
    assert.equal(read('/api/v1/namespaces/x'), ' v1 - namespaces x  false')
    assert.equal(read('/api/v1/namespaces/x/status'), ' v1 - namespaces x status false')
    assert.equal(read('/apis/a.b/v1/namespaces/x/pools?watch=true'), 'a.b v1 x pools   true')
    assert.equal(read('/version'), '  -    false')
    assert.throws(() => parseRequest('GET', '/api/v1/nodes/%zz'), { code: 400 })
  })
  it('protobuf bodies are read, and hostile ones refused', () => {
    // ConfigMap {metadata{name:"c"}, data{"a":"b"}} as kubectl create sends it.
    const meta = Buffer.from([0x0a, 0x03, 0x0a, 0x01, 0x63])
    const data = Buffer.from([0x12, 0x06, 0x0a, 0x01, 0x61, 0x12, 0x01, 0x62])
    const raw = Buffer.concat([meta, data])
    const type = Buffer.concat([
      Buffer.from([0x0a, 0x02]),
      Buffer.from('v1'),
      Buffer.from([0x12, 0x09]),
      Buffer.from('ConfigMap'),
    ])
    const unknown = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, raw.length]), raw])
    const body = Buffer.concat([Buffer.from('k8s\0'), unknown])
    assert.deepEqual(decodeProtobuf(body), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'c' },
      data: { a: 'b' },
    })
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, mutate) => {
        const hostile = mutate
          ? Buffer.concat([body.subarray(0, body.length - (bytes.length % 20)), Buffer.from(bytes)])
          : Buffer.concat([Buffer.from('k8s\0'), Buffer.from(bytes)])
        try {
          decodeProtobuf(hostile)
        } catch (error) {
          assert.ok(error instanceof ApiError, String(error))
        }
      }),
    )
  })
})
