import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { arrayAt, at, objectAt, textAt } from '#kube/json.ts'
import type { Json } from '#kube/json.ts'
import { KubeClient } from '#kube/client.ts'
import { KubeError } from '#kube/errors.ts'
import { configMaps } from '#kube/resources.ts'
import { watch } from '#kube/watch.ts'
import { embeddedTarget, realTarget } from './target.ts'
import type { Answer, Target } from './target.ts'

interface Context {
  readonly target: Target
  /** A namespace of the case's own. */
  readonly ns: string
  /** A text that no other case has, for names of cluster-wide objects; what has it is deleted afterwards. */
  readonly id: string
  ask: Target['ask']
}

type Case = readonly [name: string, run: (context: Context) => Promise<void>, only?: 'embedded']

const STRATEGIC = 'application/strategic-merge-patch+json'
const MERGE = 'application/merge-patch+json'
const JSON_PATCH = 'application/json-patch+json'
const APPLY = 'application/apply-patch+yaml'
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'

const cm = (name: string, data: { readonly [key: string]: string } = {}, metadata: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, ...metadata },
  data,
})
const cms = ({ ns }: Context): string => `/api/v1/namespaces/${ns}/configmaps`
const rv = (answer: Answer): string => textAt(answer.body, 'metadata', 'resourceVersion') ?? ''
const names = (answer: Answer): readonly (string | undefined)[] =>
  arrayAt(answer.body, 'items').map((item) => textAt(item, 'metadata', 'name'))

function refused(answer: Answer, status: number, reason: string): void {
  assert.equal(answer.status, status, answer.text)
  assert.equal(textAt(answer.body, 'kind'), 'Status')
  assert.equal(textAt(answer.body, 'status'), 'Failure')
  assert.equal(textAt(answer.body, 'reason'), reason, answer.text)
  assert.equal(at(answer.body, 'code'), status)
  assert.ok((textAt(answer.body, 'message') ?? '').length > 0)
}

function done(answer: Answer, status = 200): Answer {
  assert.equal(answer.status, status, answer.text)
  return answer
}

/** The events of a watch that ends by itself. */
async function watched({ ask }: Context, path: string, query: string): Promise<readonly Json[]> {
  const answer = done(await ask('GET', `${path}?watch=true&timeoutSeconds=1&${query}`))
  return answer.text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}
const types = (events: readonly Json[]): readonly string[] =>
  events.map((event) => `${textAt(event, 'type')} ${textAt(event, 'object', 'metadata', 'name')}`)

