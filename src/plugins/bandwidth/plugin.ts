/** The chained plugin bandwidth: how fast a pod may receive and send. Contract: the reference plugin's configuration, devices and result. */

import { invalidConfig, joinErrors, tryAgain } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { versionsFrom } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import { addQdiscMessage, deleteQdiscMessage } from '#netlink/qdisc.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { handleOf } from '#netlink/tc.ts'
import { addFilterMessage, listFilters } from '#netlink/tc-filter.ts'
import { hasCode } from '#sys/errno.ts'
import { hostEnd } from '../link/host-end.ts'
import { openPod, openPodIfThere } from '../link/pod.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { removeLink, sendAll } from '../link/veth.ts'
import { bandwidthConf, type BandwidthConf, type Limit } from './config.ts'
import { createIfb, findIfb, staleIfbs } from './ifb.ts'
import { shapeMessages, unshapeMessages, wrongShape, type Shape } from './shape.ts'

export const bandwidth: Plugin = {
  type: 'bandwidth',
  versions: versionsFrom('0.3.0'),
  add,
  del,
  check,
  status,
  gc,
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const result = previous(input)
  const conf = bandwidthConf(input)
  const { ingress, egress } = conf
  if (ingress === undefined && egress === undefined) return result
  using pod = openPod(input.netns)
  const link = hostEnd(host, pod, input.ifname, result)
  if (typeof link === 'string') throw invalidConfig(link, 'put bandwidth after bridge or ptp in the list')
  return await undoing(host, (undo) => {
    if (ingress !== undefined) limitIngress(host, link, shapeOf(conf, ingress, 'source'), undo)
    if (egress === undefined) return Promise.resolve(result)
    const ifb = limitEgress(input, host, link, shapeOf(conf, egress, 'destination'), undo)
    const { name, mac, mtu } = ifb
    const made = { name, ...(mac === undefined ? {} : { mac }), mtu }
    return Promise.resolve({ ...result, interfaces: [...result.interfaces, made] })
  })
}

/** Throws CniError 7 when the plugin is not chained behind one that makes an interface. */
function previous(input: PluginInput): Result {
  if (input.prevResult !== undefined) return input.prevResult
  throw invalidConfig(
    'bandwidth must be called as a chained plugin',
    'put it after bridge or another plugin in the list',
  )
}

/** Seen from the host: what the pod receives, the host's end sends, and its other side is the source. */
const shapeOf = ({ scope }: BandwidthConf, limit: Limit, other: Shape['other']): Shape => ({ limit, scope, other })

function limitIngress(host: PluginHost, link: Link, shape: Shape, undo: Undo): void {
  host.failpoint('bandwidth.ingress')
  put(host.netlink, link, shapeMessages(link, shape), () =>
    undo.add(`limit of ${link.name}`, () => takeOff(host.netlink, unshapeMessages(link.index))),
  )
  host.failpoint('bandwidth.ingress-limited')
}

/** The device has its limit before the first packet comes to it. */
function limitEgress(input: PluginInput, host: PluginHost, link: Link, shape: Shape, undo: Undo): Link {
  const { netlink } = host
  const ifb = createIfb(host, input.config.name, input, link, undo)
  host.failpoint('bandwidth.ifb')
  sendAll(netlink, [...shapeMessages(ifb, shape), setLinkMessage(ifb.index, { up: true })])
  host.failpoint('bandwidth.ifb-limited')
  const redirect = addFilterMessage(link.index, INGRESS, { redirect: ifb.index })
  put(netlink, link, [addQdiscMessage(link.index, { kind: 'ingress' }), redirect], () =>
    undo.add(`redirection of ${link.name}`, () => takeOff(netlink, [deleteQdiscMessage(link.index, 'ingress')])),
  )
  host.failpoint('bandwidth.egress-limited')
  return ifb
}

/** The handle of the ingress qdisc. */
const INGRESS = handleOf(0xffff)

/** The first message decides whether the place is free: what somebody else put there is not touched, nor undone. */
function put(netlink: NetlinkSocket, link: Link, messages: readonly [Message, ...Message[]], begun: () => void): void {
  const [first, ...others] = messages
  try {
    netlink.request(first)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    throw tryAgain(`${link.name} has a qdisc already`, 'run DEL for this attachment first', { cause: error })
  }
  begun()
  sendAll(netlink, others)
}

/** What is not there, or of another kind, is none of ours. On the thread pool: the kernel waits until no packet is on its way through what goes. */
async function takeOff(netlink: NetlinkSocket, messages: readonly Message[]): Promise<void> {
  for (const message of messages) {
    try {
      await netlink.requestOnPool(message)
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EINVAL', 'ENODEV')) throw error
    }
  }
}

/** The qdiscs would go with the link; they are taken off all the same, should the link stay. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  host.failpoint('bandwidth.remove')
  const errors = await all([() => freeLink(input, host), () => dropIfb(input, host)])
  host.failpoint('bandwidth.removed')
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}

async function freeLink(input: PluginInput, host: PluginHost): Promise<void> {
  using pod = openPodIfThere(input.netns)
  if (pod === undefined) return
  const link = hostEnd(host, pod, input.ifname, input.prevResult)
  if (typeof link === 'string') return
  await takeOff(host.netlink, [...unshapeMessages(link.index), deleteQdiscMessage(link.index, 'ingress')])
}

async function dropIfb(input: PluginInput, { netlink }: PluginHost): Promise<void> {
  const ifb = findIfb(netlink, input.config.name, input)
  if (ifb !== undefined) await removeLink(netlink, ifb.index)
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const result = previous(input)
  const conf = bandwidthConf(input)
  const { ingress, egress } = conf
  if (ingress === undefined && egress === undefined) return
  using pod = openPod(input.netns)
  const link = hostEnd(host, pod, input.ifname, result)
  const wrong =
    typeof link === 'string'
      ? link
      : (wrongIngress(host.netlink, link, conf) ?? wrongEgress(host.netlink, link, conf, input))
  if (wrong !== undefined) throw checkFailed(wrong, 'run DEL and ADD')
}

const wrongIngress = (netlink: NetlinkSocket, link: Link, conf: BandwidthConf): string | undefined =>
  conf.ingress === undefined ? undefined : wrongShape(netlink, link, shapeOf(conf, conf.ingress, 'source'))

function wrongEgress(netlink: NetlinkSocket, link: Link, conf: BandwidthConf, input: PluginInput): string | undefined {
  if (conf.egress === undefined) return undefined
  const ifb = findIfb(netlink, input.config.name, input)
  if (ifb === undefined) return `the ifb that limits what ${link.name} receives is gone`
  if (!ifb.up) return `${ifb.name} is down, and the pod can send nothing`
  const isRedirected = listFilters(netlink, link.index, INGRESS).some(
    (filter) => filter !== 'other' && 'redirect' in filter && filter.redirect === ifb.index,
  )
  if (!isRedirected) return `${link.name} does not hand what it receives to ${ifb.name}`
  return wrongShape(netlink, ifb, shapeOf(conf, conf.egress, 'destination'))
}

async function status(input: PluginInput): Promise<void> {
  bandwidthConf(input)
}

/** Those that the reference plugin made bear no mark of their network: they go with their DEL. */
async function gc(input: GcInput, { netlink }: PluginHost): Promise<void> {
  const stale = staleIfbs(netlink, input.config.name, input.validAttachments)
  const joined = joinErrors(
    await all(
      stale.map(
        ({ index }) =>
          () =>
            removeLink(netlink, index),
      ),
    ),
  )
  if (joined !== undefined) throw joined
}
