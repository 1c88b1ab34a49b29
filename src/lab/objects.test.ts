import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipText } from '#ip/address.ts'
import { parseConfList } from '#cni/runtime/conflist.ts'
import { cniConf, jsonText, netConf } from './network.ts'
import { flannelConfigMap, isNetworkAvailable, kubeconfig, nodeObject, podObject, runningStatus } from './objects.ts'
import { labPaths } from './paths.ts'
import { planLab } from './plan.ts'
import { requestFor } from './pods.ts'
import { agentArguments } from './keeper.ts'
import { labSpec } from './spec.ts'

const now = new Date('2026-01-02T03:04:05.678Z')

test("flannel's configuration for every backend", () => {
  const Network = '10.244.0.0/16'
  assert.deepEqual(netConf(planLab(labSpec({}))), { Network, Backend: { Type: 'vxlan' } })
  assert.deepEqual(netConf(planLab(labSpec({ backend: 'directrouting' }))), {
    Network,
    Backend: { Type: 'vxlan', DirectRouting: true },
  })
  assert.deepEqual(netConf(planLab(labSpec({ backend: 'host-gw', ipv6: true }))), {
    Network,
    EnableIPv6: true,
    IPv6Network: 'fd00:10:244::/48',
    Backend: { Type: 'host-gw' },
  })
  const list = parseConfList(jsonText(cniConf()), 'the lab')
  assert.deepEqual(
    [list.name, list.cniVersion, list.plugins.map(({ type }) => type)],
    ['cbr0', '1.1.0', ['flannel', 'portmap']],
  )
  const { data } = flannelConfigMap(planLab(labSpec({})))
  assert.deepEqual(Object.keys(data ?? {}).sort(), ['cni-conf.json', 'net-conf.json'])
})

test('a node is registered without network; the agent clears that, and only then it is available', () => {
  const [node] = planLab(labSpec({ ipv6: true })).nodes
  assert.ok(node !== undefined)
  const object = nodeObject(node, now)
  assert.equal(object.spec?.podCIDR, '10.244.1.0/24')
  assert.deepEqual(object.spec?.podCIDRs, ['10.244.1.0/24', 'fd00:10:244:1::/64'])
  assert.equal(isNetworkAvailable(object), false)
  const conditions = object.status?.conditions?.map((one) =>
    one.type === 'NetworkUnavailable' ? { ...one, status: 'False' } : one,
  )
  assert.equal(isNetworkAvailable({ ...object, status: { ...object.status, conditions: conditions ?? [] } }), true)
  assert.equal(isNetworkAvailable({ status: {} }), false)
})

test('pods: the first of a node has host ports, in the object and for the plugins alike', () => {
  const [node] = planLab(labSpec({})).nodes
  const [first, second] = node?.pods ?? []
  assert.ok(node !== undefined && first !== undefined && second !== undefined)
  assert.deepEqual(
    podObject(first).spec?.containers[0]?.ports?.map(({ hostPort, containerPort, protocol }) => [
      hostPort,
      containerPort,
      protocol,
    ]),
    [
      [8080, 80, 'TCP'],
      [8080, 80, 'UDP'],
    ],
  )
  assert.deepEqual(requestFor(first).capabilityArgs, {
    portMappings: [
      { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
      { hostPort: 8080, containerPort: 80, protocol: 'udp' },
    ],
  })
  assert.equal(podObject(second).spec?.containers[0]?.ports, undefined)
  assert.equal(requestFor(second).capabilityArgs, undefined)
  const status = runningStatus(node, [ipText('10.244.1.2')], now)
  assert.deepEqual(
    [status.podIP, status.hostIP, status.startTime],
    ['10.244.1.2', '172.30.1.11', '2026-01-02T03:04:05Z'],
  )
})

test('every path of an agent lies in its own directory; a directory too deep for sockets is refused', () => {
  const paths = labPaths('lab', '/run/heddle/lab')
  const flags = agentArguments(planLab(labSpec({})), 'worker-1', paths)
  for (const flag of ['--root', '--socket', '--health-listen'])
    assert.match(flags[flags.indexOf(flag) + 1] ?? '', /^\/run\/heddle\/lab\/lab\/nodes\/worker-1\//)
  assert.throws(() => labPaths('lab', `/tmp/${'x'.repeat(80)}`), {
    code: 'bad-spec',
    message: /socket address holds 107/,
  })
})

test('the kubeconfig names its server and a context that exists', () => {
  const parsed: {
    clusters: { cluster: { server: string } }[]
    contexts: { name: string }[]
    'current-context': string
  } = JSON.parse(kubeconfig('lab', 'http://127.0.0.1:1'))
  assert.equal(parsed.clusters[0]?.cluster.server, 'http://127.0.0.1:1')
  assert.equal(parsed.contexts[0]?.name, parsed['current-context'])
})
