/** The plugin tap: a TAP device in the pod, for a virtual machine in it. Contract: the reference plugin's configuration and result. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import { intSchema, macSchema, parseWith } from '#cni/schema.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { isGroupMac } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import { findLink, kindOf, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { requestedMac } from '../link/mac.ts'
import type { Pod } from '../link/pod.ts'
import { mark, type Call } from '../link/pod-link.ts'
import { podLinkPlugin } from '../link/pod-link-plugin.ts'
import { sendAll } from '../link/veth.ts'
import { createLabelledTap, createTap } from './device.ts'

/** 2³² − 1 means nobody. */
const id = v.nullish(intSchema(0, 0xffff_fffe))

const schema = v.object({
  multiQueue: v.nullish(v.boolean(), false),
  /** 0 for the kernel's default. */
  mtu: v.nullish(intSchema(0, 65_521), 0),
  mac: v.nullish(v.union([macSchema, v.literal('')])),
  owner: id,
  group: id,
  selinuxContext: v.nullish(v.string(), ''),
  /** A bridge in the container. */
  bridge: v.nullish(v.string(), ''),
})

interface TapConf {
  readonly what: string
  readonly multiQueue: boolean
  readonly mtu: number
  readonly mac?: MacText | undefined
  readonly owner?: number | undefined
  readonly group?: number | undefined
  readonly selinuxContext: string
  readonly bridge: string
}

/** CNI_ARGS and runtimeConfig go before the configuration's own MAC address. Throws CniError 7. */
function tapConf(input: PluginInput): TapConf {
  const what = `tap configuration of network ${JSON.stringify(input.config.name)}`
  const { mac, owner, group, ...conf } = parseWith(schema, input.config.raw, what)
  const own = mac === null || mac === '' ? undefined : mac
  if (own !== undefined && isGroupMac(own)) {
    throw invalidConfig(`${what}: "mac" ${own} is a group address`, 'the first byte of an interface address is even')
  }
  return { ...conf, what, owner: owner ?? undefined, group: group ?? undefined, mac: requestedMac(input) ?? own }
}

function create(call: Call, conf: TapConf): void {
  const { input, pod, host } = call
  const { multiQueue, owner, group, selinuxContext, mtu, mac } = conf
  const master = conf.bridge === '' ? undefined : bridgeIn(pod, conf)
  const device = { name: input.ifname, multiQueue, owner, group }
  if (selinuxContext === '') createTap(pod.fd, device)
  else createLabelledTap(pod.fd, device, selinuxContext)
  mark(call, input.ifname)
  host.failpoint('tap.created')
  const settings = { mac, master: master?.index, ...(mtu === 0 ? {} : { mtu }) }
  if (mac !== undefined || master !== undefined || mtu !== 0)
    sendAll(pod.netlink, [setLinkMessage(input.ifname, settings)])
}

function bridgeIn(pod: Pod, { bridge, what }: TapConf): Link {
  const link = findLink(pod.netlink, bridge)
  if (link !== undefined && kindOf(link) === 'bridge') return link
  throw invalidConfig(
    `${what}: "bridge" ${JSON.stringify(bridge)} is ${link === undefined ? 'no link' : `a ${kindOf(link) ?? 'device'} and no bridge`} of the container`,
    'an earlier plugin of the chain has to make it there',
  )
}

function check({ name, info, master }: Link, conf: TapConf, pod: Pod): void {
  const data = info?.kind === 'tun' ? info.data : undefined
  const wrong = (what: string) => checkFailed(`${name} in ${pod.path} ${what}`)
  if (data?.type !== TAP) throw wrong('is a TUN device, not a TAP device')
  if ((data.multiQueue === true) !== conf.multiQueue)
    throw wrong(conf.multiQueue ? 'has one queue only' : 'has several queues')
  if (data.owner !== conf.owner)
    throw wrong(`belongs to user ${data.owner ?? 'nobody'}, not to ${conf.owner ?? 'nobody'}`)
  if (data.group !== conf.group) throw wrong(`belongs to group ${data.group ?? 'none'}, not to ${conf.group ?? 'none'}`)
  if (conf.bridge !== '' && master !== findLink(pod.netlink, conf.bridge)?.index)
    throw wrong(`is no port of ${conf.bridge}`)
}

/** `data.type` of the kind tun. */
const TAP = 2

export const tap: Plugin = podLinkPlugin({
  type: 'tap',
  kind: 'tun',
  // Nobody else is on the link until somebody opens the device, and without carrier detection would never end.
  enableDad: false,
  conf: tapConf,
  create,
  check,
})
