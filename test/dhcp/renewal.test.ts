import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { codeOf, execIn, ping } from '../plugins/network-host.ts'
import { addPod, addressesIn, daemonOf, daemonProcess, delPod, dhcpHost, SERVER } from './pods.ts'
import { dhcpd, until } from './servers.ts'

const skip = needsProgram('dhcpd', 'isc-dhcp-server')

const confOf = (seconds: number, network = '10.99.0', id = `${network}.1`): string => `
  authoritative;
  ping-check false;
  default-lease-time ${seconds};
  min-lease-time ${seconds};
  max-lease-time ${seconds};
  server-identifier ${id};
  subnet ${network}.0 netmask 255.255.255.0 {
    range ${network}.100 ${network}.120;
    option routers ${network}.1;
  }
`

const countOf = (events: readonly string[], event: string): number => events.filter((e) => e === `${event} 4`).length

test('a lease of seconds is renewed again and again, and the pod keeps its address', { skip }, async () => {
  using host = dhcpHost()
  await using server = await dhcpd(host.path, confOf(6 * slowness))
  await using daemon = await daemonOf(host)
  const pod = await addPod(host, 'c1')
  const before = pod.addresses()
  await until('two renewals', () => countOf(daemon.events, 'renewed') >= 2, 15_000)
  assert.equal(pod.addresses(), before)
  assert.deepEqual(
    daemon.events.filter((event) => !event.startsWith('renewed')),
    ['acquired 4'],
  )
  await delPod(host, pod)
  await until('dhcpd has the release', () => /DHCPRELEASE of 10\.99\.0\.1\d\d .*\(found\)/.test(server.log()))
})

test('its server is gone: another one extends the lease at T2', { skip }, async () => {
  using host = dhcpHost()
  host.exec('ip', 'address', 'add', '10.99.0.2/24', 'dev', 'br0')
  await using daemon = await daemonOf(host)
  let leases = ''
  let before = ''
  {
    await using first = await dhcpd(host.path, confOf(8 * slowness))
    const pod = await addPod(host, 'c1')
    before = pod.addresses()
    leases = first.leases()
  }
  await using _second = await dhcpd(host.path, confOf(8 * slowness, '10.99.0', '10.99.0.2'), leases)
  await until('the lease is rebound', () => countOf(daemon.events, 'rebound') > 0, 20_000)
  assert.equal(addressesIn(host.pods[0] ?? ''), before)
  await until('and renewed there', () => countOf(daemon.events, 'renewed') > 0, 20_000)
  assert.equal(countOf(daemon.events, 'lost'), 0)
})

test(
  'the network has another number: the refusal takes the address away, and the new one comes to the pod',
  { skip },
  async () => {
    using host = dhcpHost()
    await using daemon = await daemonOf(host)
    const pod = await (async () => {
      await using _first = await dhcpd(host.path, confOf(6 * slowness))
      return await addPod(host, 'c1', { priority: 77 })
    })()
    assert.match(execIn(pod.netns, 'ip', 'route'), /default via 10\.99\.0\.1 .*metric 77/)
    host.exec('ip', 'address', 'replace', '10.98.0.1/24', 'dev', 'br0')
    host.exec('ip', 'address', 'delete', `${SERVER}/24`, 'dev', 'br0')
    await using _second = await dhcpd(host.path, confOf(30, '10.98.0'))
    await until('the pod has its new address', () => /10\.98\.0\.1\d\d\/24/.test(pod.addresses()), 20_000)
    assert.doesNotMatch(pod.addresses(), /10\.99/)
    assert.match(execIn(pod.netns, 'ip', 'route'), /default via 10\.98\.0\.1 .*metric 77/)
    assert.doesNotMatch(execIn(pod.netns, 'ip', 'route'), /10\.99/)
    assert.ok(await ping(pod.netns, '10.98.0.1'))
    assert.deepEqual(
      daemon.events.filter((event) => !/renewed|garbage/.test(event)),
      ['acquired 4', 'lost 4', 'acquired 4', 'changed 4'],
    )
    assert.ok(daemon.logs.some((line) => /a server changed what a pod has.*10\.98/.test(line)))
    // The result of ADD is no longer true, and CHECK says so.
    assert.equal(await codeOf(host.host.delegate('CHECK', 'dhcp', pod.input)), 100)
  },
)

test('no server: the address goes when its time is over, and one comes back with the server', { skip }, async () => {
  using host = dhcpHost()
  await using daemon = await daemonOf(host)
  const pod = await (async () => {
    await using _server = await dhcpd(host.path, confOf(6 * slowness))
    return await addPod(host, 'c1')
  })()
  await until('it is lost', () => countOf(daemon.events, 'lost') === 1, 25_000)
  assert.equal(pod.addresses(), '')
  assert.equal(await codeOf(host.host.delegate('CHECK', 'dhcp', pod.input)), 100)
  await using _server = await dhcpd(host.path, confOf(30))
  await until('the pod has an address', () => /10\.99\.0\./.test(pod.addresses()), 15_000)
  assert.match(execIn(pod.netns, 'ip', 'route'), /default via/)
})

