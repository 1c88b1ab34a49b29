/** The manifest and the chart say what the programs understand, and ask for no more rights than they need. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { parseAllDocuments, parseDocument } from 'yaml'

import { agentFlagsOf, etcdFlagsOf, parseFlanneldFlags } from '#agent/flanneld-flags.ts'
import { parseConfList } from '#cni/runtime/conflist.ts'
import { parseNetConf } from '#flannel/net-conf.ts'

const deploy = join(import.meta.dirname, '../../deploy')
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8')

interface Container {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly volumeMounts: readonly { readonly name: string }[]
  readonly securityContext?: {
    readonly privileged: boolean
    readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] }
  }
}

interface Shape {
  readonly kind: string
  readonly rules?: unknown
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly Container[]
        readonly initContainers: readonly Container[]
        readonly volumes: readonly { readonly name: string }[]
      }
    }
  }
}

const objects = new Map(
  parseAllDocuments(read('heddle.yml')).map((document) => {
    assert.deepEqual(document.errors, [])
    const object = document.toJS() as Shape
    return [object.kind, object] as const
  }),
)

test('one of each object that a pod network needs', () => {
  assert.deepEqual(
    [...objects.keys()],
    ['Namespace', 'ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'ConfigMap', 'DaemonSet'],
  )
})

test('the configuration in it is read by the programs', () => {
  const { data = {} } = objects.get('ConfigMap') ?? {}
  const conf = parseNetConf(data['net-conf.json'] ?? '')
  assert.deepEqual([conf.network[4], conf.backend.type, conf.rules], ['10.244.0.0/16', 'vxlan', 'nftables'])
  const list = parseConfList(data['cni-conf.json'] ?? '', 'cni-conf.json')
  assert.deepEqual(
    list.plugins.map(({ type }) => type),
    ['flannel', 'portmap'],
  )
})

test('its containers have flags that there are, no privilege, and every volume they mount', () => {
  const pod = objects.get('DaemonSet')?.spec?.template.spec
  assert.ok(pod !== undefined)
  const [main] = pod.containers
  assert.ok(main !== undefined)
  const parsed = parseFlanneldFlags(main.args, {})
  assert.equal(agentFlagsOf(parsed).healthListen, '0.0.0.0:8081')
  assert.deepEqual(etcdFlagsOf(parsed), {}, 'leases in Kubernetes')
  assert.deepEqual(main.securityContext?.privileged, false)
  assert.deepEqual(main.securityContext.capabilities, { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] })
  const volumes = new Set(pod.volumes.map(({ name }) => name))
  const mounted = new Set(
    [...pod.containers, ...pod.initContainers].flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)),
  )
  assert.deepEqual([...mounted].toSorted(), [...volumes].toSorted())
})

test('image, manifest and chart are of one version', () => {
  const { version } = JSON.parse(readFileSync(join(deploy, '../package.json'), 'utf8')) as { version: string }
  const chart = parseDocument(read('chart/heddle/Chart.yaml')).toJS() as { version: string; appVersion: string }
  assert.deepEqual([chart.version, chart.appVersion], [version, version])
  const pod = objects.get('DaemonSet')?.spec?.template.spec
  for (const { image } of [...(pod?.containers ?? []), ...(pod?.initContainers ?? [])])
    assert.equal(image, `localhost/heddle:${version}`)
})

test('the chart asks for the same rights as the manifest', () => {
  const text = read('chart/heddle/templates/rbac.yaml')
    .replace(/^ *\{\{-.*\}\}$/gm, '')
    .replaceAll('{{ .Release.Namespace }}', 'kube-flannel')
  const role = parseAllDocuments(text)
    .map((document) => document.toJS() as Shape)
    .find(({ kind }) => kind === 'ClusterRole')
  assert.deepEqual(role?.rules, objects.get('ClusterRole')?.rules)
  const daemonSet = read('chart/heddle/templates/daemonset.yaml')
  assert.match(daemonSet, /privileged: false/)
  assert.match(daemonSet, /drop: \[ALL\]\n +add: \[NET_ADMIN, NET_RAW\]/)
})

test('the chart names only values that it has', () => {
  const values = parseDocument(read('chart/heddle/values.yaml')).toJS() as object
  for (const file of ['_helpers.tpl', 'config.yaml', 'rbac.yaml', 'daemonset.yaml', 'NOTES.txt']) {
    const text = read(`chart/heddle/templates/${file}`)
    const named = [...text.matchAll(/\.Values\.([\w.]+)/g)].map(([, path = '']) => path)
    const flannel = [...text.matchAll(/\$f\.(\w+)/g)].map(([, name = '']) => `flannel.${name}`)
    for (const path of [...named, ...flannel]) {
      const found = path
        .split('.')
        .reduce<unknown>(
          (at, key) => (typeof at === 'object' && at !== null ? Reflect.get(at, key) : undefined),
          values,
        )
      assert.notEqual(found, undefined, `${file}: .Values.${path}`)
    }
  }
})
