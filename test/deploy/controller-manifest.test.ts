/** The controller's manifest and chart: flags that there are, no privilege, and the same rights in both. What it asks for is held in test/controller/election.test.ts. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { parseAllDocuments, parseDocument } from 'yaml'

import { controllerCommand } from '../../src/cli/controller.ts'

const deploy = join(import.meta.dirname, '../../deploy')
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8')

interface Shape {
  readonly kind: string
  readonly rules?: unknown
  readonly spec?: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly image: string
          readonly args: readonly string[]
          readonly securityContext: object
          readonly volumeMounts: readonly { readonly name: string }[]
        }[]
        readonly volumes: readonly { readonly name: string }[]
      }
    }
  }
}

const objects = parseAllDocuments(read('heddle-controller.yml')).map((document) => {
  assert.deepEqual(document.errors, [])
  return document.toJS() as Shape
})
const chart = read('chart/heddle/templates/controller.yaml')
const kinds = ['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding', 'Deployment']

test('flags that there are, no privilege, every volume mounted, the version of the package', () => {
  assert.deepEqual(
    objects.map(({ kind }) => kind),
    kinds,
  )
  const pod = objects.find(({ kind }) => kind === 'Deployment')?.spec?.template.spec
  const [main] = pod?.containers ?? []
  assert.ok(pod !== undefined && main !== undefined)
  const known = new Set(controllerCommand().options.map(({ long }) => long))
  const commented = [...read('heddle-controller.yml').matchAll(/ (--[a-z-]+)/g)].map(([, flag = '']) => flag)
  const inChart = [...chart.matchAll(/- (--[a-z-]+)/g)].map(([, flag = '']) => flag)
  const ofKubectl = ['--from-file']
  for (const flag of [...main.args.map((arg) => arg.split('=')[0] ?? ''), ...commented, ...inChart])
    assert.ok(known.has(flag) || ofKubectl.includes(flag), flag)
  assert.deepEqual(main.securityContext, {
    runAsNonRoot: true,
    runAsUser: 65534,
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  })
  assert.deepEqual(
    main.volumeMounts.map(({ name }) => name),
    pod.volumes.map(({ name }) => name),
  )
  const { version } = JSON.parse(readFileSync(join(deploy, '../package.json'), 'utf8')) as { version: string }
  assert.equal(main.image, `localhost/heddle:${version}`)
})

test('the chart has the same objects and rights, is off by default, and names only values that it has', () => {
  assert.deepEqual(
    [...chart.matchAll(/^kind: (\w+)$/gm)].map(([, kind]) => kind),
    kinds,
  )
  const text = chart
    .split('\n---\n')
    .slice(0, 5)
    .join('\n---\n')
    .replace(/^ *\{\{-.*\}\}$/gm, '')
    .replaceAll('{{ .Release.Namespace }}', 'kube-flannel')
  const inChart = parseAllDocuments(text).map((document) => document.toJS() as Shape)
  for (const kind of ['ClusterRole', 'Role']) {
    const of = (list: readonly Shape[]): unknown => list.find((one) => one.kind === kind)?.rules
    assert.deepEqual(of(inChart), of(objects))
  }
  assert.match(chart, /capabilities:\n +drop: \[ALL\]\n/)
  const values = parseDocument(read('chart/heddle/values.yaml')).toJS() as {
    readonly controller: { readonly enabled: boolean }
  }
  assert.equal(values.controller.enabled, false)
  for (const [, path = ''] of chart.matchAll(/\.Values\.([\w.]+)/g)) {
    const found = path
      .split('.')
      .reduce<unknown>((at, key) => (typeof at === 'object' && at !== null ? Reflect.get(at, key) : undefined), values)
    assert.notEqual(found, undefined, path)
  }
})

test('docs/configuration.md names every option of the controller, and no other', () => {
  const text = read('../docs/configuration.md')
  const [, after = ''] = text.split('\n## The controller\n')
  const [section = ''] = after.split('\n## ')
  const documented = [...section.matchAll(/^\| (`--.*?) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`(--[a-z-]+)`/g)].map(([, flag]) => flag),
  )
  const known = controllerCommand()
    .options.filter(({ hidden }) => !hidden)
    .map(({ long }) => long)
  assert.deepEqual(new Set(documented), new Set(known))
})