test('the namespace vanishes: the lease is given up, and no socket of ours keeps the namespace', { skip }, async () => {
  using host = dhcpHost()
  await using _server = await dhcpd(host.path, confOf(60))
  await using daemon = await daemonOf(host)
  const pod = await addPod(host, 'c1')
  await daemon.service.daemon.sweep()
  assert.equal(daemon.service.daemon.count(4), 1)
  execIn(host.path, 'ip', 'netns', 'delete', pod.netns.replace('/run/netns/', ''))
  await until('the kernel took the link away', () => !/veth/.test(host.exec('ip', 'link')))
  await daemon.service.daemon.sweep()
  assert.equal(daemon.service.daemon.count(4), 0)
  assert.deepEqual(daemon.events, ['acquired 4', 'abandoned 4'])
})

test('a daemon that is stopped and started again goes on; so does one that is killed', { skip }, async () => {
  using host = dhcpHost()
  await using server = await dhcpd(host.path, confOf(6 * slowness))
  const first = await daemonProcess(host)
  const pod = await addPod(host, 'c1')
  const before = pod.addresses()
  const requests = (): number => (server.log().match(/DHCPREQUEST/g) ?? []).length
  await first.kill()
  {
    await using _second = await daemonProcess(host)
    const seen = requests()
    await until('the second renews', () => requests() >= seen + 2, 15_000)
    await host.host.delegate('CHECK', 'dhcp', pod.input)
  }
  // In this process, over the book of the killed one.
  await using daemon = await daemonOf(host)
  await until('the third renews', () => countOf(daemon.events, 'renewed') > 0, 15_000)
  assert.equal(pod.addresses(), before)
  await delPod(host, pod)
  await until('and releases', () => /DHCPRELEASE of .*\(found\)/.test(server.log()))
})

for (const point of ['discovering', 'requesting', 'acknowledged', 'bound'] as const) {
  test(`killed at "${point}": code 11, nothing is left after DEL, and the next ADD works`, { skip }, async () => {
    using host = dhcpHost()
    await using server = await dhcpd(host.path, confOf(60))
    const first = await daemonProcess(host, `dhcp.${point}`)
    assert.equal(await codeOf(addPod(host, 'c1')), 11)
    assert.equal(await first.ended, 'SIGKILL')
    // The server has given an address by then; the failed ADD gives it back, from the file alone.
    if (point === 'acknowledged' || point === 'bound')
      await until('the server has the release', () => /DHCPRELEASE of .*\(found\)/.test(server.log()))
    await using daemon = await daemonOf(host)
    const again = await addPod(host, 'c1')
    assert.equal(daemon.service.daemon.count(4), 1)
    await delPod(host, again)
    const last = (): string => server.leases().split('lease 10').at(-1) ?? ''
    await until('every lease is free at the server', () => /binding state free/.test(last()))
    assert.equal(daemon.service.daemon.count(4), 0)
  })
}

test('killed while releasing: the next one finishes it; without any the plugin does', { skip }, async () => {
  using host = dhcpHost()
  await using server = await dhcpd(host.path, confOf(60))
  const releases = (): number => (server.log().match(/DHCPRELEASE of .*\(found\)/g) ?? []).length
  const first = await daemonProcess(host, 'dhcp.releasing')
  const [a, b] = [await addPod(host, 'a'), await addPod(host, 'b')]
  assert.equal(await codeOf(host.host.delegate('DEL', 'dhcp', a.input)), 11)
  assert.equal(await first.ended, 'SIGKILL')
  {
    await using _second = await daemonProcess(host)
    await until('the second releases what the first began', () => releases() === 1)
  }
  await host.host.delegate('DEL', 'dhcp', b.input)
  assert.equal(b.addresses(), '', 'the address is off the link before the server has it back')
  await until('the plugin released by itself', () => releases() === 2)
  await delPod(host, a)
  await delPod(host, b)
})

test(
  'the disk is full: no new lease is handed out, the old ones are renewed and released; all is well again with room',
  { skip },
  async () => {
    using host = dhcpHost()
    const folder = join(host.root, 'run/cni')
    mkdirSync(folder, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'heddle-test', folder])
    try {
      await using server = await dhcpd(host.path, confOf(6 * slowness))
      await using daemon = await daemonOf(host)
      const pod = await addPod(host, 'c1')
      const other = await addPod(host, 'c2').catch(() => undefined)
      await until(
        'the book cannot be written',
        () => daemon.logs.some((line) => /cannot be written/.test(line)),
        30_000,
      )
      assert.equal(await codeOf(addPod(host, 'c3')), 5)
      assert.equal(await codeOf(host.host.delegate('STATUS', 'dhcp', pod.input)), 50)
      const seen = countOf(daemon.events, 'renewed')
      await until('it is renewed nevertheless', () => countOf(daemon.events, 'renewed') > seen, 15_000)
      if (other !== undefined) await delPod(host, other)
      execFileSync('mount', ['-o', 'remount,size=1m', folder])
      const last = await addPod(host, 'c4')
      await host.host.delegate('STATUS', 'dhcp', pod.input)
      await delPod(host, last)
      await delPod(host, pod)
      await until('released', () => /DHCPRELEASE of .*\(found\)/.test(server.log()))
      assert.equal(daemon.service.daemon.count(4), 0)
    } finally {
      execFileSync('umount', ['-l', folder])
    }
  },
)
