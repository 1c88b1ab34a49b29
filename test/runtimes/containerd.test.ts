/** Debian's containerd with our plugins in its bin_dir, driven as a kubelet drives it. */

import assert from 'node:assert/strict'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { isObject } from '#cni/json.ts'
import { registry } from '#plugins/registry.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { CONF_DIR, Containerd } from './containerd.ts'
import { CriError, type PodStatus } from './cri.ts'
import { Node } from './node.ts'
import { until } from './machine.ts'

const skip = needsProgram('containerd', 'containerd') || needsProgram('runc', 'runc')
const TIMEOUT = 240_000 * slowness

const bridgeList = {
  cniVersion: '1.0.0',
  name: 'podnet',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni0',
      isDefaultGateway: true,
      hairpinMode: true,
      ipMasq: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24' }], [{ subnet: 'fd00:99::/64' }]] },
    },
    { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    ...(registry.has('bandwidth') ? [{ type: 'bandwidth', capabilities: { bandwidth: true } }] : []),
  ],
}

const flannelList = {
  cniVersion: '1.0.0',
  name: 'cbr0',
  plugins: [
    { type: 'flannel', delegate: { bridge: 'cni1', hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
}

/** The namespace that containerd made for a sandbox. */
function netnsOf({ info }: PodStatus): string {
  const spec = isObject(info) && isObject(info['runtimeSpec']) ? info['runtimeSpec'] : {}
  const namespaces = isObject(spec['linux']) ? spec['linux']['namespaces'] : []
  const list = Array.isArray(namespaces) ? namespaces.filter(isObject) : []
  const path = list.find((one) => one['type'] === 'network')?.['path']
  assert.ok(typeof path === 'string', 'the sandbox has a network namespace')
  return path
}

interface Bed extends AsyncDisposable {
  readonly node: Node
  readonly runtime: Containerd
}

async function bed(list: object, how: 'agent' | 'standalone'): Promise<Bed> {
  const node = await Node.open()
  try {
    if (how === 'agent') await node.startAgent()
    const runtime = new Containerd(node.machine, node.pluginDir)
    writeFileSync(node.machine.path(`${CONF_DIR}/10-net.conflist`), JSON.stringify(list))
    await runtime.start()
    await runtime.loadImage()
    return { node, runtime, [Symbol.asyncDispose]: () => node[Symbol.asyncDispose]() }
  } catch (error) {
    await node[Symbol.asyncDispose]()
    throw error
  }
}

/** What the node is like without a pod: bridges and tables stay after the last one by design, so one was there before. */
async function baseline({ node, runtime }: Bed): Promise<string> {
  const first = await runtime.run({ name: 'first', ports: [{ hostPort: 18_079, containerPort: 8080 }] })
  await runtime.cri.stop(first)
  await runtime.cri.remove(first)
  return node.dump()
}

for (const how of ['agent', 'standalone'] as const) {
  test(`${how}: pods run, answer on their host ports, and leave nothing`, { skip, timeout: TIMEOUT }, async () => {
    await using made = await bed(bridgeList, how)
    const { node, runtime } = made
    const { cri } = runtime
    assert.deepEqual([(await cri.network()).ready], [true])
    const before = await baseline(made)

    const a = await runtime.run({
      name: 'pod-a',
      ports: [
        { hostPort: 18_080, containerPort: 8080 },
        { hostPort: 18_081, containerPort: 8080, hostIp: '127.0.0.1' },
      ],
    })
    const b = await runtime.run({ name: 'pod-b' })
    const [statusA, statusB] = [await cri.status(a), await cri.status(b)]
    assert.ok(statusA.ready && statusB.ready)
    assert.match(statusA.ip, /^10\.99\.0\.\d+$/)
    assert.match(statusA.otherIps.join(), /^fd00:99::/)
    assert.notEqual(statusA.ip, statusB.ip)

    // From the host, by the address, by the ports; from another pod; from the pod itself through its own port.
    assert.equal(await node.ask(statusA.ip, 8080), 'pod-a')
    assert.equal(await node.ask(statusA.otherIps[0] ?? '', 8080), 'pod-a')
    assert.equal(await node.ask('10.99.0.1', 18_080), 'pod-a')
    assert.equal(await node.ask('127.0.0.1', 18_080), 'pod-a')
    assert.equal(await node.ask('127.0.0.1', 18_081), 'pod-a')
    assert.equal(await node.ask('10.99.0.1', 18_081), undefined, 'a port of 127.0.0.1 is no port of the others')
    assert.equal(await node.ask('10.99.0.1', 18_080, netnsOf(statusB)), 'pod-a')
    assert.equal(await node.ask('10.99.0.1', 18_080, netnsOf(statusA)), 'pod-a')

    await cri.stop(a)
    await cri.stop(a)
    assert.equal((await cri.status(a)).ready, false)
    assert.equal(await node.ask('10.99.0.1', 18_080), undefined)
    assert.equal(await node.ask(statusB.ip, 8080), 'pod-b', 'the other pod is untouched')
    await cri.remove(a)
    await cri.stop(b)
    await cri.remove(b)
    assert.deepEqual(await node.changesSince(before), [])
  })
}

test(
  'containerd restarted in between: pods go on, and are stopped by what it has kept',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed(bridgeList, 'agent')
    const { node, runtime } = made
    const before = await baseline(made)
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const pod = { name: `pod-${signal.toLowerCase()}`, ports: [{ hostPort: 18_080, containerPort: 8080 }] }
      const id = await runtime.run(pod)
      const { ip } = await runtime.cri.status(id)
      await runtime.stop(signal)
      assert.equal(await node.ask('127.0.0.1', 18_080), pod.name, 'traffic outlives the runtime')
      await runtime.start()
      assert.deepEqual([(await runtime.cri.status(id)).ready, (await runtime.cri.status(id)).ip], [true, ip])
      await runtime.cri.stop(id)
      await runtime.cri.remove(id)
      assert.deepEqual(await node.changesSince(before), [], signal)
    }
  },
)

test(
  'kill -9 of a sandbox’s shim, of the agent, and of both: stop and remove leave nothing',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed(bridgeList, 'agent')
    const { node, runtime } = made
    const before = await baseline(made)
    for (const whom of ['shim', 'agent', 'shim and agent'] as const) {
      const id = await runtime.run({ name: 'victim', ports: [{ hostPort: 18_080, containerPort: 8080 }] })
      if (whom.includes('shim')) for (const pid of node.machine.pidsOf(`\0-id\0${id}\0`)) node.machine.kill(pid)
      if (whom.includes('agent')) node.killAgent()
      // The runtime notices by itself that the shim is gone; a kubelet asks again until it has.
      await until('the sandbox stops', async () => {
        try {
          await runtime.cri.stop(id)
          await runtime.cri.remove(id)
          return true
        } catch (error) {
          if (error instanceof CriError) return false
          throw error
        }
      })
      if (whom.includes('agent')) await node.startAgent()
      assert.deepEqual(await node.changesSince(before), [], whom)
    }
  },
)

