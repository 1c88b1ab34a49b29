/**
 * What CRI-O does to every pod, with the executables as libcni starts them, because Debian 12 has no CRI-O: each ADD is followed by a CHECK at once, by
 * which the pod stands or falls; STATUS is asked every few seconds; GC runs when it starts. Source: cri-o server/sandbox_network.go, cri-o/ocicni.
 */

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { containerIdOf } from '#cli/cni.ts'
import type { JsonObject } from '#cni/json.ts'
import { registry } from '#plugins/registry.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { Node } from './node.ts'

const TIMEOUT = 240_000 * slowness

type Plugin = JsonObject & { readonly type: string }

const hostLocal = (subnet: string, subnet6: string): JsonObject => ({
  type: 'host-local',
  ranges: [[{ subnet }], [{ subnet: subnet6 }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
})

const bridge = (more: JsonObject = {}): Plugin => ({
  ...more,
  type: 'bridge',
  bridge: 'cni0',
  isDefaultGateway: true,
  ipMasq: true,
  hairpinMode: true,
  ipam: hostLocal('10.99.0.0/24', 'fd00:99::/64'),
})

/** Chains by their name; those with a type that Heddle lacks are left out. */
const chains: Readonly<Record<string, readonly Plugin[]>> = {
  bridge: [bridge()],
  'bridge with every option': [bridge({ macspoofchk: true, promiscMode: false, mtu: 1400, forceAddress: false })],
  'bridge, portmap': [bridge(), { type: 'portmap', capabilities: { portMappings: true }, snat: true }],
  'bridge, bandwidth': [bridge(), { type: 'bandwidth', ingressRate: 8e6, ingressBurst: 8e6 }],
  'bridge, firewall': [bridge(), { type: 'firewall', ingressPolicy: 'same-bridge' }],
  'bridge, tuning': [bridge(), { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' }, mac: '02:00:00:00:00:01' }],
  'bridge, tuning, portmap, bandwidth, firewall': [
    bridge(),
    { type: 'tuning', mtu: 1400 },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'bandwidth', egressRate: 8e6, egressBurst: 8e6 },
    { type: 'firewall' },
  ],
  'bridge, sbr': [bridge(), { type: 'sbr' }],
  ptp: [{ type: 'ptp', ipMasq: true, ipam: hostLocal('10.98.0.0/24', 'fd00:98::/64') }],
  'ptp, portmap': [
    { type: 'ptp', ipMasq: true, ipam: hostLocal('10.98.0.0/24', 'fd00:98::/64') },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
  flannel: [{ type: 'flannel', delegate: { bridge: 'cni1', isDefaultGateway: true } }],
  macvlan: [{ type: 'macvlan', master: 'up0', ipam: hostLocal('10.97.0.0/24', 'fd00:97::/64') }],
}

const types = (chain: readonly Plugin[]): readonly string[] => chain.map(({ type }) => type)

/** Versions in which a runtime may CHECK. */
const VERSIONS = ['0.4.0', '1.0.0', '1.1.0']

class CrioNode implements AsyncDisposable {
  readonly node: Node
  hasMacvlan = false
  readonly #conf: string

  private constructor(node: Node) {
    this.node = node
    this.#conf = join(node.machine.folder, 'net.d')
  }

  static async open(): Promise<CrioNode> {
    const made = new CrioNode(await Node.open())
    mkdirSync(made.#conf)
    made.node.writeSubnetEnv()
    // What macvlan sits on.
    made.node.machine.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
    made.node.machine.exec('ip', 'link', 'set', 'up0', 'up')
    made.node.machine.exec('ip', 'link', 'set', 'up1', 'up')
    try {
      made.node.machine.exec('ip', 'link', 'add', 'try0', 'link', 'up0', 'type', 'macvlan')
      made.node.machine.exec('ip', 'link', 'delete', 'try0')
      made.hasMacvlan = true
    } catch {
      // The chain is left out.
    }
    return made
  }

  write(name: string, cniVersion: string, plugins: readonly JsonObject[]): void {
    writeFileSync(join(this.#conf, `${name}.conflist`), JSON.stringify({ cniVersion, name, plugins }))
  }

  /** `heddle cni VERB --exec`, which starts the executables as libcni does. */
  call(verb: string, network: string, netns?: string, hostPort = 18_080): Promise<string> {
    const heddle = join(import.meta.dirname, '..', '..', 'dist', 'bin', 'heddle')
    const mappings = [{ hostPort, containerPort: 8080, protocol: 'tcp' }]
    return this.node.machine.run(
      [heddle, 'cni', verb, '--exec', network, ...(netns === undefined ? [] : [netns])],
      undefined,
      {
        CNI_PATH: this.node.pluginDir,
        NETCONFPATH: this.#conf,
        CAP_ARGS: JSON.stringify({ portMappings: mappings }),
      },
    )
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.node[Symbol.asyncDispose]()
  }
}

/** ADD, CHECK, DEL, and CHECK of nothing. */
async function once(made: CrioNode, name: string, version: string): Promise<void> {
  const network = name.replaceAll(/[^a-z]+/g, '-')
  made.write(network, version, chains[name] ?? [])
  made.node.machine.exec('ip', 'netns', 'add', 'pod')
  const netns = '/run/netns/pod'
  await made.call('add', network, netns)
  await made.call('check', network, netns)
  if (version === '1.1.0') await made.call('status', network)
  await made.call('del', network, netns)
  await assert.rejects(made.call('check', network, netns), `${name} ${version}: nothing is there any more`)
  made.node.machine.exec('ip', 'netns', 'delete', 'pod')
}

/** Macvlan is not in every kernel, and is checked with its own tests where it is. */
const possible = (made: CrioNode, chain: readonly Plugin[]): boolean =>
  types(chain).every((type) => registry.has(type)) && (made.hasMacvlan || !types(chain).includes('macvlan'))

for (const how of ['agent', 'standalone'] as const) {
  test(`${how}: CHECK passes right after ADD, for every chain`, { skip: needsRoot, timeout: TIMEOUT }, async (t) => {
    await using made = await CrioNode.open()
    if (how === 'agent') await made.node.startAgent()
    for (const [name, chain] of Object.entries(chains)) {
      if (!possible(made, chain)) continue
      await once(made, name, '1.0.0')
      t.diagnostic(`${name}: ADD, CHECK, DEL`)
    }
    assert.deepEqual(await made.node.heldAddresses(), [])
  })
}

test('the same in every version that has CHECK', { skip: needsRoot, timeout: TIMEOUT }, async () => {
  await using made = await CrioNode.open()
  await made.node.startAgent()
  for (const version of VERSIONS) await once(made, 'bridge, portmap', version)
})

test(
  'GC at the start: what no pod has any more is freed, what one has stays',
  { skip: needsRoot, timeout: TIMEOUT },
  async () => {
    await using made = await CrioNode.open()
    const { machine } = made.node
    await made.node.startAgent()
    const plugins = chains['bridge, portmap'] ?? []
    made.write('net', '1.1.0', plugins)
    for (const pod of ['kept', 'lost']) machine.exec('ip', 'netns', 'add', pod)
    await made.call('add', 'net', '/run/netns/kept', 18_080)
    const before = await made.node.dump()
    await made.call('add', 'net', '/run/netns/lost', 18_081)
    machine.exec('rm', `/var/lib/cni/results/net-${containerIdOf('/run/netns/lost')}-eth0`)
    const valid = [{ containerID: containerIdOf('/run/netns/kept'), ifname: 'eth0' }]
    for (const plugin of plugins) {
      const config = { ...plugin, cniVersion: '1.1.0', name: 'net', 'cni.dev/valid-attachments': valid }
      const env = { CNI_COMMAND: 'GC', CNI_PATH: made.node.pluginDir }
      const answer = await machine.feed(JSON.stringify(config), [join(made.node.pluginDir, plugin.type)], env)
      assert.equal(answer, '')
    }
    assert.deepEqual(await made.node.changesSince(before), [])
    await made.call('check', 'net', '/run/netns/kept', 18_080)
  },
)
