/** Debian's podman 4, as root, with its CNI backend and our plugins. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { registry } from '#plugins/registry.ts'
import { needsProgram } from '../namespace.ts'
import { REFERENCE_DIR, referenceMissing } from '../plugins/reference.ts'
import { slowness } from '../slow.ts'
import { Node } from './node.ts'
import { Podman } from './podman.ts'

/** What podman puts in every chain; what Heddle lacks is taken from the reference. */
const needed = ['bridge', 'host-local', 'portmap', 'firewall', 'tuning']
const ownChain = needed.every((type) => registry.has(type))

const skip = needsProgram('podman', 'podman') || needsProgram('runc', 'runc') || (ownChain ? false : referenceMissing)
const TIMEOUT = 240_000 * slowness

interface Bed extends AsyncDisposable {
  readonly node: Node
  readonly podman: Podman
}

async function bed(how: 'agent' | 'standalone'): Promise<Bed> {
  const node = await Node.open()
  try {
    if (how === 'agent') await node.startAgent()
    const podman = new Podman(node.machine, [node.pluginDir, ...(ownChain ? [] : [REFERENCE_DIR])])
    await podman.loadImage()
    await podman.run('network', 'create', '--subnet', '10.66.0.0/24', 'one')
    await podman.run('network', 'create', '--subnet', '10.67.0.0/24', '--subnet', 'fd00:67::/64', '--ipv6', 'two')
    return { node, podman, [Symbol.asyncDispose]: () => node[Symbol.asyncDispose]() }
  } catch (error) {
    await node[Symbol.asyncDispose]()
    throw error
  }
}

/** What the node is like without a container: bridges, tables and chains stay after the last one by design, so one was there before. */
async function baseline({ node, podman }: Bed): Promise<string> {
  await podman.start('first', '--network', 'one', '--network', 'two', '--publish', '18079:8080')
  await podman.run('rm', '--force', '--time', '0', 'first')
  return node.dump()
}

for (const how of ['agent', 'standalone'] as const) {
  test(`${how}: run, publish, restart, stop; nothing stays`, { skip, timeout: TIMEOUT }, async () => {
    await using made = await bed(how)
    const { node, podman } = made
    const before = await baseline(made)
    const published = ['--publish', '18080:8080', '--publish', '127.0.0.1:18081:8080']
    await podman.start('a', '--network', 'one', ...published)
    await podman.start('b', '--network', 'one', '--ip', '10.66.0.77', '--mac-address', '02:00:00:00:00:77')
    const [a = ''] = await podman.addresses('a', 'one')
    assert.match(a, /^10\.66\.0\./)
    assert.deepEqual(await podman.addresses('b', 'one'), ['10.66.0.77'])
    assert.equal(await mac(podman, 'b'), '02:00:00:00:00:77')
    assert.equal(await node.ask(a, 8080), 'a')
    assert.equal(await node.ask('10.66.0.77', 8080), 'b')
    assert.equal(await node.ask('127.0.0.1', 18_080), 'a')
    assert.equal(await node.ask('10.66.0.1', 18_080), 'a')
    assert.equal(await node.ask('127.0.0.1', 18_081), 'a')
    assert.equal(await node.ask('10.66.0.1', 18_081), undefined)

    await podman.run('restart', '--time', '5', 'a')
    assert.equal(await node.ask('127.0.0.1', 18_080), 'a')
    await podman.run('stop', '--time', '5', 'a')
    assert.equal(await node.ask('127.0.0.1', 18_080), undefined)
    assert.equal(await node.ask('10.66.0.77', 8080), 'b', 'the other container is untouched')
    await podman.run('start', 'a')
    assert.equal(await node.ask('127.0.0.1', 18_080), 'a')
    await podman.run('rm', '--force', '--time', '0', 'a', 'b')
    assert.deepEqual(await node.changesSince(before), [])
  })
}

const mac = (podman: Podman, name: string): Promise<string> =>
  podman.run('inspect', '--format', '{{(index .NetworkSettings.Networks "one").MacAddress}}', name)

test('two networks: connect and disconnect while it runs; both families', { skip, timeout: TIMEOUT }, async () => {
  await using made = await bed('agent')
  const { node, podman } = made
  const before = await baseline(made)
  await podman.start('a', '--network', 'one')
  await podman.run('network', 'connect', 'two', 'a')
  const [four = '', six = ''] = await podman.addresses('a', 'two')
  assert.match(four, /^10\.67\.0\./)
  assert.match(six, /^fd00:67::/)
  for (const address of [four, six]) assert.equal(await node.ask(address, 8080), 'a')
  await podman.run('network', 'disconnect', 'one', 'a')
  assert.deepEqual(await podman.addresses('a', 'one'), [])
  assert.equal(await node.ask(six, 8080), 'a')
  await podman.run('rm', '--force', '--time', '0', 'a')
  assert.deepEqual(await node.changesSince(before), [])
})

test('kill -9 of conmon and of the container: removing it leaves nothing', { skip, timeout: TIMEOUT }, async () => {
  await using made = await bed('standalone')
  const { node, podman } = made
  const before = await baseline(made)
  for (const whom of ['the container', 'conmon', 'both'] as const) {
    const id = await podman.start('victim', '--network', 'one', '--publish', '18080:8080')
    const container = Number(await podman.run('inspect', '--format', '{{.State.Pid}}', 'victim'))
    if (whom !== 'the container')
      for (const pid of node.machine.pidsOf(`--exit-command-arg\0${id}`)) node.machine.kill(pid)
    if (whom !== 'conmon') node.machine.kill(container)
    await podman.run('rm', '--force', '--time', '0', 'victim')
    assert.deepEqual(await node.changesSince(before), [], whom)
  }
})

test(
  'a second container for a host port that is taken: podman refuses it, and nothing stays',
  { skip, timeout: TIMEOUT },
  async () => {
    await using made = await bed('agent')
    const { node, podman } = made
    const before = await baseline(made)
    await podman.start('a', '--network', 'one', '--publish', '18080:8080')
    await assert.rejects(podman.start('b', '--network', 'one', '--publish', '18080:8080'), /address already in use/)
    await podman.run('rm', '--force', '--time', '0', 'a', 'b')
    assert.deepEqual(await node.changesSince(before), [])
  },
)