test(
  'an ADD that cannot be served is the sandbox’s error in words, and leaves nothing',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed(flannelList, 'agent')
    const { node, runtime } = made
    const before = await node.dump()
    await assert.rejects(runtime.run({ name: 'early' }), /subnet\.env/)
    assert.deepEqual(await node.changesSince(before), [])
  },
)

test(
  'flannel: one address of each family from subnet.env, its MTU, no masquerade of ours',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed(flannelList, 'agent')
    const { node, runtime } = made
    node.writeSubnetEnv()
    const before = await baseline(made)
    const id = await runtime.run({ name: 'pod', ports: [{ hostPort: 18_080, containerPort: 8080 }] })
    const status = await runtime.cri.status(id)
    assert.match(status.ip, /^10\.244\.3\./)
    assert.match(status.otherIps.join(), /^fd00:244:3::/)
    assert.match(await node.machine.run(['ip', 'link', 'show', 'eth0'], netnsOf(status)), /mtu 1450/)
    assert.equal(await node.ask('127.0.0.1', 18_080), 'pod')
    await runtime.cri.stop(id)
    await runtime.cri.remove(id)
    assert.deepEqual(await node.changesSince(before), [])
  },
)

test(
  'the conf dir swapped: containerd follows; pods of before are undone by their own configuration',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed(bridgeList, 'agent')
    const { node, runtime } = made
    const conf = node.machine.path(CONF_DIR)
    const old = await runtime.run({ name: 'old', ports: [{ hostPort: 18_080, containerPort: 8080 }] })
    node.writeSubnetEnv()
    // A name that is not loaded, then a rename: containerd hears of the rename only.
    writeFileSync(join(conf, '00-new.tmp'), JSON.stringify(flannelList))
    renameSync(join(conf, '00-new.tmp'), join(conf, '00-new.conflist'))
    await until('containerd has the new list', async () => (await runtime.cri.network()).config.includes('cbr0'))
    const fresh = await runtime.run({ name: 'fresh' })
    assert.match((await runtime.cri.status(fresh)).ip, /^10\.244\.3\./)
    assert.equal(await node.ask('127.0.0.1', 18_080), 'old')
    for (const id of [old, fresh]) {
      await runtime.cri.stop(id)
      await runtime.cri.remove(id)
    }
    // containerd has forgotten the old list, but not what it was called with.
    const held = await node.heldAddresses()
    assert.deepEqual(
      held.filter((line) => line.includes('10.244.')),
      [],
    )
    rmSync(join(conf, '00-new.conflist'))
    await until('containerd has the old list', async () => (await runtime.cri.network()).config.includes('podnet'))
    rmSync(join(conf, '10-net.conflist'))
    await until('containerd has none', async () => !(await runtime.cri.network()).ready)
    await assert.rejects(runtime.run({ name: 'none' }), /cni plugin not initialized/)
  },
)

if (registry.has('bandwidth')) {
  test('bandwidth annotations shape both directions', { skip, timeout: TIMEOUT }, async () => {
    await using made = await bed(bridgeList, 'agent')
    const { node, runtime } = made
    const before = await baseline(made)
    const annotations = { 'kubernetes.io/ingress-bandwidth': '8M', 'kubernetes.io/egress-bandwidth': '4M' }
    const id = await runtime.run({ name: 'slow', annotations })
    const qdiscs = await node.machine.run(['tc', 'qdisc', 'show'])
    assert.match(qdiscs, /rate 8Mbit/)
    assert.match(qdiscs, /rate 4Mbit/)
    await runtime.cri.stop(id)
    await runtime.cri.remove(id)
    assert.deepEqual(await node.changesSince(before), [])
  })
}
