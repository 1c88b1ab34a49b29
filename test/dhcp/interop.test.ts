import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'

import { needsProgram } from '../namespace.ts'
import { codeOf, execIn, ping } from '../plugins/network-host.ts'
import { gcInputOf } from '../plugins/input.ts'
import { reference, REFERENCE_DIR, referenceMissing } from '../plugins/reference.ts'
import { addPod, conf, daemonOf, delPod, dhcpHost, SERVER, socketOf } from './pods.ts'
import { dnsmasq, until } from './servers.ts'

const skip = referenceMissing || needsProgram('dnsmasq', 'dnsmasq-base')
const RANGE = '--dhcp-range=10.99.0.100,10.99.0.120,255.255.255.0,2m'

test(
  "the reference's bridge and dhcp plugins with our daemon: ADD, CHECK, DEL, and its words for errors",
  { skip },
  async () => {
    using host = dhcpHost()
    await using server = await dnsmasq(host.path, RANGE)
    await using daemon = await daemonOf(host, { patience: 3000 })
    const netns = host.pod()
    const config = {
      cniVersion: '1.0.0',
      ...conf({ daemonSocketPath: socketOf(host), priority: 33, request: [{ option: 'routers' }] }),
    }
    const call = { containerId: 'c1', netns, inNetns: host.path }
    const result = await reference('ADD', config, call)
    assert.match(JSON.stringify(result['ips']), /"address":"10\.99\.0\.1\d\d\/24".*"gateway":"10\.99\.0\.1"/)
    assert.match(execIn(netns, 'ip', 'route'), /default via 10\.99\.0\.1/)
    assert.ok(await ping(netns, SERVER))
    await reference('CHECK', { ...config, prevResult: result }, call)
    assert.equal(daemon.service.daemon.count(4), 1)
    // Debian's bridge of the reference removes the link before it calls dhcp: no server can be told any more, by whichever daemon.
    const alone = { ...config, type: 'dhcp' }
    await reference('DEL', alone, call)
    await until('dnsmasq has the release', () => /DHCPRELEASE/.test(server.log()))
    assert.equal(daemon.service.daemon.count(4), 0)
    await reference('DEL', { ...config, prevResult: result }, call)
    await assert.rejects(reference('ADD', alone, { ...call, ifname: 'none0' }), /interface none0 of .* is gone/)
  },
)

test(
  "our plugins with the reference's daemon: ADD, the same again, CHECK, STATUS, DEL; GC says what it cannot",
  { skip },
  async () => {
    using host = dhcpHost()
    await using server = await dnsmasq(host.path, RANGE)
    const socket = socketOf(host)
    mkdirSync(dirname(socket), { recursive: true })
    const theirs = spawn(`${REFERENCE_DIR}/dhcp`, ['daemon', '-socketpath', socket], { stdio: 'ignore' })
    try {
      await until('their daemon listens', () => existsSync(socket))
      const pod = await addPod(host, 'c1')
      assert.match(pod.addresses(), /10\.99\.0\.1\d\d\/24/)
      assert.deepEqual(pod.result.routes, [{ dst: '0.0.0.0/0', gw: SERVER }])
      assert.ok(await ping(pod.netns, SERVER))
      await host.host.delegate('STATUS', 'dhcp', pod.input)
      await host.host.delegate('CHECK', 'dhcp', pod.input)
      const other = { ...pod.input, prevResult: { ...pod.result, ips: [] } }
      assert.equal(await codeOf(host.host.delegate('CHECK', 'dhcp', other)), 100)
      await host.host.delegate('GC', 'dhcp', gcInputOf(conf(), []))
      assert.ok(host.logs.some((line) => /knows no GC/.test(line)))
      // Ours does not push theirs aside.
      await assert.rejects(daemonOf(host), { code: 5, message: /another DHCP daemon answers on/ })
      await delPod(host, pod)
      await until('dnsmasq has the release', () => /DHCPRELEASE/.test(server.log()))
    } finally {
      theirs.kill('SIGKILL')
    }
  },
)

test('a server knows a pod again after its daemon was exchanged for ours', { skip }, async () => {
  using host = dhcpHost()
  await using server = await dnsmasq(host.path, RANGE)
  const socket = socketOf(host)
  mkdirSync(dirname(socket), { recursive: true })
  const theirs = spawn(`${REFERENCE_DIR}/dhcp`, ['daemon', '-socketpath', socket], { stdio: 'ignore' })
  let pod
  try {
    await until('their daemon listens', () => existsSync(socket))
    pod = await addPod(host, 'c1')
  } finally {
    theirs.kill('SIGKILL')
  }
  await using _daemon = await daemonOf(host)
  const again = await host.host.delegate('ADD', 'dhcp', pod.input)
  assert.equal(again.ips[0]?.address, pod.result.ips[0]?.address)
  assert.equal(
    server
      .leases()
      .split('\n')
      .filter((line) => line.includes('10.99.0.1')).length,
    1,
  )
})
