import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { startApiServer } from '#kube/server/server.ts'
import type { ApiServer } from '#kube/server/server.ts'
import { findKubectl } from './target.ts'

const run = promisify(execFile)

const MANIFEST = (value: string): string => `
apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {node-role.kubernetes.io/worker: ""}}
spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cm, namespace: web}
data: {a: "${value}", b: "2"}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, namespace: web, labels: {app: x}}
spec:
  nodeName: n1
  containers: [{name: c, image: "nginx:${value}", ports: [{containerPort: 80}]}]
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: n1, namespace: kube-node-lease}
spec: {holderIdentity: n1, leaseDurationSeconds: 40}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pools.kubectl.example.com}
spec:
  group: kubectl.example.com
  scope: Cluster
  names: {plural: pools, kind: Pool, shortNames: [kp]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: CIDR, type: string, jsonPath: .spec.cidr}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, required: [cidr], properties: {cidr: {type: string, description: The range of the pool.}, size: {type: integer, maximum: 32, default: 26}}}
`
const POOL = 'apiVersion: kubectl.example.com/v1\nkind: Pool\nmetadata: {name: big}\nspec: {cidr: 10.0.0.0/8}\n'

function suite(program: string): void {
  describe(`${program} against the embedded server`, { timeout: 180_000 }, () => {
    let server: ApiServer
    let dir = ''
    let env: NodeJS.ProcessEnv = {}
    const file = (name: string, text: string): string => {
      writeFileSync(join(dir, name), text)
      return join(dir, name)
    }
    const kubectl = async (...args: readonly string[]): Promise<string> => {
      const { stdout } = await run(program, args, { env, timeout: 60_000 })
      return stdout
    }
    const refused = async (expected: RegExp, ...args: readonly string[]): Promise<void> => {
      await assert.rejects(
        kubectl(...args),
        (error) => error instanceof Error && 'stderr' in error && expected.test(String(error.stderr)),
      )
    }
    before(async () => {
      server = await startApiServer()
      dir = mkdtempSync(join(tmpdir(), 'heddle-kubectl-'))
      const kubeconfig = file(
        'kubeconfig',
        `apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: "${server.urls[0]}"}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n`,
      )
      env = { PATH: process.env['PATH'], HOME: dir, KUBECONFIG: kubeconfig }
    })
    after(async () => {
      await server.close()
      rmSync(dir, { recursive: true, force: true })
    })

    it('applies: created, unchanged, configured', async () => {
      assert.match(
        await kubectl('apply', '-f', file('m.yaml', MANIFEST('1'))),
        /pod\/p1 created[^]*pools\.kubectl\.example\.com created/,
      )
      assert.doesNotMatch(await kubectl('apply', '-f', join(dir, 'm.yaml')), /created|configured/)
      const changed = await kubectl('apply', '-f', file('m.yaml', MANIFEST('3')))
      assert.match(changed, /configmap\/cm configured/)
      assert.match(changed, /pod\/p1 configured/)
      assert.equal(await kubectl('get', 'cm', 'cm', '-n', 'web', '-o', 'jsonpath={.data.a}{.data.b}'), '32')
    })
    it('applies on the server side, and reports conflicts', async () => {
      assert.match(
        await kubectl('apply', '--server-side', '--force-conflicts', '-f', join(dir, 'm.yaml')),
        /configmap\/cm serverside-applied/,
      )
      const other = file(
        'o.yaml',
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm, namespace: web}\ndata: {a: "9"}\n',
      )
      await refused(
        /conflict with "kubectl"[^]*\.data\.a/,
        'apply',
        '--server-side',
        '--field-manager=other',
        '-f',
        other,
      )
    })
    it('prints tables as for a real cluster', async () => {
      assert.match(await kubectl('get', 'nodes'), /^NAME +STATUS +ROLES +AGE +VERSION\nn1 +Unknown +worker +\d+s/)
      assert.match(
        await kubectl('get', 'pods', '-n', 'web', '-o', 'wide'),
        /^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE[^]*p1 +0\/1 +Pending +0 +\d+s +<none> +n1/,
      )
      assert.match(await kubectl('get', 'ns'), /^NAME +STATUS +AGE\ndefault +Active/)
      assert.match(await kubectl('get', 'cm', '-n', 'web'), /NAME +DATA +AGE\ncm +2 /)
      assert.match(await kubectl('get', 'leases', '-A'), /NAMESPACE +NAME +HOLDER +AGE\nkube-node-lease +n1 +n1 /)
      assert.match(await kubectl('get', 'crd'), /NAME +CREATED AT\npools\.kubectl\.example\.com +\d{4}-/)
      assert.match(
        await kubectl('get', 'pods', '-A', '-l', 'app in (x,y)', '--field-selector', 'spec.nodeName=n1', '-o', 'name'),
        /pod\/p1/,
      )
      assert.match(await kubectl('get', 'node', 'n1', '-o', 'yaml'), /podCIDR: 10\.244\.0\.0\/24/)
    })
    it('uses the kinds of definitions', async () => {
      assert.match(await kubectl('apply', '-f', file('p.yaml', POOL)), /pool\.kubectl\.example\.com\/big created/)
      assert.match(await kubectl('get', 'kp'), /^NAME +CIDR\nbig +10\.0\.0\.0\/8/)
      assert.equal(await kubectl('get', 'pool', 'big', '-o', 'jsonpath={.spec.size}'), '26')
      await refused(
        /should be less than or equal to 32/,
        'patch',
        'pool',
        'big',
        '--type=merge',
        '-p',
        '{"spec":{"size":40}}',
      )
    })
    it('creates, labels, annotates, taints, cordons, patches, replaces', async () => {
      await kubectl('create', 'configmap', 'made', '-n', 'web', '--from-literal=k=v')
      await kubectl('create', 'secret', 'generic', 's', '-n', 'web', '--from-literal=k=v')
      await kubectl('create', 'serviceaccount', 'bob', '-n', 'web')
      await kubectl('create', 'service', 'clusterip', 'svc', '-n', 'web', '--tcp=80:8080')
      await kubectl('label', 'pod', 'p1', '-n', 'web', 'z=1')
      await kubectl('annotate', 'node', 'n1', 'flannel.alpha.coreos.com/backend-type=vxlan')
      await kubectl('taint', 'node', 'n1', 'a=b:NoSchedule')
      await kubectl('cordon', 'n1')
      await kubectl(
        'patch',
        'cm',
        'made',
        '-n',
        'web',
        '--type=json',
        '-p',
        '[{"op":"replace","path":"/data/k","value":"w"}]',
      )
      assert.match(await kubectl('get', 'nodes'), /SchedulingDisabled/)
      assert.match(await kubectl('get', 'svc', '-n', 'web'), /svc +ClusterIP +<none> +<none> +80\/TCP/)
      assert.equal(await kubectl('get', 'cm', 'made', '-n', 'web', '-o', 'jsonpath={.data.k}'), 'w')
      const json = await kubectl('get', 'cm', 'made', '-n', 'web', '-o', 'json')
      await kubectl('replace', '-f', file('r.json', json.replace('"w"', '"x"')))
      await refused(/the object has been modified/, 'replace', '-f', file('r.json', json))
    })
    it('describes', async () => {
      const uid = await kubectl('get', 'pod', 'p1', '-n', 'web', '-o', 'jsonpath={.metadata.uid}')
      const event = `apiVersion: v1\nkind: Event\nmetadata: {name: e1, namespace: web}\ninvolvedObject: {kind: Pod, name: p1, namespace: web, apiVersion: v1, uid: ${uid}}\nreason: AddedInterface\nmessage: "eth0 is there"\ntype: Normal\nsource: {component: heddle}\nfirstTimestamp: "2026-01-01T00:00:00Z"\nlastTimestamp: "2026-01-01T00:00:00Z"\ncount: 1\n`
      await kubectl('create', '-f', file('e.yaml', event))
      const node = await kubectl('describe', 'node', 'n1')
      assert.match(node, /PodCIDR: +10\.244\.0\.0\/24/)
      assert.match(node, /Non-terminated Pods: +\(1 in total\)[^]*web +p1/)
      assert.match(await kubectl('describe', 'pod', 'p1', '-n', 'web'), /Image: +nginx:3[^]*AddedInterface/)
      assert.match(await kubectl('describe', 'ns', 'web'), /Status: +Active/)
      assert.match(await kubectl('describe', 'pool', 'big'), /Cidr: +10\.0\.0\.0\/8/)
      assert.match(
        await kubectl('get', 'events', '-n', 'web'),
        /LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n[^]*AddedInterface +pod\/p1 +eth0 is there/,
      )
    })
    it('watches', async () => {
      const child = spawn(program, ['get', 'cm', '-n', 'web', '-w', '-o', 'name'], {
        env,
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let seen = ''
      child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()))
      const until = async (text: string): Promise<void> => {
        const end = performance.now() + 20_000
        while (!seen.includes(text)) {
          assert.ok(performance.now() < end, `no ${text} in ${seen}`)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
      }
      try {
        await until('configmap/cm\n')
        await kubectl('create', 'configmap', 'later', '-n', 'web')
        await until('configmap/later\n')
      } finally {
        child.kill('SIGTERM')
        await new Promise((resolve) => child.once('close', resolve))
      }
    })
    it('discovers and reads raw paths', async () => {
      assert.match(await kubectl('api-resources'), /nodes +no +v1 +false +Node/)
      assert.match(await kubectl('api-resources', '--api-group=kubectl.example.com'), /pools +kp /)
      assert.match(await kubectl('get', '--raw', '/readyz'), /^ok/)
      assert.match(await kubectl('version', '-o', 'json'), /v1\.32\.0-heddle/)
      await kubectl('wait', '--for=condition=established', 'crd/pools.kubectl.example.com', '--timeout=5s')
    })
    it('deletes, and waits until things are gone', async () => {
      await kubectl('delete', 'pod', 'p1', '-n', 'web', '--grace-period=0', '--force')
      await kubectl('delete', 'cm', '--all', '-n', 'web')
      await kubectl('delete', 'ns', 'web')
      await refused(/NotFound|not found/, 'get', 'ns', 'web')
      await kubectl('delete', 'crd', 'pools.kubectl.example.com')
      await refused(/doesn't have a resource type|could not find the requested resource/, 'get', 'pools')
    })
  })
}

const found = findKubectl()
if (found.length === 0)
  it(
    'kubectl against the embedded server',
    { skip: 'there is no kubectl on this machine (or in HEDDLE_TEST_KUBECTL)' },
    () => {},
  )
for (const program of found) suite(program)
