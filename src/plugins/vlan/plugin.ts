/** The plugin vlan: an 802.1Q VLAN of a link of the host as the pod's link. Contract: the reference plugin's configuration and result. */

import * as v from 'valibot'

import { invalidConfig, tryAgain, unavailable } from '#cni/errors.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { findLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { checkMtu, masterOf } from '../link/master.ts'
import type { Pod } from '../link/pod.ts'
import { createPodLink, type Call } from '../link/pod-link.ts'
import { podLinkPlugin } from '../link/pod-link-plugin.ts'

const schema = v.object({
  master: v.nullish(v.string(), ''),
  vlanId: v.nullish(intSchema(0, 4094), 0),
  /** 0 for the master's. */
  mtu: v.nullish(intSchema(0, 65_535), 0),
  linkInContainer: v.nullish(v.boolean(), false),
})

type VlanConf = v.InferOutput<typeof schema> & { readonly what: string }

/** Throws CniError 7. */
function vlanConf(input: PluginInput): VlanConf {
  const what = `vlan configuration of network ${JSON.stringify(input.config.name)}`
  const conf = parseWith(schema, input.config.raw, what)
  if (conf.master === '') throw invalidConfig(`${what} has no "master"`, 'name the link that carries the VLAN')
  return { ...conf, what }
}

function create(call: Call, { master: name, vlanId, mtu, linkInContainer: inContainer, what }: VlanConf): void {
  const { host, pod } = call
  const master = inContainer
    ? masterOf(pod.netlink, name, what, 'the container')
    : masterOf(host.netlink, name, what, 'the host')
  checkMtu(mtu, master, what)
  // The kernel sets no VLAN up whose master is down.
  if (!master.up) throw tryAgain(`${what}: its master ${name} is down`, `ip link set ${name} up`)
  createPodLink(call, { info: { kind: 'vlan', data: { id: vlanId } }, mtu, master, inContainer })
}

function check(
  { name, info }: Link,
  { vlanId, master, linkInContainer }: VlanConf,
  pod: Pod,
  host: Call['host'],
): void {
  const id = info?.kind === 'vlan' ? info.data?.id : undefined
  if (id !== vlanId) throw checkFailed(`${name} in ${pod.path} is VLAN ${id}, and its configuration says ${vlanId}`)
  if (findLink(linkInContainer ? pod.netlink : host.netlink, master) === undefined)
    throw checkFailed(`the master ${master} of ${name} in ${pod.path} is gone`)
}

export const vlan: Plugin = podLinkPlugin({
  type: 'vlan',
  kind: 'vlan',
  enableDad: true,
  conf: vlanConf,
  create,
  check,
  status({ linkInContainer, master, what }, host) {
    if (linkInContainer || findLink(host.netlink, master) !== undefined) return
    throw unavailable(`${what}: its master ${master} is not there`, 'see ip link')
  },
})
