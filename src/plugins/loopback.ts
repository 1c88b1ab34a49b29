/** The plugin loopback: brings `lo` of the container up. CNI_IFNAME is not looked at. Contract: the reference plugin. */

import type { Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { ZERO_MAC } from '#ip/mac.ts'
import { isLoopback } from '#ip/address.ts'
import { parseIpNet } from '#ip/prefix.ts'
import { listAddrs } from '#netlink/addr.ts'
import { getLink, setLink } from '#netlink/link.ts'
import { openPod, openPodIfThere } from './link/pod.ts'

export const loopback: Plugin = {
  type: 'loopback',
  versions: specVersions,
  stateless: true,
  add,
  del,
  check,
  status: async () => {},
  gc: async () => {},
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  using pod = openPod(input.netns)
  host.failpoint('loopback.up')
  setLink(pod.netlink, 'lo', { up: true })
  if (input.prevResult !== undefined) return input.prevResult
  const { index, mtu } = getLink(pod.netlink, 'lo')
  const addresses = listAddrs(pod.netlink, { index })
    .map((addr) => addr.address)
    .filter((address) => isLoopback(parseIpNet(address).ip))
  return {
    ...emptyResult,
    interfaces: [{ name: 'lo', mac: ZERO_MAC, mtu, sandbox: input.netns }],
    ips: addresses.map((address) => ({ address, interface: 0 })),
  }
}

/** A namespace that is gone took its `lo` along. */
async function del(input: PluginInput): Promise<void> {
  using pod = openPodIfThere(input.netns)
  if (pod !== undefined) setLink(pod.netlink, 'lo', { up: false })
}

async function check(input: PluginInput): Promise<void> {
  using pod = openPod(input.netns)
  if (!getLink(pod.netlink, 'lo').up) throw checkFailed(`lo in ${input.netns} is down`, 'ip link set lo up')
}
