/** A router advertisement from a pod changes nothing on the host (CVE-2020-10749): real packets, which the host would obey but for the plugin's settings. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonObject } from '#cni/json.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { ptp } from '#plugins/ptp/plugin.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { execIn, NetworkHost } from './network-host.ts'
import { inputOf } from './input.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'

const ICMPV6 = 58
/** linux/in6.h */
const IPPROTO_IPV6 = 41
const IPV6_MULTICAST_HOPS = 18

/** RFC 4861 4.2 and 4.6.2: a router for half an hour, with the prefix 2001:db8:bad::/64 for addresses of one's own. The kernel adds the checksum. */
function advertisement(): Uint8Array {
  const bytes = Buffer.alloc(16 + 32)
  bytes.set([134, 0, 0, 0, 64, 0, 0x07, 0x08], 0)
  // Prefix information: 64 bits, on-link and autonomous, valid and preferred for an hour.
  bytes.set([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10], 16)
  bytes.set([0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad], 16 + 16)
  return bytes
}

/** To all nodes on the pod's only link, with the hop limit of 255 that makes it valid. */
function advertise(netns: string, link: number): void {
  const sys = nativeSys()
  const fd = inNetns(netns, () => check(sys.socket(AF.INET6, SOCK.RAW, ICMPV6), 'socket'))
  try {
    check(sys.setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, Buffer.from([255, 0, 0, 0])), 'setsockopt')
    const to = Buffer.alloc(28)
    to.writeUInt16LE(AF.INET6, 0)
    to.set([0xff, 0x02], 8)
    to[23] = 1
    to.writeUInt32LE(link, 24)
    check(sys.send(fd, advertisement(), 0, to), 'send')
  } finally {
    sys.close(fd)
  }
}

/** What the host has learned from routers. */
const learned = (made: NetworkHost): string =>
  `${made.exec('ip', '-6', 'route', 'show', 'proto', 'ra')}${made.exec('ip', '-6', 'address', 'show', 'to', '2001:db8:bad::/64')}`

const addresses = (netns: string): string => execIn(netns, 'ip', '-6', 'address', 'show', 'dev', 'eth0')

async function until(isSo: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000 * slowness; !isSo(); await sleep(50))
    assert.ok(Date.now() < deadline, `not within ${10 * slowness} s: ${isSo.toString()}`)
}

const plugins = { bridge, ptp }

for (const type of ['bridge', 'ptp'] as const)
  for (const ipMasqBackend of ['nftables', 'iptables'])
    test(`${type}, ${ipMasqBackend}`, { skip: needsRoot, timeout: 60_000 * slowness }, async () => {
      using made = new NetworkHost()
      const conf: JsonObject = {
        name: 'net1',
        type,
        bridge: 'br0',
        isDefaultGateway: true,
        ipMasq: true,
        ipMasqBackend,
        ipam: { type: 'host-local', ranges: [[{ subnet: 'fd00:77::/64' }]] },
      }
      const netns = made.pod()
      const result = await plugins[type].add(inputOf(conf, { netns }), made.host)
      // A host that routes only listens where it is told to.
      const towards = type === 'bridge' ? 'br0' : (result.interfaces[0]?.name ?? '')
      const [eth0] = JSON.parse(execIn(netns, 'ip', '-j', 'link', 'show', 'eth0')) as { ifindex: number }[]
      // Before its address is good the kernel has no source for it.
      await until(() => /fe80::[^]*scope link/.test(addresses(netns)) && !addresses(netns).includes('tentative'))
      const link = eth0?.ifindex ?? 0
      for (let i = 0; i < 3; i++) {
        advertise(netns, link)
        await sleep(100 * slowness)
      }
      assert.equal(learned(made), '')
      // The proof that the host heard it: it obeys once the setting is gone.
      made.exec('sysctl', '-qw', `net.ipv6.conf.${towards}.accept_ra=2`)
      await until(() => {
        advertise(netns, link)
        return /default via fe80:[^]*2001:db8:bad:/.test(learned(made))
      })
    })
