/** A lab on a real Neutron: VMs, their router and filters follow its database, pods reach everything of the article's matrix, and nothing stays. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { cloudPaths, readState, type CloudState } from '#lab/cloud/state.ts'
import { OpenStackClient } from '#openstack/client.ts'
import { loadCloud } from '#openstack/clouds-file.ts'
import { Ports } from '#openstack/neutron/port.ts'
import { addRoutes, removeRoutes } from '#openstack/neutron/router.ts'
import { Compute } from '#openstack/nova/compute.ts'
import { needsCloud } from '../openstack/real.ts'
import { slowness } from '../slow.ts'
import { cannotRun, machineState, run, TestLab, until } from './harness.ts'

const heddle = fileURLToPath(new URL('../../bin/heddle', import.meta.url))
/** Keystone and Neutron are started on a machine that runs other tests. */
const UP_MS = 400_000 * slowness
const WAIT_MS = 60_000 * slowness

interface CheckJson {
  readonly ok: boolean
  readonly failed: readonly unknown[]
  readonly groups: readonly { readonly group: string; readonly checks: number; readonly failures: number }[]
}

describe('a lab in a cloud', { skip: cannotRun || needsCloud() }, () => {
  const lab = new TestLab()
  const machine = machineState(lab)
  const paths = cloudPaths(join(lab.directory, lab.name))
  let client: OpenStackClient
  let state: CloudState

  before(async () => {
    const flags = ['lab', 'up', '--name', lab.name, '--cloud', 'neutron', '--nodes', '3', '--pods', '1']
    const patience = ['--timeout', String(UP_MS / 1000)]
    const options = { env: lab.env, timeout: 2.5 * UP_MS, maxBuffer: 16 << 20 }
    await promisify(execFile)(heddle, [...flags, ...patience], options)
    client = new OpenStackClient(loadCloud({ file: paths.cloudsYaml, cloud: 'lab', env: {} }), {
      attemptMs: WAIT_MS,
      timeoutMs: 2 * WAIT_MS,
    })
    const made = readState(paths)
    assert.ok(made !== undefined)
    state = made
  })

  after(async () => {
    client?.[Symbol.dispose]()
    await lab[Symbol.asyncDispose]()
    const afterwards = machineState(lab)
    for (const key of ['links', 'routes', 'rules', 'nft', 'namespaces', 'mounts', 'processes'])
      assert.deepEqual(afterwards[key], machine[key], key)
  })

  const pings = (place: string, ...args: readonly string[]): boolean => {
    try {
      lab.inside(place, 'ping', '-c', '1', '-W', '1', ...args)
      return true
    } catch {
      return false
    }
  }

  test('everybody reaches everybody: nodes, pods, the other network, the Internet, services, floating IPs', async () => {
    const status = await lab.status()
    assert.equal(status.ok, true)
    assert.equal(status.cloud?.ready, true)
    // Under load an answer may take longer than the two seconds of a person at a terminal.
    const check = await lab.json<CheckJson>('check', '--timeout', String(10 * slowness))
    assert.deepEqual(check.failed, [])
    assert.equal(check.ok, true)
    assert.deepEqual(
      check.groups.map(({ group }) => group),
      [
        'same-network',
        'other-network',
        'pod-node',
        'node-pod',
        'node-node',
        'pod-internet',
        'node-internet',
        'service',
        'node-service',
        'floating-ip',
        'mtu',
        'above-mtu',
      ],
    )
  })

  test('a VM sends from no address that its port does not have; once the port has it, it does', async () => {
    const port = state.servers['worker-1']?.port ?? ''
    lab.inside('worker-1', 'ip', 'address', 'add', '10.10.10.77/32', 'dev', 'eth0')
    lab.inside('worker-2', 'ip', 'route', 'add', '10.10.10.77/32', 'dev', 'eth0')
    assert.equal(pings('worker-1', '10.10.10.12'), true)
    assert.equal(pings('worker-1', '-I', '10.10.10.77', '10.10.10.12'), false)
    await new Ports(client).update(port, { allowed_address_pairs: [{ ip_address: ipText('10.10.10.77') }] })
    await until('the pair counts', WAIT_MS, () => pings('worker-1', '-I', '10.10.10.77', '10.10.10.12'))
    await new Ports(client).update(port, { allowed_address_pairs: [] })
    await until('the pair is over', WAIT_MS, () => !pings('worker-1', '-I', '10.10.10.77', '10.10.10.12'))
    lab.inside('worker-1', 'ip', 'address', 'delete', '10.10.10.77/32', 'dev', 'eth0')
    lab.inside('worker-2', 'ip', 'route', 'delete', '10.10.10.77/32')
  })

  test("the router has Neutron's extra routes, and loses them with it", async () => {
    const route = { destination: cidrText('10.10.10.200/32'), nexthop: ipText('10.10.10.11') }
    const shown = (): string => lab.inside('router', 'ip', 'route')
    assert.doesNotMatch(shown(), /10\.10\.10\.200/)
    await addRoutes(client, state.router, [route])
    await until('the route is there', WAIT_MS, () => /^10\.10\.10\.200 via 10\.10\.10\.11 dev qr-/m.test(shown()))
    await removeRoutes(client, state.router, [route])
    await until('the route is gone', WAIT_MS, () => !shown().includes('10.10.10.200'))
  })

  test('a card that Nova attaches appears in the VM, down and with its MAC, and goes with it', async () => {
    const compute = new Compute(client)
    const server = state.servers['worker-3']?.id ?? ''
    const card = await compute.attach(server, { network: state.networks['vpc-2']?.network ?? '' })
    const links = (): string => lab.inside('worker-3', 'ip', '-o', 'link')
    const own = links()
      .split('\n')
      .find((line) => line.includes(card.mac_addr))
    assert.match(own ?? '', /: eth1@.* state DOWN /)
    assert.equal(await compute.detach(server, card.port_id), true)
    await until('the card is gone', WAIT_MS, () => !links().includes(card.mac_addr))
    const left = await compute.interfaces(server)
    assert.deepEqual(
      left.map(({ port_id }) => port_id),
      [state.servers['worker-3']?.port],
    )
  })

  test('the cloud killed: packets go on; it comes back by itself with the same database', async () => {
    const pid = (await lab.status()).cloud?.process.pid ?? 0
    process.kill(pid, 'SIGKILL')
    assert.equal(pings('worker-1', '10.10.10.12'), true)
    assert.equal(pings('worker-1', '172.24.4.1'), true)
    const isBack = async (): Promise<boolean> => {
      const { cloud } = await lab.status()
      return cloud?.ready === true && cloud.process.alive && cloud.process.pid !== pid
    }
    await until('the cloud is back', UP_MS, isBack)
    const found = await new Ports(client).get(state.servers['worker-1']?.port ?? '')
    assert.equal(found.device_id, state.servers['worker-1']?.id)
  })

  test('what a cloud cannot have is refused before anything is made', async () => {
    for (const [flags, words] of [
      [['--backend', 'vxlan', '--ipv6'], /IPv4 only/],
      [['--backend', 'host-gw'], /the cloud carries pods itself/],
      [['--nodes', '40'], /nodes is 40/],
      [['--filter-delay', '60000'], /filter delay is 60000/],
    ] as const) {
      const { code, stderr } = await run(
        heddle,
        ['lab', 'up', '--name', `${lab.name}b`, '--cloud', 'neutron', ...flags],
        lab.env,
      )
      assert.notEqual(code, 0)
      assert.match(stderr, words)
    }
  })
})