function crd(id: string): object {
  const group = `${id}.example.com`
  const schema = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        required: ['cidr'],
        properties: {
          cidr: { type: 'string', pattern: '^[0-9./]+$' },
          size: { type: 'integer', minimum: 1, maximum: 32, default: 26 },
          mode: { type: 'string', enum: ['a', 'b'] },
          peers: {
            type: 'array',
            'x-kubernetes-list-type': 'map',
            'x-kubernetes-list-map-keys': ['name'],
            items: {
              type: 'object',
              required: ['name'],
              properties: { name: { type: 'string' }, asn: { type: 'integer' } },
            },
          },
        },
      },
      status: { type: 'object', properties: { used: { type: 'integer' } } },
    },
  }
  const column = { name: 'CIDR', type: 'string', jsonPath: '.spec.cidr' }
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `pools.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'pools', singular: 'pool', kind: 'Pool', listKind: 'PoolList', shortNames: [`p${id}`] },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: schema },
          additionalPrinterColumns: [column],
        },
      ],
    },
  }
}

/** Makes a definition and waits until its kind is served. */
async function define({ ask, id, ns }: Context): Promise<string> {
  done(await ask('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { body: crd(id) }), 201)
  const path = `/apis/${id}.example.com/v1/namespaces/${ns}/pools`
  const end = performance.now() + 20_000
  while ((await ask('GET', path)).status !== 200) {
    assert.ok(performance.now() < end, 'the kind is not served')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return path
}
const pool = (id: string, name: string, spec: object): object => ({
  apiVersion: `${id}.example.com/v1`,
  kind: 'Pool',
  metadata: { name },
  spec,
})

const CASES: readonly Case[] = [
  [
    'a created object has uid, resourceVersion and creationTimestamp, and is read back the same',
    async (c) => {
      const made = done(await c.ask('POST', cms(c), { body: cm('a', { k: 'v' }) }), 201)
      for (const field of ['uid', 'resourceVersion', 'creationTimestamp'])
        assert.ok(textAt(made.body, 'metadata', field), field)
      assert.equal(textAt(made.body, 'metadata', 'namespace'), c.ns)
      assert.deepEqual((await c.ask('GET', `${cms(c)}/a`)).body, made.body)
    },
  ],
  [
    'a name is given once: 409 AlreadyExists',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      const again = await c.ask('POST', cms(c), { body: cm('a') })
      refused(again, 409, 'AlreadyExists')
      assert.equal(textAt(again.body, 'message'), 'configmaps "a" already exists')
      assert.deepEqual(objectAt(again.body, 'details'), { name: 'a', kind: 'configmaps' })
    },
  ],
  [
    'what is not there is 404 with details',
    async (c) => {
      const answer = await c.ask('GET', `${cms(c)}/none`)
      refused(answer, 404, 'NotFound')
      assert.equal(textAt(answer.body, 'message'), 'configmaps "none" not found')
      refused(
        await c
          .ask('GET', '/apis/none.example.com/v1/x')
          .then((a) =>
            textAt(a.body, 'kind') === 'Status'
              ? a
              : { ...a, body: { kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404, message: a.text } },
          ),
        404,
        'NotFound',
      )
      refused(await c.ask('DELETE', `${cms(c)}/none`), 404, 'NotFound')
    },
  ],
  [
    'nothing is created in a namespace that is not there',
    async (c) => {
      refused(await c.ask('POST', `/api/v1/namespaces/${c.ns}-none/configmaps`, { body: cm('a') }), 404, 'NotFound')
    },
  ],
  [
    'an object for another namespace or of another kind is refused',
    async (c) => {
      refused(await c.ask('POST', cms(c), { body: cm('a', {}, { namespace: 'default' }) }), 400, 'BadRequest')
      refused(
        await c.ask('POST', cms(c), { body: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'a' } } }),
        400,
        'BadRequest',
      )
    },
  ],
  [
    'malformed bodies are 400 and unknown formats 415',
    async (c) => {
      refused(await c.ask('POST', cms(c), { body: '{' }), 400, 'BadRequest')
      refused(await c.ask('POST', cms(c), { body: 'x', type: 'text/plain' }), 415, 'UnsupportedMediaType')
      done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      refused(await c.ask('PATCH', `${cms(c)}/a`, { body: {}, type: 'application/json' }), 415, 'UnsupportedMediaType')
    },
  ],
  [
    'generateName makes names',
    async (c) => {
      const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { generateName: 'gen-' } }
      const made = done(await c.ask('POST', cms(c), { body }), 201)
      assert.match(textAt(made.body, 'metadata', 'name') ?? '', /^gen-[a-z0-9]{5}$/)
    },
  ],
  [
    'names and labels that break the rules are 422 with causes',
    async (c) => {
      const answer = await c.ask('POST', cms(c), { body: cm('Not_A_Name') })
      refused(answer, 422, 'Invalid')
      assert.equal(textAt(arrayAt(answer.body, 'details', 'causes')[0], 'field'), 'metadata.name')
      refused(await c.ask('POST', cms(c), { body: cm('a', {}, { labels: { 'a b': 'c' } }) }), 422, 'Invalid')
    },
  ],
  [
    'an update of an old state is 409 Conflict, of the present one a new version',
    async (c) => {
      const made = done(await c.ask('POST', cms(c), { body: cm('a', { k: '1' }) }), 201)
      const version = rv(made)
      const changed = done(
        await c.ask('PUT', `${cms(c)}/a`, { body: cm('a', { k: '2' }, { resourceVersion: version }) }),
      )
      assert.ok(Number(rv(changed)) > Number(version))
      const stale = await c.ask('PUT', `${cms(c)}/a`, { body: cm('a', { k: '3' }, { resourceVersion: version }) })
      refused(stale, 409, 'Conflict')
      assert.match(
        textAt(stale.body, 'message') ?? '',
        /^Operation cannot be fulfilled on configmaps "a": the object has been modified/,
      )
      assert.deepEqual(objectAt((await c.ask('GET', `${cms(c)}/a`)).body, 'data'), { k: '2' })
    },
  ],
  [
    'an update that changes nothing keeps the version',
    async (c) => {
      const made = done(await c.ask('POST', cms(c), { body: cm('a', { k: '1' }) }), 201)
      assert.equal(rv(done(await c.ask('PUT', `${cms(c)}/a`, { body: made.body }))), rv(made))
      assert.equal(rv(done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { data: { k: '1' } } }))), rv(made))
    },
  ],
  [
    'uid and creationTimestamp cannot be changed',
    async (c) => {
      const made = done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      const patch = { metadata: { creationTimestamp: '2001-01-01T00:00:00Z' }, data: { x: 'y' } }
      const changed = done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: patch }))
      assert.equal(
        textAt(changed.body, 'metadata', 'creationTimestamp'),
        textAt(made.body, 'metadata', 'creationTimestamp'),
      )
      refused(
        await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { metadata: { uid: 'other' } } }),
        409,
        'Conflict',
      )
    },
  ],
  [
    'merge patches merge and remove',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a', { x: '1', y: '2' }) }), 201)
      const patched = done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { data: { x: null, z: '3' } } }))
      assert.deepEqual(objectAt(patched.body, 'data'), { y: '2', z: '3' })
    },
  ],
  [
    'JSON patches are applied whole or not at all',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a', { x: '1' }) }), 201)
      const good = [
        { op: 'test', path: '/data/x', value: '1' },
        { op: 'add', path: '/data/y', value: '2' },
        { op: 'move', from: '/data/x', path: '/data/z' },
      ]
      const patched = done(await c.ask('PATCH', `${cms(c)}/a`, { type: JSON_PATCH, body: good }))
      assert.deepEqual(objectAt(patched.body, 'data'), { y: '2', z: '1' })
      const bad = [
        { op: 'remove', path: '/data/y' },
        { op: 'test', path: '/data/z', value: 'no' },
      ]
      refused(await c.ask('PATCH', `${cms(c)}/a`, { type: JSON_PATCH, body: bad }), 422, 'Invalid')
      assert.deepEqual(objectAt((await c.ask('GET', `${cms(c)}/a`)).body, 'data'), { y: '2', z: '1' })
    },
  ],
  [
    'a patch may name the state it is for',
    async (c) => {
      const made = done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      done(
        await c.ask('PATCH', `${cms(c)}/a`, {
          type: MERGE,
          body: { metadata: { resourceVersion: rv(made) }, data: { x: '1' } },
        }),
      )
      refused(
        await c.ask('PATCH', `${cms(c)}/a`, {
          type: MERGE,
          body: { metadata: { resourceVersion: rv(made) }, data: { x: '2' } },
        }),
        409,
        'Conflict',
      )
    },
  ],
  [
    "a Node's status is its own resource; conditions merge by type, annotations travel along",
    async (c) => {
      const path = `/api/v1/nodes/${c.id}`
      const status = {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'NetworkUnavailable', status: 'True', reason: 'NoRoute' },
        ],
      }
      done(
        await c.ask('POST', '/api/v1/nodes', {
          body: {
            apiVersion: 'v1',
            kind: 'Node',
            metadata: { name: c.id },
            spec: { podCIDR: '10.244.7.0/24', podCIDRs: ['10.244.7.0/24'] },
            status,
          },
        }),
        201,
      )
      const main = done(
        await c.ask('PATCH', path, {
          type: STRATEGIC,
          body: { metadata: { labels: { x: 'y' } }, status: { conditions: [{ type: 'Ready', status: 'False' }] } },
        }),
      )
      assert.equal(
        textAt(
          arrayAt(main.body, 'status', 'conditions').find((item) => textAt(item, 'type') === 'Ready'),
          'status',
        ),
        'True',
      )
      const patch = {
        metadata: { annotations: { 'flannel.alpha.coreos.com/backend-type': 'vxlan' } },
        status: { conditions: [{ type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp' }] },
      }
      const done_ = done(await c.ask('PATCH', `${path}/status`, { type: STRATEGIC, body: patch }))
      const conditions = arrayAt(done_.body, 'status', 'conditions')
      assert.equal(conditions.length, 2)
      assert.equal(
        textAt(
          conditions.find((item) => textAt(item, 'type') === 'NetworkUnavailable'),
          'reason',
        ),
        'FlannelIsUp',
      )
      assert.equal(textAt(done_.body, 'metadata', 'annotations', 'flannel.alpha.coreos.com/backend-type'), 'vxlan')
      refused(
        await c.ask('PATCH', path, {
          type: MERGE,
          body: { spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24'] } },
        }),
        422,
        'Invalid',
      )
    },
  ],
  [
    'strategic patches merge containers by name and keep the order that is asked for',
    async (c) => {
      const pods = `/api/v1/namespaces/${c.ns}/pods`
      const containers = [
        { name: 'a', image: 'one', ports: [{ containerPort: 80 }] },
        { name: 'b', image: 'two' },
      ]
      const made = done(
        await c.ask('POST', pods, {
          body: { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers, nodeName: c.id } },
        }),
        201,
      )
      assert.equal(textAt(made.body, 'status', 'phase'), 'Pending')
      assert.equal(textAt(arrayAt(arrayAt(made.body, 'spec', 'containers')[0], 'ports')[0], 'protocol'), 'TCP')
      const patched = done(
        await c.ask('PATCH', `${pods}/p`, {
          type: STRATEGIC,
          body: { spec: { containers: [{ name: 'b', image: 'three' }] } },
        }),
      )
      assert.deepEqual(
        arrayAt(patched.body, 'spec', 'containers').map((item) => textAt(item, 'image')),
        ['one', 'three'],
      )
      const status = { status: { phase: 'Running', podIP: '10.244.1.2', podIPs: [{ ip: '10.244.1.2' }] } }
      const running = done(await c.ask('PATCH', `${pods}/p/status`, { type: STRATEGIC, body: status }))
      assert.equal(textAt(running.body, 'status', 'podIP'), '10.244.1.2')
      const found = await c.ask(
        'GET',
        `/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${c.id},status.phase=Running`)}`,
      )
      assert.deepEqual(names(found), ['p'])
      refused(
        await c.ask('POST', pods, {
          body: { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'q' }, spec: { containers: [] } },
        }),
        422,
        'Invalid',
      )
      done(await c.ask('DELETE', `${pods}/p?gracePeriodSeconds=0`))
    },
  ],
  [
    'pages of a list show one state, whatever happens in between',
    async (c) => {
      for (const name of ['a', 'b', 'c', 'd', 'e'])
        done(await c.ask('POST', cms(c), { body: cm(name, {}, { labels: { page: 'x' } }) }), 201)
      const query = `${cms(c)}?labelSelector=page%3Dx&limit=2`
      const first = done(await c.ask('GET', query))
      assert.deepEqual(names(first), ['a', 'b'])
      done(await c.ask('DELETE', `${cms(c)}/d`))
      done(await c.ask('POST', cms(c), { body: cm('bb', {}, { labels: { page: 'x' } }) }), 201)
      const second = done(
        await c.ask('GET', `${query}&continue=${encodeURIComponent(textAt(first.body, 'metadata', 'continue') ?? '')}`),
      )
      assert.deepEqual(names(second), ['c', 'd'])
      assert.equal(rv(second), rv(first))
      const third = done(
        await c.ask(
          'GET',
          `${query}&continue=${encodeURIComponent(textAt(second.body, 'metadata', 'continue') ?? '')}`,
        ),
      )
      assert.deepEqual(names(third), ['e'])
      assert.equal(textAt(third.body, 'metadata', 'continue') ?? '', '')
      assert.deepEqual(names(await c.ask('GET', `${cms(c)}?labelSelector=page%3Dx`)), ['a', 'b', 'bb', 'c', 'e'])
      refused(await c.ask('GET', `${query}&continue=nonsense`), 400, 'BadRequest')
    },
  ],
  [
    'selectors select, and unknown fields are 400',
    async (c) => {
      for (const [name, labels] of [
        ['a', { t: 'x' }],
        ['b', { t: 'y' }],
        ['d', {}],
      ] as const)
        done(await c.ask('POST', cms(c), { body: cm(name, {}, { labels: { ...labels, all: '1' } }) }), 201)
      const select = async (selector: string): Promise<readonly (string | undefined)[]> =>
        names(done(await c.ask('GET', `${cms(c)}?labelSelector=${encodeURIComponent(`all,${selector}`)}`)))
      assert.deepEqual(await select('t in (x,y)'), ['a', 'b'])
      assert.deepEqual(await select('t!=x'), ['b', 'd'])
      assert.deepEqual(await select('!t'), ['d'])
      assert.deepEqual(await select('t,t notin (y)'), ['a'])
      assert.deepEqual(names(await c.ask('GET', `${cms(c)}?fieldSelector=metadata.name%3Db`)), ['b'])
      refused(await c.ask('GET', `${cms(c)}?labelSelector=${encodeURIComponent('a in x')}`), 400, 'BadRequest')
      refused(await c.ask('GET', `${cms(c)}?fieldSelector=data.x%3Dy`), 400, 'BadRequest')
    },
  ],
  [
    'a watch brings every change since a version, in order',
    async (c) => {
      const start = rv(await c.ask('GET', cms(c)))
      done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { data: { x: '1' } } }))
      const gone = done(await c.ask('DELETE', `${cms(c)}/a`))
      assert.equal(textAt(gone.body, 'status'), 'Success')
      const events = await watched(c, cms(c), `resourceVersion=${start}`)
      assert.deepEqual(types(events), ['ADDED a', 'MODIFIED a', 'DELETED a'])
      const versions = events.map((event) => Number(textAt(event, 'object', 'metadata', 'resourceVersion')))
      assert.deepEqual(
        versions,
        versions.toSorted((x, y) => x - y),
      )
    },
  ],
  [
    'a watch with a selector sees objects come into it and go out of it',
    async (c) => {
      const start = rv(await c.ask('GET', cms(c)))
      done(await c.ask('POST', cms(c), { body: cm('a', {}, { labels: { w: '1' } }) }), 201)
      done(await c.ask('POST', cms(c), { body: cm('b') }), 201)
      done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { metadata: { labels: { w: '2' } } } }))
      done(await c.ask('PATCH', `${cms(c)}/b`, { type: MERGE, body: { metadata: { labels: { w: '1' } } } }))
      const events = await watched(c, cms(c), `resourceVersion=${start}&labelSelector=w%3D1`)
      assert.deepEqual(types(events), ['ADDED a', 'DELETED a', 'ADDED b'])
    },
  ],
  [
    'a watch without a version begins with what there is',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a', {}, { labels: { s: '1' } }) }), 201)
      assert.deepEqual(types(await watched(c, cms(c), 'resourceVersion=0&labelSelector=s%3D1')), ['ADDED a'])
      assert.deepEqual(types(await watched(c, cms(c), 'labelSelector=s%3D1')), ['ADDED a'])
    },
  ],
  [
    'a version from the future is a timeout that says so',
    async (c) => {
      const future = Number(rv(await c.ask('GET', cms(c)))) + 1_000_000
      const answer = await c.ask('GET', `${cms(c)}?resourceVersion=${future}&resourceVersionMatch=NotOlderThan`)
      refused(answer, 504, 'Timeout')
      assert.equal(textAt(arrayAt(answer.body, 'details', 'causes')[0], 'reason'), 'ResourceVersionTooLarge')
    },
  ],
  [
    'a watch from a forgotten version gets 410 Expired as an event',
    async (c) => {
      const start = rv(done(await c.ask('POST', cms(c), { body: cm('a') }), 201))
      c.target.embedded?.store.compact()
      const [event] = await watched(c, cms(c), `resourceVersion=${start}`)
      assert.equal(textAt(event, 'type'), 'ERROR')
      assert.equal(at(event, 'object', 'code'), 410)
      assert.equal(textAt(event, 'object', 'reason'), 'Expired')
    },
    'embedded',
  ],
  [
    'an expired continue token is 410',
    async (c) => {
      for (const name of ['a', 'b']) done(await c.ask('POST', cms(c), { body: cm(name) }), 201)
      const first = done(await c.ask('GET', `${cms(c)}?limit=1`))
      c.target.embedded?.store.compact()
      refused(
        await c.ask('GET', `${cms(c)}?limit=1&continue=${textAt(first.body, 'metadata', 'continue')}`),
        410,
        'Expired',
      )
    },
    'embedded',
  ],
  [
    'sendInitialEvents streams the state, then a bookmark that ends it',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a', {}, { labels: { i: '1' } }) }), 201)
      const events = await watched(
        c,
        cms(c),
        'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=i%3D1',
      )
      assert.equal(textAt(events[0], 'type'), 'ADDED')
      assert.equal(textAt(events[1], 'type'), 'BOOKMARK')
      assert.equal(textAt(events[1], 'object', 'metadata', 'annotations', 'k8s.io/initial-events-end'), 'true')
    },
  ],
  [
    'finalizers hold a deletion until they are gone',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a', {}, { finalizers: ['example.com/hold'] }) }), 201)
      const marked = done(
        await c.ask('DELETE', `${cms(c)}/a`, { body: { propagationPolicy: 'Background', gracePeriodSeconds: 0 } }),
      )
      assert.ok(
        textAt(marked.body, 'metadata', 'deletionTimestamp') !== undefined ||
          textAt(marked.body, 'status') === 'Success',
      )
      assert.ok(textAt((await c.ask('GET', `${cms(c)}/a`)).body, 'metadata', 'deletionTimestamp'))
      done(await c.ask('PATCH', `${cms(c)}/a`, { type: MERGE, body: { metadata: { finalizers: null } } }))
      refused(await c.ask('GET', `${cms(c)}/a`), 404, 'NotFound')
    },
  ],
  [
    'a deletion may be bound to a uid',
    async (c) => {
      done(await c.ask('POST', cms(c), { body: cm('a') }), 201)
      refused(await c.ask('DELETE', `${cms(c)}/a`, { body: { preconditions: { uid: 'other' } } }), 409, 'Conflict')
      done(await c.ask('GET', `${cms(c)}/a`))
    },
  ],
  [
    'a collection is deleted by selector',
    async (c) => {
      for (const name of ['a', 'b'])
        done(await c.ask('POST', cms(c), { body: cm(name, {}, { labels: { d: name } }) }), 201)
      done(await c.ask('DELETE', `${cms(c)}?labelSelector=d%3Da`))
      assert.equal((await c.ask('GET', `${cms(c)}/a`)).status, 404)
      assert.equal((await c.ask('GET', `${cms(c)}/b`)).status, 200)
    },
  ],
  [
    'dryRun changes nothing',
    async (c) => {
      done(await c.ask('POST', `${cms(c)}?dryRun=All`, { body: cm('a') }), 201)
      refused(await c.ask('GET', `${cms(c)}/a`), 404, 'NotFound')
      done(await c.ask('POST', cms(c), { body: cm('b', { x: '1' }) }), 201)
      const dry = done(await c.ask('PATCH', `${cms(c)}/b?dryRun=All`, { type: MERGE, body: { data: { x: '2' } } }))
      assert.equal(textAt(dry.body, 'data', 'x'), '2')
      done(await c.ask('DELETE', `${cms(c)}/b?dryRun=All`))
      assert.equal(textAt((await c.ask('GET', `${cms(c)}/b`)).body, 'data', 'x'), '1')
    },
  ],
  [
    'leases are created by PUT, and updated only with a version',
    async (c) => {
      const path = `/apis/coordination.k8s.io/v1/namespaces/${c.ns}/leases/l`
      const lease = (spec: object, metadata: object = {}): object => ({
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: 'l', ...metadata },
        spec,
      })
      const made = done(
        await c.ask('PUT', path, { body: lease({ holderIdentity: 'x', leaseDurationSeconds: 15 }) }),
        201,
      )
      refused(await c.ask('PUT', path, { body: lease({ holderIdentity: 'y' }) }), 422, 'Invalid')
      done(await c.ask('PUT', path, { body: lease({ holderIdentity: 'y' }, { resourceVersion: rv(made) }) }))
      refused(await c.ask('PATCH', path, { type: MERGE, body: { spec: { leaseDurationSeconds: 0 } } }), 422, 'Invalid')
    },
  ],
  [
    'events are one kind in two groups',
    async (c) => {
      const event = {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: 'e' },
        involvedObject: { kind: 'Pod', name: 'p', namespace: c.ns },
        reason: 'Added',
        message: 'hello',
        type: 'Normal',
      }
      done(await c.ask('POST', `/api/v1/namespaces/${c.ns}/events`, { body: event }), 201)
      const other = done(await c.ask('GET', `/apis/events.k8s.io/v1/namespaces/${c.ns}/events/e`))
      assert.equal(textAt(other.body, 'note'), 'hello')
      assert.equal(textAt(other.body, 'regarding', 'name'), 'p')
      assert.equal(textAt(other.body, 'apiVersion'), 'events.k8s.io/v1')
      const selector = encodeURIComponent('involvedObject.name=p,type!=Warning')
      assert.deepEqual(names(await c.ask('GET', `/api/v1/namespaces/${c.ns}/events?fieldSelector=${selector}`)), ['e'])
    },
  ],
  [
    'a definition makes its kind: discovery, defaults, pruning, validation, status, generation',
    async (c) => {
      const path = await define(c)
      const group = `${c.id}.example.com`
      const list = done(await c.ask('GET', `/apis/${group}/v1`))
      assert.deepEqual(
        arrayAt(list.body, 'resources')
          .map((item) => textAt(item, 'name') ?? '')
          .toSorted((x, y) => (x < y ? -1 : 1)),
        ['pools', 'pools/status'],
      )
      const made = done(
        await c.ask('POST', path, {
          body: { ...pool(c.id, 'a', { cidr: '10.0.0.0/8', unknown: 1 }), status: { used: 5 } },
        }),
        201,
      )
      assert.deepEqual(objectAt(made.body, 'spec'), { cidr: '10.0.0.0/8', size: 26 })
      assert.equal(at(made.body, 'status'), undefined)
      assert.equal(at(made.body, 'metadata', 'generation'), 1)
      const strict = await c.ask('POST', `${path}?fieldValidation=Strict`, {
        body: pool(c.id, 'b', { cidr: '1', unknown: 1 }),
      })
      refused(strict, 400, 'BadRequest')
      assert.match(textAt(strict.body, 'message') ?? '', /unknown field "spec.unknown"/)
      for (const spec of [
        {},
        { cidr: 'x' },
        { cidr: 1 },
        { cidr: '1', size: 0 },
        { cidr: '1', size: 33 },
        { cidr: '1', mode: 'c' },
      ]) {
        refused(await c.ask('POST', path, { body: pool(c.id, 'bad', spec) }), 422, 'Invalid')
      }
      const status = done(
        await c.ask('PATCH', `${path}/a/status`, { type: MERGE, body: { spec: { size: 3 }, status: { used: 7 } } }),
      )
      assert.equal(at(status.body, 'status', 'used'), 7)
      assert.equal(at(status.body, 'spec', 'size'), 26)
      assert.equal(at(status.body, 'metadata', 'generation'), 1)
      const changed = done(
        await c.ask('PATCH', `${path}/a`, { type: MERGE, body: { spec: { size: 3 }, status: { used: 9 } } }),
      )
      assert.equal(at(changed.body, 'status', 'used'), 7)
      assert.equal(at(changed.body, 'metadata', 'generation'), 2)
      refused(await c.ask('PATCH', `${path}/a`, { type: STRATEGIC, body: {} }), 415, 'UnsupportedMediaType')
      refused(await c.ask('PUT', `${path}/a`, { body: pool(c.id, 'a', { cidr: '1' }) }), 422, 'Invalid')
      const table = done(await c.ask('GET', path, { accept: TABLE }))
      assert.deepEqual(
        arrayAt(table.body, 'columnDefinitions').map((item) => textAt(item, 'name')),
        ['Name', 'CIDR'],
      )
      assert.deepEqual(arrayAt(arrayAt(table.body, 'rows')[0], 'cells'), ['a', '10.0.0.0/8'])
      const events = await watched(c, path, 'resourceVersion=0')
      assert.deepEqual(types(events), ['ADDED a'])
    },
  ],
  [
    'a definition that ends takes its objects along',
    async (c) => {
      const path = await define(c)
      done(await c.ask('POST', path, { body: pool(c.id, 'a', { cidr: '1' }) }), 201)
      done(await c.ask('DELETE', `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.${c.id}.example.com`))
      const end = performance.now() + 20_000
      while ((await c.ask('GET', path)).status !== 404) {
        assert.ok(performance.now() < end)
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    },
  ],
  [
    'definitions that cannot be served are 422',
    async (c) => {
      const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
      refused(
        await c.ask('POST', path, { body: { ...crd(c.id), metadata: { name: 'wrong.example.com' } } }),
        422,
        'Invalid',
      )
      const bare = {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `x.${c.id}.example.com` },
        spec: { group: `${c.id}.example.com`, scope: 'Galaxy', names: { plural: 'x', kind: 'X' }, versions: [] },
      }
      refused(await c.ask('POST', path, { body: bare }), 422, 'Invalid')
    },
  ],
  [
    'server-side apply owns fields: conflicts, force, removal',
    async (c) => {
      const apply = (manager: string, data: object, more = ''): Promise<Answer> =>
        c.ask('PATCH', `${cms(c)}/a?fieldManager=${manager}${more}`, {
          type: APPLY,
          body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' }, data },
        })
      const made = done(await apply('one', { x: '1', y: '1' }), 201)
      assert.equal(textAt(arrayAt(made.body, 'metadata', 'managedFields')[0], 'manager'), 'one')
      done(await apply('two', { z: '1' }))
      const conflict = await apply('two', { x: '2', z: '1' })
      refused(conflict, 409, 'Conflict')
      const [cause] = arrayAt(conflict.body, 'details', 'causes')
      assert.equal(textAt(cause, 'reason'), 'FieldManagerConflict')
      assert.equal(textAt(cause, 'field'), '.data.x')
      assert.match(textAt(cause, 'message') ?? '', /conflict with "one"/)
      assert.deepEqual(objectAt(done(await apply('two', { x: '2', z: '1' }, '&force=true')).body, 'data'), {
        x: '2',
        y: '1',
        z: '1',
      })
      assert.deepEqual(objectAt(done(await apply('one', {})).body, 'data'), { x: '2', z: '1' })
      refused(await c.ask('PATCH', `${cms(c)}/a`, { type: APPLY, body: cm('a') }), 422, 'Invalid')
      const again = done(await apply('one', {}))
      assert.equal(rv(done(await apply('one', {}))), rv(again))
    },
  ],
  [
    'server-side apply merges keyed lists of custom kinds',
    async (c) => {
      const path = await define(c)
      const apply = (manager: string, spec: object): Promise<Answer> =>
        c.ask('PATCH', `${path}/a?fieldManager=${manager}`, { type: APPLY, body: pool(c.id, 'a', spec) })
      done(await apply('one', { cidr: '1', peers: [{ name: 'p', asn: 1 }] }), 201)
      const both = done(await apply('two', { peers: [{ name: 'q', asn: 2 }], cidr: '1' }))
      assert.deepEqual(arrayAt(both.body, 'spec', 'peers'), [
        { name: 'p', asn: 1 },
        { name: 'q', asn: 2 },
      ])
      const less = done(await apply('one', { cidr: '1' }))
      assert.deepEqual(arrayAt(less.body, 'spec', 'peers'), [{ name: 'q', asn: 2 }])
    },
  ],
  [
    'Tables have the columns of the kind',
    async (c) => {
      done(
        await c.ask('POST', '/api/v1/nodes', {
          body: {
            apiVersion: 'v1',
            kind: 'Node',
            metadata: { name: c.id, labels: { 'node-role.kubernetes.io/worker': '' } },
            status: { conditions: [{ type: 'Ready', status: 'True' }] },
          },
        }),
        201,
      )
      const table = done(await c.ask('GET', `/api/v1/nodes/${c.id}`, { accept: TABLE }))
      assert.equal(textAt(table.body, 'kind'), 'Table')
      const columns = arrayAt(table.body, 'columnDefinitions').map((item) => textAt(item, 'name'))
      assert.deepEqual(columns, [
        'Name',
        'Status',
        'Roles',
        'Age',
        'Version',
        'Internal-IP',
        'External-IP',
        'OS-Image',
        'Kernel-Version',
        'Container-Runtime',
      ])
      const cells = arrayAt(arrayAt(table.body, 'rows')[0], 'cells')
      assert.deepEqual(
        [cells[0], cells[1], cells[2], cells[5], cells[7]],
        [c.id, 'Ready', 'worker', '<none>', '<unknown>'],
      )
      assert.equal(textAt(arrayAt(table.body, 'rows')[0], 'object', 'kind'), 'PartialObjectMetadata')
    },
  ],
  [
    'discovery lists versions, groups and resources, in both forms',
    async (c) => {
      assert.deepEqual(arrayAt((await c.ask('GET', '/api')).body, 'versions'), ['v1'])
      const groups = arrayAt(done(await c.ask('GET', '/apis')).body, 'groups').map((item) => textAt(item, 'name'))
      for (const group of [
        'coordination.k8s.io',
        'discovery.k8s.io',
        'networking.k8s.io',
        'apiextensions.k8s.io',
        'events.k8s.io',
      ])
        assert.ok(groups.includes(group), group)
      const core = arrayAt(done(await c.ask('GET', '/api/v1')).body, 'resources')
      const node = core.find((item) => textAt(item, 'name') === 'nodes')
      assert.equal(textAt(node, 'kind'), 'Node')
      assert.equal(at(node, 'namespaced'), false)
      assert.deepEqual(arrayAt(node, 'shortNames'), ['no'])
      assert.ok(core.some((item) => textAt(item, 'name') === 'nodes/status'))
      const both = done(
        await c.ask('GET', '/apis', {
          accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json',
        }),
      )
      assert.equal(textAt(both.body, 'kind'), 'APIGroupDiscoveryList')
      assert.equal(
        textAt(arrayAt(done(await c.ask('GET', '/apis/coordination.k8s.io')).body, 'versions')[0], 'version'),
        'v1',
      )
      for (const path of ['/healthz', '/livez', '/readyz']) assert.equal((await c.ask('GET', path)).text, 'ok')
      assert.ok(textAt((await c.ask('GET', '/version')).body, 'gitVersion'))
      assert.ok(at((await c.ask('GET', '/openapi/v3')).body, 'paths', 'api/v1'))
    },
  ],
  [
    'a namespace takes its content along, and takes nothing new while it goes',
    async (c) => {
      const name = `${c.id}-going`
      const path = `/api/v1/namespaces/${name}/configmaps`
      const ns = done(
        await c.ask('POST', '/api/v1/namespaces', {
          body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
        }),
        201,
      )
      assert.equal(textAt(ns.body, 'status', 'phase'), 'Active')
      assert.equal(textAt(ns.body, 'metadata', 'labels', 'kubernetes.io/metadata.name'), name)
      done(await c.ask('POST', path, { body: cm('held', {}, { finalizers: ['example.com/hold'] }) }), 201)
      done(await c.ask('POST', path, { body: cm('free') }), 201)
      const going = done(await c.ask('DELETE', `/api/v1/namespaces/${name}`))
      assert.equal(textAt(going.body, 'status', 'phase'), 'Terminating')
      refused(await c.ask('GET', `${path}/free`), 404, 'NotFound')
      refused(await c.ask('POST', path, { body: cm('new') }), 403, 'Forbidden')
      done(await c.ask('PATCH', `${path}/held`, { type: MERGE, body: { metadata: { finalizers: [] } } }))
      refused(await c.ask('GET', `/api/v1/namespaces/${name}`), 404, 'NotFound')
    },
    'embedded',
  ],
  [
    'the client lists, watches, and names errors',
    async (c) => {
      using client = new KubeClient(c.target.config)
      const ref = { namespace: c.ns, name: 'a' }
      const { resourceVersion } = await client.list(configMaps, { namespace: c.ns })
      const made = await client.create(configMaps, { metadata: { ...ref }, data: { x: '1' } })
      assert.equal(made.data?.['x'], '1')
      await assert.rejects(
        client.create(configMaps, { metadata: ref }),
        (error) => error instanceof KubeError && error.code === 'already-exists' && error.status === 409,
      )
      await assert.rejects(client.update(configMaps, { metadata: { ...ref, resourceVersion: '1' } }), {
        code: 'conflict',
      })
      await client.patch(configMaps, ref, { type: 'merge', body: { data: { y: '2' } } })
      await client.patch(
        configMaps,
        ref,
        { type: 'apply', body: { metadata: { name: 'a' }, data: { z: '3' } } },
        { fieldManager: 'tester' },
      )
      await client.delete(configMaps, ref)
      await assert.rejects(client.get(configMaps, ref), { code: 'not-found' })
      const seen: string[] = []
      const stop = new AbortController()
      for await (const event of watch(client, configMaps, { namespace: c.ns, resourceVersion, signal: stop.signal })) {
        if (event.type === 'bookmark') continue
        seen.push(event.type)
        if (event.type === 'deleted') break
      }
      assert.deepEqual(seen, ['added', 'modified', 'modified', 'deleted'])
    },
  ],
]

