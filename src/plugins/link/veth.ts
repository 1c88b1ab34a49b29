/** The veth pair of an attachment: one end on the host, the other in the pod. */

import { invalidEnvironment, tryAgain } from '#cni/errors.ts'
import type { Attachment, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import type { MacText } from '#ip/text.ts'
import {
  createLinkMessage,
  deleteLink,
  findLink,
  kindOf,
  listLinks,
  setBridgePortMessage,
  setLinkMessage,
} from '#netlink/link.ts'
import { noLinkLocalMessage, setInetMessage } from '#netlink/inet-conf.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { BridgePort } from '#netlink/link-kinds.ts'
import type { Message } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import { distrustful6, hostNetns, writeSysctls } from './host-netns.ts'
import { aliasOf, aliasPrefix, hostNames } from './owner.ts'
import { openPodIfThere, type Pod } from './pod.ts'
import type { Undo } from './undo.ts'

export interface VethOptions {
  /** Of `vethName`. */
  readonly name: string
  /** Of the pod's end, where it is not CNI_IFNAME. */
  readonly inside?: string | undefined
  /** 0 for the kernel's default. */
  readonly mtu: number
  readonly mac?: MacText | undefined
  /** Of the host's end. What has none given gets another one from udev a moment later, where that is set to. */
  readonly hostMac?: MacText | undefined
  /** Index of the bridge. */
  readonly master?: number | undefined
  /** Settings of the host's end as a port of its bridge. */
  readonly port?: BridgePort | undefined
}

/** The name of the host's end of a pair to be made. Throws CniError 4 when the pod has an interface of that name, 11 when the attachment exists. */
export function vethName(input: PluginInput, host: PluginHost, pod: Pod, inside = input.ifname): string {
  if (findLink(pod.netlink, inside) !== undefined) {
    throw invalidEnvironment(
      `the container already has an interface ${inside}`,
      `give this attachment another ${inside === input.ifname ? 'CNI_IFNAME' : '"ifName"'}, or run DEL for the one that made it (${pod.path})`,
    )
  }
  return freeName(host.netlink, input.config.name, input)
}

/**
 * Makes the pair, the pod's end in the pod and under its final name, both down. One request to the kernel, marks included, so that there never is
 * a link that DEL and GC would not know.
 */
export function createVeth(input: PluginInput, host: PluginHost, pod: Pod, options: VethOptions, undo: Undo): void {
  const { name, port, inside = input.ifname, hostMac } = options
  const mtu = options.mtu === 0 ? undefined : options.mtu
  const peer = { name: inside, netnsFd: pod.fd, mtu, mac: options.mac }
  const messages = [
    createLinkMessage({ name, mtu, mac: hostMac, master: options.master, info: { kind: 'veth', data: { peer } } }),
    setLinkMessage(name, { alias: aliasOf(input.config.name, input) }),
    ...(port === undefined ? [] : [setBridgePortMessage(name, port)]),
  ]
  const optional = [
    setInetMessage(name, { acceptRedirects: false }),
    // A port of a bridge needs no link-local address: the bridge has one.
    ...(options.master === undefined ? [] : [noLinkLocalMessage(name)]),
  ]
  host.failpoint('veth.create')
  const begun = (): void => undo.add(`link ${name}`, () => removeLink(host.netlink, name))
  sendAll(host.netlink, messages, begun, optional)
  host.failpoint('veth.created')
  writeSysctls(hostNetns(host).fd, distrustful6(name), true)
}

/**
 * Sends in one system call, which a kill cannot cut in two; throws the first error, after `begun` if the first message took effect. That one of the `optional` messages fails, which
 * go behind the others, is no matter.
 */
export function sendAll(
  netlink: NetlinkSocket,
  messages: readonly Message[],
  begun?: () => void,
  optional: readonly Message[] = [],
): void {
  const results = netlink.batch([...messages, ...optional])
  if (results[0] === undefined) begun?.()
  const failed = results.find((result, i) => result !== undefined && i < messages.length)
  if (failed !== undefined) throw failed
}

function freeName(netlink: NetlinkSocket, network: string, attachment: Attachment): string {
  const alias = aliasOf(network, attachment)
  for (const name of hostNames(network, attachment)) {
    const there = findLink(netlink, name)
    if (there === undefined) return name
    if (there.alias === alias) {
      throw tryAgain(
        `${attachment.ifname} of container ${attachment.containerId} is attached to ${network} already (link ${name})`,
        'run DEL for this attachment first',
      )
    }
  }
  throw tryAgain(`every name for the host's link of container ${attachment.containerId} is taken`)
}

/** The host's end of an attachment, by its mark. */
export function findVeth(netlink: NetlinkSocket, network: string, attachment: Attachment): Link | undefined {
  const alias = aliasOf(network, attachment)
  for (const name of hostNames(network, attachment)) {
    const link = findLink(netlink, name)
    if (link?.alias === alias) return link
  }
  return undefined
}

/** Every marked link of a network whose attachment is not among the valid ones. */
export function staleVeths(netlink: NetlinkSocket, network: string, valid: readonly Attachment[]): readonly Link[] {
  const prefix = aliasPrefix(network)
  const keep = new Set(valid.map((attachment) => aliasOf(network, attachment)))
  return listLinks(netlink, { kind: 'veth' }).filter(
    ({ alias }) => alias !== undefined && alias.startsWith(prefix) && !keep.has(alias),
  )
}

/**
 * Deletes an attachment's link, by whatever still leads to it: our mark, the pod's interface, or the host interface that the previous result names (the
 * reference plugin's names are random, so name and MAC must agree). Nothing left is no error.
 */
export async function removeVeth(input: PluginInput, host: PluginHost): Promise<void> {
  const own = findVeth(host.netlink, input.config.name, input)
  if (own !== undefined) await removeLink(host.netlink, own.index)
  using pod = openPodIfThere(input.netns)
  const inside = pod === undefined ? undefined : findLink(pod.netlink, input.ifname)
  if (pod !== undefined && inside !== undefined && kindOf(inside) === 'veth')
    await removeLink(pod.netlink, inside.index)
  if (own !== undefined || inside !== undefined || input.prevResult === undefined) return
  for (const { name, mac } of hostInterfaces(input.prevResult)) {
    const link = findLink(host.netlink, name)
    if (link !== undefined && kindOf(link) === 'veth' && link.alias === undefined && link.mac === mac) {
      await removeLink(host.netlink, link.index)
    }
  }
}

const hostInterfaces = (result: Result) =>
  result.interfaces.filter(({ sandbox }) => sandbox === undefined || sandbox === '')

/** Like `ip link delete`, off the main thread; no error when it is gone. */
export async function removeLink(netlink: NetlinkSocket, ref: number | string): Promise<void> {
  try {
    await deleteLink(netlink, ref)
  } catch (error) {
    if (!hasCode(error, 'ENODEV', 'ENXIO')) throw error
  }
}
