/** Two controllers as processes: one leads, however the other ends; and what they ask of the API server is what the manifest lets them. */

import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { parseAllDocuments } from 'yaml'

import { KubeError } from '#kube/errors.ts'
import { leases } from '#kube/resources.ts'
import { createFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { type Asked, Rig, until } from './rig.ts'

const root = join(import.meta.dirname, '../..')

interface Process {
  readonly child: ChildProcess
  readonly socket: string
  readonly log: () => string
}

function start(t: TestContext, rig: Rig, name: string): Process {
  const socket = join(rig.folder, `${name}.sock`)
  const args = [
    `--kube-api-url=${rig.apiUrl}`,
    `--clouds-file=${rig.cloudsFile}`,
    '--cloud=k8s',
    '--cluster-name=blue',
    '--route-strategy=per-pod',
    `--router=${rig.router}`,
    '--pod-cidr=10.0.128.0/17',
    '--floating-ips',
    '--lease-duration=6',
    '--resync-interval=1',
    '--gc-interval=1',
    `--health-listen=${socket}`,
  ]
  const child = spawn(join(root, 'bin/heddle'), ['controller', ...args, '--until-stdin-closes'], {
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr?.on('data', (text: Buffer) => (log += text.toString()))
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return { child, socket, log: () => log }
}

/** A page of the health server; undefined before it listens. */
function page(
  socketPath: string,
  path: string,
): Promise<{ readonly status: number; readonly text: string } | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path, timeout: 5_000 }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    asked.on('error', () => resolve(undefined))
    asked.end()
  })
}

const leads = async ({ socket }: Process): Promise<boolean> =>
  /^heddle_controller_leader 1$/m.test((await page(socket, '/metrics'))?.text ?? '')

async function holder(rig: Rig): Promise<string> {
  try {
    const { spec } = await rig.kube.get(leases, { namespace: 'kube-system', name: 'heddle-controller' })
    return spec?.holderIdentity ?? ''
  } catch (error) {
    if (error instanceof KubeError && error.code === 'not-found') return ''
    throw error
  }
}

test('one leads; killed, another takes over; ended, the lease is free at once', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11', ['10.0.128.1'])
  await rig.node('b', '10.0.0.12')
  const { floating_ip_address: ip } = await createFloatingIp(rig.cloud, { network: rig.external })
  await rig.pod('one', 'a', '10.0.128.1', { 'heddle.io/floating-ip': ip })
  rig.note()
  const first = start(t, rig, 'first')
  await until('the first leads', () => leads(first))
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11')
  const second = start(t, rig, 'second')
  await until('the second is ready too', async () => (await page(second.socket, '/readyz'))?.status === 200)
  assert.equal(await leads(second), false)
  assert.match((await page(second.socket, '/readyz'))?.text ?? '', /another controller leads/)
  assert.equal((await page(second.socket, '/healthz'))?.status, 200)

  first.child.kill('SIGKILL')
  await rig.pod('two', 'b', '10.0.128.2')
  await until('the second leads', () => leads(second))
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11', '10.0.128.2/32 10.0.0.12')

  await until('all of its parts are well', async () => /"degraded": false/.test((await page(second.socket, '/readyz'))?.text ?? ''))
  second.child.kill('SIGTERM')
  const [code] = (await once(second.child, 'exit')) as [number | null]
  assert.equal(code, 0, second.log())
  assert.equal(await holder(rig), '', 'given back')
  assert.equal((await rig.routes()).length, 2, 'routes stay')
  for (const { log } of [first, second]) assert.doesNotMatch(log(), /dpass|X-Auth-Token|gAAAA/, 'no secret in the log')

  await t.test('what they asked of the API server is what the manifest lets them, and all that it lets them', () => {
    const unused = new Set(rules().map((rule) => JSON.stringify(rule)))
    for (const one of rig.asked.filter(isTheirs)) {
      const rule = rules().find((each) => allows(each, one))
      assert.ok(rule !== undefined, `no rule for ${JSON.stringify(one)}`)
      unused.delete(JSON.stringify(rule))
    }
    // Without a lack of routes no Node is told of it, and nothing makes it write the lease a first time but the first controller.
    assert.deepEqual([...unused].filter((text) => !text.includes('nodes/status')), [])
  })
}) // prettier-ignore

test('a leader that was stopped finds on waking that it leads no more, and changes nothing', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  await rig.node('b', '10.0.0.12')
  await rig.pod('one', 'a', '10.0.128.1')
  const first = start(t, rig, 'first')
  await until('the first leads', () => leads(first))
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11')
  const was = await holder(rig)
  first.child.kill('SIGSTOP')
  const second = start(t, rig, 'second')
  await until('the second leads', () => leads(second))
  await rig.remove('one')
  await rig.pod('one', 'b', '10.0.128.1')
  await rig.hasRoutes('10.0.128.1/32 10.0.0.12')
  const before = rig.writes.length
  first.child.kill('SIGCONT')
  await until('the first knows', async () => !(await leads(first)))
  assert.notEqual(await holder(rig), was)
  assert.equal(rig.writes.length, before, 'nothing was written by it')
  await rig.hasRoutes('10.0.128.1/32 10.0.0.12')
})

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
  readonly resourceNames?: readonly string[]
}

/** Each verb of each resource by itself. */
function rules(): readonly { readonly group: string; readonly resource: string; readonly verb: string; readonly names: readonly string[]; readonly isNamespaced: boolean }[] {
  const text = readFileSync(join(root, 'deploy/heddle-controller.yml'), 'utf8')
  return parseAllDocuments(text).flatMap((document) => {
    const { kind, rules: list = [] } = document.toJS() as { readonly kind: string; readonly rules?: readonly Rule[] }
    return list.flatMap(({ apiGroups, resources, verbs, resourceNames = [] }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.map((verb) => ({ group, resource, verb, names: resourceNames, isNamespaced: kind === 'Role' })),
        ),
      ),
    )
  })
} // prettier-ignore

const allows = (rule: ReturnType<typeof rules>[number], one: Asked): boolean =>
  rule.group === one.group &&
  rule.resource === one.resource &&
  rule.verb === one.verb &&
  (rule.names.length === 0 || rule.names.includes(one.name)) &&
  (!rule.isNamespaced || one.namespace === 'kube-system')

/** The test itself makes and removes Pods and Nodes, and looks at the Lease. */
const isTheirs = ({ verb, resource }: Asked): boolean =>
  !(resource === 'pods' && (verb === 'create' || verb === 'delete')) && !(resource === 'nodes' && verb === 'create')
