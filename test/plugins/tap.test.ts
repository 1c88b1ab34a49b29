import assert from 'node:assert/strict'
import { constants, existsSync } from 'node:fs'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { tap } from '#plugins/tap/plugin.ts'
import { nativeSys } from '#sys/addon.ts'
import { inNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { codeOf, execIn, NetworkHost, ping } from './network-host.ts'
import { inputOf } from './input.ts'
import { dataOf, lanIpam, links, podLinkSuite } from './pod-link-suite.ts'

const conf: JsonObject = { name: 'net1', type: 'tap', ipam: lanIpam }
const skip = existsSync('/dev/net/tun') ? needsRoot : 'no /dev/net/tun: modprobe tun'

podLinkSuite({ plugin: tap, conf, kind: 'tun', skip })

test('queues, owner, group, mtu, MAC address: as given, and none unless given', { skip }, async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const cases: [JsonObject, Record<string, unknown>][] = [
    [{}, { type: 'tap', multi_queue: false, user: undefined, group: undefined }],
    [{ multiQueue: true }, { type: 'tap', multi_queue: true }],
    [{ owner: 65_534 }, { user: 'nobody', group: undefined }],
    [{ group: 0 }, { user: undefined, group: 'root' }],
    [
      { owner: 0, group: 0, multiQueue: true },
      { user: 'root', group: 'root', multi_queue: true },
    ],
    [{ owner: 4_000_000_000 }, { user: 4_000_000_000 }],
  ]
  for (const [extra, wanted] of cases) {
    const result = await tap.add(inputOf({ ...conf, ...extra }, call), made.host)
    const data = dataOf(netns)
    for (const [key, value] of Object.entries(wanted))
      assert.equal(nameOf(data[key]), value, `${key} ${JSON.stringify(data)}`)
    assert.equal(data['persist'], true)
    const check = (other: JsonObject) =>
      codeOf(tap.check(inputOf({ ...conf, ...extra, ...other }, { ...call, prevResult: result }), made.host))
    assert.equal(await check({}), undefined)
    assert.equal(await check({ owner: 77 }), 100)
    assert.equal(await check({ group: 77 }), 100)
    assert.equal(await check({ multiQueue: extra['multiQueue'] !== true }), 100)
    await tap.del(inputOf(conf, call), made.host)
  }
  const result = await tap.add(
    inputOf({ ...conf, mtu: 1400, mac: '02:00:00:00:00:01' }, { ...call, args: { MAC: '02:00:00:00:00:02' } }),
    made.host,
  )
  assert.deepEqual(result.interfaces, [{ name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1400, sandbox: netns }])
  const bad = [{ mtu: -1 }, { mtu: 70_000 }, { owner: -1 }, { group: 2 ** 32 - 1 }, { mac: 'x' }, { bridge: 'nowhere' }]
  for (const extra of [...bad, { bridge: 'lo' }]) {
    assert.equal(await codeOf(tap.add(inputOf({ ...conf, ...extra }, { netns, ifname: 'net1' }), made.host)), 7)
    assert.equal(links(netns).length, 2)
  }
})

/** ip tells a user's name where there is one. */
const nameOf = (value: unknown): unknown => (value === 'nogroup' ? 'nobody' : value)

test('a program opens it, as its owner may: frames pass', { skip }, async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  await tap.add(inputOf({ ...conf, multiQueue: true }, { netns }), made.host)
  assert.match(execIn(netns, 'ip', 'link', 'show', 'eth0'), /NO-CARRIER/)
  const sys = nativeSys()
  const fd = inNetns(netns, () => sys.open('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK, 0))
  try {
    const request = Buffer.alloc(40)
    request.write('eth0')
    const [TAP, NO_PI, MULTI_QUEUE] = [0x2, 0x1000, 0x100]
    request.writeUInt16LE(TAP | NO_PI, 16)
    // One queue where several were made is another kind of device.
    assert.equal(sys.ioctl(fd, 0x4004_54ca, request), -22)
    request.writeUInt16LE(TAP | NO_PI | MULTI_QUEUE, 16)
    assert.equal(sys.ioctl(fd, 0x4004_54ca, request), 0)
    assert.equal(await ping(netns, '10.88.0.99'), false)
    const frame = new Uint8Array(2048)
    const kinds = new Set<number>()
    for (let length = sys.read(fd, frame); length > 0; length = sys.read(fd, frame))
      kinds.add(Buffer.from(frame.buffer).readUInt16BE(12))
    assert.ok(kinds.has(0x0806), `ARP is among ${[...kinds].join()}`)
  } finally {
    sys.close(fd)
  }
})

test('the bridge is one of the container', { skip }, async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  made.exec('ip', 'link', 'add', 'br0', 'type', 'bridge')
  assert.equal(await codeOf(tap.add(inputOf({ ...conf, bridge: 'br0' }, call), made.host)), 7)
  execIn(netns, 'ip', 'link', 'add', 'br0', 'type', 'bridge')
  const result = await tap.add(inputOf({ ...conf, bridge: 'br0', ipam: {} }, call), made.host)
  assert.equal(links(netns, 'eth0')[0]?.['master'], 'br0')
  const check = () =>
    codeOf(tap.check(inputOf({ ...conf, bridge: 'br0', ipam: {} }, { ...call, prevResult: result }), made.host))
  assert.equal(await check(), undefined)
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'nomaster')
  assert.equal(await check(), 100)
})

const selinux = existsSync('/sys/fs/selinux/enforce') ? 'this machine has SELinux' : skip

test('an SELinux label on a machine without SELinux is an error, and nothing is made', { skip: selinux }, async () => {
  using made = new NetworkHost()
  const netns = made.pod()
  const labelled = { ...conf, selinuxContext: 'system_u:system_r:container_t:s0' }
  assert.equal(await codeOf(tap.add(inputOf(labelled, { netns }), made.host)), 7)
  assert.equal(links(netns).length, 1)
})