function suite(name: string, start: () => Promise<Target>): void {
  describe(`the Kubernetes API of ${name}`, () => {
    let target: Target
    before(
      async () => {
        target = await start()
      },
      { timeout: 150_000 },
    )
    after(() => target.close())
    for (const [title, run, only] of CASES) {
      it(title, { timeout: 60_000 }, async (t) => {
        if (only === 'embedded' && target.embedded === undefined) {
          t.skip('needs controllers or a hand on etcd, which a bare API server does not give')
          return
        }
        const id = `heddle${randomBytes(4).toString('hex')}`
        const context: Context = { target, ns: id, id, ask: (method, path, ask) => target.ask(method, path, ask) }
        done(
          await target.ask('POST', '/api/v1/namespaces', {
            body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: id } },
          }),
          201,
        )
        try {
          await run(context)
        } finally {
          await target.ask('DELETE', `/api/v1/nodes/${id}`)
          await target.ask('DELETE', `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.${id}.example.com`)
          await target.ask('DELETE', `/api/v1/namespaces/${id}`)
        }
      })
    }
  })
}

suite('the embedded server', embeddedTarget)
const real = realTarget()
if ('skip' in real) it('the Kubernetes API of a real kube-apiserver', { skip: real.skip }, () => {})
else suite('a real kube-apiserver', real.start)
