/** The agent in flanneld's place, as flannel's manifests start it, with no more rights than ours ask for. */

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { parseAllDocuments } from 'yaml'

import { pods } from '#kube/resources.ts'
import { slowness } from '../slow.ts'
import { needsRoot, TestCluster, type TestNode } from './cluster.ts'

interface Rule {
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}

/** `get pods`, `patch nodes/status`: what the ClusterRole of the manifest allows. */
function allowed(): ReadonlySet<string> {
  const text = readFileSync(join(import.meta.dirname, '../../deploy/heddle.yml'), 'utf8')
  const objects = parseAllDocuments(text).map((document): unknown => document.toJS())
  const role = objects.find(
    (object): object is { rules: readonly Rule[] } => Reflect.get(Object(object), 'kind') === 'ClusterRole',
  )
  assert.ok(role !== undefined)
  return new Set(
    role.rules.flatMap(({ resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
    ),
  )
}

const VERBS: Readonly<Record<string, string>> = { PATCH: 'patch', PUT: 'update', POST: 'create', DELETE: 'delete' }

/** Everything that is asked of the API server from now on. */
function recorded({ api }: TestCluster): ReadonlySet<string> {
  const seen = new Set<string>()
  api.faults.inject({
    action: { kind: 'delay', ms: 0 },
    match: ({ method, plural, subresource, name, watch }) => {
      const verb = VERBS[method] ?? (watch ? 'watch' : name === '' ? 'list' : 'get')
      if (plural !== '') seen.add(`${verb} ${plural}${subresource === '' ? '' : `/${subresource}`}`)
      return false
    },
  })
  return seen
}

/** Status and body, asked for from inside of the node's namespace. */
function http(node: TestNode, path: string): string {
  const script = `fetch('http://127.0.0.1:18081${path}').then(async (r) => console.log(r.status, await r.text()), (e) => console.log(0, e.message))`
  return node.run(process.execPath, '-e', script).trim()
}

async function until(what: string, holds: () => boolean | Promise<boolean>, limit = 15_000): Promise<void> {
  const deadline = performance.now() + limit * slowness
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `not in time: ${what}`)
    await delay(100)
  }
}

test("flannel's manifest with another program", { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: 'vxlan' }, conf: { EnableNFTables: true } })
  const [node, peer] = [cluster.node(0), cluster.node(1)]
  await cluster.client.create(pods, {
    metadata: { name: 'kube-flannel-ds-x', namespace: 'default' },
    spec: { nodeName: node.name, containers: [{ name: 'kube-flannel', image: 'x' }] },
  })
  const seen = recorded(cluster)
  cluster.startFlanneld(
    node,
    [
      '--ip-masq',
      '--kube-subnet-mgr',
      '-healthz-port',
      '18081',
      '--iface-regex=^nothing$',
      '-iface-regex=^192\\.0\\.2\\.',
      '-v=10',
    ],
    { POD_NAME: 'kube-flannel-ds-x', POD_NAMESPACE: 'default', NODE_NAME: '' },
  )
  cluster.start(peer)
  await until('ready by HTTP', () => http(node, '/readyz').startsWith('200 '))
  assert.match(http(node, '/healthz'), /^200 /)
  assert.equal(
    readFileSync(node.subnetFile, 'utf8'),
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
  await until('its address published', async () => (await cluster.annotations(node.name))['public-ip'] === node.address)
  await until('a route to the peer', () => node.run('ip', 'route', 'show', `${peer.subnet}.0/24`) !== '')

  // Watches and patches have happened, and the pod was read for the name of its node.
  for (const request of ['get pods', 'list nodes', 'watch nodes', 'patch nodes/status']) {
    assert.ok(seen.has(request), `${request} in ${[...seen].join(', ')}`)
  }
  const rights = allowed()
  assert.deepEqual(
    [...seen].filter((request) => !rights.has(request)),
    [],
    'nothing that the manifest does not allow',
  )
  assert.deepEqual(
    [...rights].filter((right) => !seen.has(right) && right !== 'get nodes'),
    [],
    'the manifest allows no more than is used',
  )
  await cluster.stop(node)
  assert.notEqual(node.run('ip', 'route', 'show', `${peer.subnet}.0/24`), '', 'the data path stays')
})

test('without a bridge packets to absent pods end at a route', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 1, backend: { Type: 'host-gw' } })
  const node = cluster.node(0)
  cluster.startFlanneld(node, ['--kube-subnet-mgr', '--ip-blackhole-route', '--ip-masq=false'], {
    NODE_NAME: node.name,
  })
  const shown = (): string => node.run('ip', 'route', 'show', 'type', 'blackhole')
  await until('a blackhole route', () => shown().includes('10.244.0.0/24'))
  // A bridge that comes later has its way.
  node.run('ip', 'link', 'add', 'cni0', 'type', 'bridge')
  node.run('ip', 'link', 'set', 'cni0', 'up')
  node.run('ip', 'address', 'add', '10.244.0.1/24', 'dev', 'cni0')
  assert.match(node.run('ip', 'route', 'get', '10.244.0.7'), /dev cni0/)
  await until('the subnet file', () => existsSync(node.subnetFile))
  assert.match(readFileSync(node.subnetFile, 'utf8'), /FLANNEL_IPMASQ=false/)
})

/** A container that is not privileged: two capabilities, and /proc/sys read-only. */
const unprivileged = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec setpriv --bounding-set=-all,+net_admin,+net_raw --inh-caps=-all,+net_admin,+net_raw --no-new-privs "$@"',
  'sh',
] as const

test('ready and programmed in a container that is not privileged', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: 'vxlan' }, conf: { EnableNFTables: true } })
  const [node, peer] = [cluster.node(0), cluster.node(1)]
  // As kubelet leaves it.
  node.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  cluster.startFlanneld(
    node,
    ['--ip-masq', '--kube-subnet-mgr', '--healthz-port=18081'],
    { NODE_NAME: node.name },
    unprivileged,
  )
  cluster.start(peer)
  const ready = (): boolean => http(node, '/readyz').startsWith('200 ')
  await until('ready by HTTP', ready).catch((error: unknown) => {
    throw new Error(`${http(node, '/readyz')}\n${node.log.slice(-4000)}`, { cause: error })
  })
  await until('a route to the peer', () => node.run('ip', 'route', 'show', `${peer.subnet}.0/24`) !== '')
  await until('masquerade', () => node.run('nft', 'list', 'ruleset').includes('masquerade'))
  assert.ok(existsSync(node.subnetFile))
})
