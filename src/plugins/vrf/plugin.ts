/** The chained plugin vrf: the pod's interface gets a routing table to itself, or shares it with others of one VRF. Contract: the reference plugin's configuration. */

import { invalidConfig, joinErrors, tryAgain } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { versionsFrom } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { listAddrs } from '#netlink/addr.ts'
import { findLink, kindOf } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import { hasCode } from '#sys/errno.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { lockPod } from '../link/pod-lock.ts'
import { forStalePods, podOf } from '../link/recorded-pod.ts'
import { all, undoing } from '../link/undo.ts'
import { removeLink } from '../link/veth.ts'
import { vrfConf, vrfNameIn, type VrfConf } from './config.ts'
import { asVrf, ensureVrf, isOurs, isUnmarked, membersOf } from './device.ts'
import { keep, setMaster } from './member.ts'

const TYPE = 'vrf'

export const vrf: Plugin = { type: TYPE, versions: versionsFrom('0.3.1'), add, del, check, status, gc }

/** Throws CniError 7 when the plugin is not chained behind one that makes an interface. */
function previous({ prevResult }: PluginInput): Result {
  if (prevResult !== undefined) return prevResult
  throw invalidConfig('vrf must be called as a chained plugin', 'put it after macvlan or another plugin in the list')
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const result = previous(input)
  const conf = vrfConf(input)
  using pod = openPod(input.netns)
  using _lock = await lockPod(pod)
  return await undoing(host, async (undo) => {
    const link = freeLink(pod, input.ifname, conf)
    host.failpoint('vrf.make')
    const device = ensureVrf(pod, conf, undo)
    host.failpoint('vrf.made')
    const kept = keep(pod, link)
    undo.add(`membership of ${link.name}`, () => setMaster(pod, link, 0, kept, RT_TABLE.MAIN, RT_TABLE.MAIN))
    setMaster(pod, link, device.index, kept, RT_TABLE.MAIN, device.table)
    host.failpoint('vrf.joined')
    return Promise.resolve(result)
  })
}

/** Throws CniError 7 where there is no such interface or it belongs to something else, 11 where it is a member already. */
function freeLink(pod: Pod, ifname: string, { what, name }: VrfConf): Link {
  const link = findLink(pod.netlink, ifname)
  if (link === undefined)
    throw invalidConfig(`${what}: there is no interface ${ifname} in ${pod.path}`, 'put vrf after what makes it')
  if (link.master === undefined || link.master === 0) return link
  const master = findLink(pod.netlink, link.master)
  if (master?.name === name)
    throw tryAgain(`${ifname} in ${pod.path} belongs to the VRF ${name} already`, 'run DEL for this attachment first')
  const whose = `${master?.name ?? link.master} (${master === undefined ? 'unknown' : (kindOf(master) ?? 'device')})`
  throw invalidConfig(`${what}: ${ifname} in ${pod.path} belongs to ${whose}`, 'an interface has one master')
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  host.failpoint('vrf.leave')
  using pod = podOf(input, host, TYPE)
  if (pod !== undefined) await leave(pod, input.ifname, vrfNameIn(input), host)
  host.failpoint('vrf.left')
}

/** By what the kernel shows rather than by the configuration, which may have changed. Without another member the VRF goes, and lets its member go. */
async function leave(pod: Pod, ifname: string, configured: string, host: PluginHost): Promise<void> {
  const { netlink } = pod
  using _lock = await lockPod(pod)
  const link = findLink(netlink, ifname)
  const mastered = link?.master === undefined ? undefined : asVrf(findLink(netlink, link.master))
  const device = mastered ?? (configured === '' ? undefined : asVrf(findLink(netlink, configured)))
  if (device === undefined) return
  const others = membersOf(pod, device).filter(({ index }) => index !== link?.index)
  if (others.length === 0 && (isOurs(device) || (mastered !== undefined && isUnmarked(device)))) {
    await removeLink(netlink, device.index)
    host.failpoint('vrf.removed')
  } else if (mastered !== undefined && link !== undefined) release(pod, link)
}

/** Its addresses and routes do not matter any more: it is about to go itself. */
function release(pod: Pod, link: Link): void {
  try {
    setMaster(pod, link, 0, { addrs: [], routes: [] }, RT_TABLE.MAIN, RT_TABLE.MAIN)
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error
  }
}

async function check(input: PluginInput): Promise<void> {
  const result = previous(input)
  const { name, table } = vrfConf(input)
  using pod = openPod(input.netns)
  const device = asVrf(findLink(pod.netlink, name))
  if (device === undefined) throw checkFailed(`there is no VRF ${name} in ${pod.path}`)
  if (table !== undefined && device.table !== table)
    throw checkFailed(`the VRF ${name} in ${pod.path} has table ${device.table}, not ${table}`)
  if (findLink(pod.netlink, device.index)?.up !== true) throw checkFailed(`the VRF ${name} in ${pod.path} is down`)
  const link = findLink(pod.netlink, input.ifname)
  if (link?.master !== device.index)
    throw checkFailed(`${input.ifname} in ${pod.path} does not belong to the VRF ${name}`)
  const present = new Set(listAddrs(pod.netlink, { index: link.index }).map(({ address }) => address))
  const lost = addressesOf(result, input.ifname).find((address) => !present.has(address))
  if (lost !== undefined) throw checkFailed(`${input.ifname} in ${pod.path} has lost its address ${lost}`)
}

const addressesOf = ({ interfaces, ips }: Result, ifname: string) =>
  ips
    .filter(({ interface: at }) => {
      const link = at === undefined ? undefined : interfaces[at]
      return link?.name === ifname && link.sandbox !== undefined && link.sandbox !== ''
    })
    .map(({ address }) => address)

async function status(input: PluginInput): Promise<void> {
  vrfConf(input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const name = vrfNameIn(input)
  const joined = joinErrors(
    await all(forStalePods(input, host, TYPE, (pod, { ifname }) => leave(pod, ifname, name, host))),
  )
  if (joined !== undefined) throw joined
}
