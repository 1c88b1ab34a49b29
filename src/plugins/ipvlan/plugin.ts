/** The plugin ipvlan: a link of the pod with its master's MAC address on a link of the host. Contract: the reference plugin's configuration and result. */

import * as v from 'valibot'

import { invalidConfig, unavailable } from '#cni/errors.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { findLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { IPVLAN_MODE } from '#netlink/link-kinds.ts'
import { masterOf } from '../link/master.ts'
import { factsOf, networkMtu } from '../link/node-address.ts'
import type { Pod } from '../link/pod.ts'
import { createPodLink, type Call } from '../link/pod-link.ts'
import { podLinkPlugin } from '../link/pod-link-plugin.ts'

const schema = v.object({
  /** '' for the only interface of the previous result, else for the link of the default route. */
  master: v.nullish(v.string(), ''),
  mode: v.nullish(v.picklist(['l2', 'l3', 'l3s', '']), ''),
  /** 0 for the master's; with neutron-ipam for the network's, where that is less. */
  mtu: v.nullish(intSchema(0, 65_535), 0),
  linkInContainer: v.nullish(v.boolean(), false),
})

interface IpvlanConf {
  readonly what: string
  readonly master: string
  readonly mode: 'l2' | 'l3' | 'l3s'
  readonly mtu: number
  readonly linkInContainer: boolean
}

/** Throws CniError 7. */
function ipvlanConf(input: PluginInput): IpvlanConf {
  const what = `ipvlan configuration of network ${JSON.stringify(input.config.name)}`
  const { mode, ...conf } = parseWith(schema, input.config.raw, what)
  return { ...conf, what, mode: mode === '' ? 'l2' : mode }
}

function create(call: Call, conf: IpvlanConf): void {
  const { input, host, pod } = call
  const { what, linkInContainer: inContainer, mtu, mode } = conf
  if (input.config.ipam.type === '' && inherited(input) === undefined) {
    throw invalidConfig(`${what} has neither "ipam" nor a previous result with addresses`, 'add an IPAM plugin')
  }
  const name = conf.master === '' ? chainedMaster(input, what) : conf.master
  const master = inContainer
    ? masterOf(pod.netlink, name, what, 'the container')
    : masterOf(host.netlink, name, what, 'the host')
  createPodLink(call, {
    info: { kind: 'ipvlan', data: { mode: IPVLAN_MODE[mode] } },
    mtu: mtu === 0 ? networkMtu(master, factsOf(input.config, host.root)) : mtu,
    master,
    inContainer,
  })
}

/** Chained without `master`: the one interface that the plugins before made. */
function chainedMaster({ prevResult }: PluginInput, what: string): string {
  if (prevResult === undefined) return ''
  const [only, ...others] = prevResult.interfaces
  if (only !== undefined && only.name !== '' && others.length === 0) return only.name
  throw invalidConfig(
    `${what} has no "master", and the previous result names ${prevResult.interfaces.length} interfaces instead of one`,
    'name a link',
  )
}

const inherited = ({ prevResult }: PluginInput): Result | undefined =>
  prevResult === undefined || prevResult.ips.length === 0 ? undefined : prevResult

function check({ name, info }: Link, conf: IpvlanConf, pod: Pod, host: Call['host']): void {
  const mode = info?.kind === 'ipvlan' ? info.data?.mode : undefined
  if (mode !== IPVLAN_MODE[conf.mode]) {
    const seen = Object.entries(IPVLAN_MODE).find(([, number]) => number === mode)?.[0] ?? mode
    throw checkFailed(`${name} in ${pod.path} is an ipvlan in mode ${seen}, and its configuration says ${conf.mode}`)
  }
  const netlink = conf.linkInContainer ? pod.netlink : host.netlink
  if (conf.master !== '' && findLink(netlink, conf.master) === undefined)
    throw checkFailed(`the master ${conf.master} of ${name} in ${pod.path} is gone`)
}

export const ipvlan: Plugin = podLinkPlugin({
  type: 'ipvlan',
  kind: 'ipvlan',
  enableDad: true,
  conf: ipvlanConf,
  create,
  inherited,
  check,
  status({ linkInContainer, master, what }, host) {
    if (linkInContainer || master === '' || findLink(host.netlink, master) !== undefined) return
    throw unavailable(`${what}: its master ${master} is not there`, 'see ip link')
  },
})
