/** The plugin macvlan: a link of the pod with a MAC address of its own on a link of the host. Contract: the reference plugin's configuration and result. */

import * as v from 'valibot'

import { invalidConfig, unavailable } from '#cni/errors.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import { intSchema, macSchema, parseWith } from '#cni/schema.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { isGroupMac } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import { findLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { MACVLAN_MODE } from '#netlink/link-kinds.ts'
import { requestedMac } from '../link/mac.ts'
import { checkMtu, masterOf } from '../link/master.ts'
import type { Pod } from '../link/pod.ts'
import { createPodLink, type Call } from '../link/pod-link.ts'
import { podLinkPlugin } from '../link/pod-link-plugin.ts'

const schema = v.object({
  /** '' for the link of the default route. */
  master: v.nullish(v.string(), ''),
  mode: v.nullish(v.picklist(['bridge', 'private', 'vepa', 'passthru', '']), ''),
  /** 0 for the master's. */
  mtu: v.nullish(intSchema(0, 65_535), 0),
  mac: v.nullish(v.union([macSchema, v.literal('')])),
  linkInContainer: v.nullish(v.boolean(), false),
  /** Broadcasts that wait for their receivers; the kernel gives a master the longest queue that one of its links asks for. */
  bcqueuelen: v.nullish(intSchema(0, 0xffff_ffff), 0),
})

interface MacvlanConf {
  readonly what: string
  readonly master: string
  readonly mode: 'bridge' | 'private' | 'vepa' | 'passthru'
  readonly mtu: number
  readonly mac?: MacText | undefined
  readonly linkInContainer: boolean
  readonly bcqueuelen: number
}

/** CNI_ARGS and runtimeConfig go before the configuration's own MAC address. Throws CniError 7. */
function macvlanConf(input: PluginInput): MacvlanConf {
  const what = `macvlan configuration of network ${JSON.stringify(input.config.name)}`
  const { mode, mac, ...conf } = parseWith(schema, input.config.raw, what)
  const own = mac === null || mac === '' ? undefined : mac
  if (own !== undefined && isGroupMac(own)) {
    throw invalidConfig(`${what}: "mac" ${own} is a group address`, 'the first byte of an interface address is even')
  }
  return { ...conf, what, mode: mode === '' ? 'bridge' : mode, mac: requestedMac(input) ?? own }
}

function create(call: Call, conf: MacvlanConf): void {
  const { host, pod } = call
  const { what, linkInContainer: inContainer, mtu, mac, bcqueuelen } = conf
  const master = inContainer
    ? masterOf(pod.netlink, conf.master, what, 'the container')
    : masterOf(host.netlink, conf.master, what, 'the host')
  checkMtu(mtu, master, what)
  const data = { mode: MACVLAN_MODE[conf.mode], ...(bcqueuelen === 0 ? {} : { bcQueueLen: bcqueuelen }) }
  createPodLink(call, { info: { kind: 'macvlan', data }, mtu, mac, master, inContainer })
}

function check({ name, info }: Link, conf: MacvlanConf, pod: Pod): void {
  const mode = info?.kind === 'macvlan' ? info.data?.mode : undefined
  if (mode === MACVLAN_MODE[conf.mode]) return
  const seen = Object.entries(MACVLAN_MODE).find(([, number]) => number === mode)?.[0] ?? mode
  throw checkFailed(`${name} in ${pod.path} is a macvlan in mode ${seen}, and its configuration says ${conf.mode}`)
}

export const macvlan: Plugin = podLinkPlugin({
  type: 'macvlan',
  kind: 'macvlan',
  enableDad: true,
  conf: macvlanConf,
  create,
  check,
  status({ linkInContainer, master, what }, host) {
    if (linkInContainer || master === '' || findLink(host.netlink, master) !== undefined) return
    throw unavailable(`${what}: its master ${master} is not there`, 'see ip link')
  },
})
