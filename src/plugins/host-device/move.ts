/**
 * A device's way into a pod and back. Its alias holds its name on the host while it is away, as the reference plugin has it, so that either finds what the other moved;
 * the rest is in the record (`link/record.ts`).
 */

import { setTimeout as sleep } from 'node:timers/promises'

import { tryAgain } from '#cni/errors.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { tryParseMac } from '#ip/mac.ts'
import { findLink, listLinks, moveLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hostNetns } from '../link/host-netns.ts'
import { openPodIfThere, type Pod } from '../link/pod.ts'
import { openRecorded, record, type Call } from '../link/pod-link.ts'
import { listRecords, removeRecord, type DeviceRecord, type LinkRecord } from '../link/record.ts'
import { sendAll } from '../link/veth.ts'

const deviceOf = ({ name, alias, mac, mtu, up, info }: Link): DeviceRecord => ({
  name,
  alias: alias ?? '',
  mac: mac ?? '',
  mtu,
  up,
  physical: info === undefined,
})

/** Into the pod, under its name there. The kernel moves and renames in one step. */
export async function moveIn(call: Call, link: Link): Promise<void> {
  const { input, host, pod, undo } = call
  const device = deviceOf(link)
  record(call, device)
  host.failpoint('host-device.recorded')
  undo.add(`device ${link.name}`, async () => void (await bringBack(host, pod, input.ifname, device)))
  sendAll(host.netlink, [setLinkMessage(link.index, { alias: link.name })])
  host.failpoint('host-device.marked')
  await moveLink(host.netlink, link.index, pod.fd, input.ifname)
  host.failpoint('host-device.moved')
}

/** Whatever became of it: from the pod, or as it is on the host. Throws CniError 11 while a link of the host has its name. */
export async function bringBack(
  host: PluginHost,
  pod: Pod | undefined,
  ifname: string,
  device: DeviceRecord,
): Promise<boolean> {
  const away = pod === undefined ? undefined : inPod(pod, ifname, device.name)
  if (pod !== undefined && away !== undefined) {
    if (findLink(host.netlink, device.name) !== undefined) throw nameTaken(device.name)
    await moveLink(pod.netlink, away.index, hostNetns(host).fd, device.name)
    host.failpoint('host-device.back')
  }
  const back = onHost(host.netlink, device)
  if (back !== undefined) restore(host.netlink, back, device)
  return back !== undefined
}

const nameTaken = (name: string) =>
  tryAgain(`the device cannot go back to the host, where another link is called ${name} now`, `rename that one`)

/** Also under the host's name: a kill can come between the kernel's two steps for a device that it could not rename. */
function inPod({ netlink }: Pod, ifname: string, name: string): Link | undefined {
  const link = findLink(netlink, ifname)
  if (link?.alias === name) return link
  const half = findLink(netlink, name)
  return half?.alias === name ? half : undefined
}

/** The kernel calls a device that comes back from a vanished namespace as the pod did, or dev0, dev1 …; the alias stays. */
const onHost = (netlink: NetlinkSocket, { name, mac }: DeviceRecord): Link | undefined => {
  const marked = listLinks(netlink).filter(({ alias }) => alias === name)
  return marked.find((link) => link.name === name) ?? marked.find((link) => link.mac === mac) ?? marked[0]
}

/** Everything as it was. A link that is up cannot be renamed. */
function restore(netlink: NetlinkSocket, link: Link, { name, alias, mac, mtu, up }: DeviceRecord): void {
  const macText = tryParseMac(mac)
  const differs = link.name !== name
  if (differs && findLink(netlink, name) !== undefined) throw nameTaken(name)
  sendAll(netlink, [
    ...(differs ? [setLinkMessage(link.index, { up: false }), setLinkMessage(link.index, { name })] : []),
    ...(macText === undefined || macText === link.mac ? [] : [setLinkMessage(link.index, { mac: macText })]),
    ...(mtu === link.mtu ? [] : [setLinkMessage(link.index, { mtu })]),
    ...(up && (differs || !link.up) ? [setLinkMessage(link.index, { up: true })] : []),
    // Last: until then the alias tells that something is left to do.
    setLinkMessage(link.index, { alias }),
  ])
}

const RETURN_DEADLINE_MS = 2000

/**
 * The device of a record, back. A physical one comes by itself out of a namespace that ended, a moment after its end: what has not come in two seconds keeps its
 * record, and the next call restores it. Virtual ones end with their namespace.
 */
export async function returnRecorded(host: PluginHost, known: LinkRecord): Promise<void> {
  const { device } = known
  using pod = openRecorded(known)
  if (device !== undefined) {
    const deadline = performance.now() + RETURN_DEADLINE_MS
    while (!(await bringBack(host, pod, known.ifname, device))) {
      if (pod !== undefined || !device.physical) break
      if (performance.now() > deadline) {
        host.log('warn', `${device.name} has not come back from ${known.netns} yet`, { network: known.network })
        return
      }
      await sleep(20)
    }
  }
  removeRecord(host, known.network, known)
}

/** A device that the reference plugin moved, or we before a reboot lost its record: the alias is all there is. */
export async function returnUnrecorded(host: PluginHost, pod: Pod, { ifname }: Attachment): Promise<void> {
  const link = findLink(pod.netlink, ifname)
  const { alias } = link ?? {}
  if (link === undefined || alias === undefined || !isLinkName(alias)) return
  await bringBack(host, pod, ifname, { ...deviceOf(link), name: alias, alias: '', up: false })
}

const isLinkName = (text: string): boolean => Buffer.byteLength(text) <= 15 && /^[^/:\s]+$/.test(text)

/** Devices whose pods ended while nobody looked: the next pod may want one of them. */
export async function returnForgotten(host: PluginHost): Promise<void> {
  for (const { device, netns, ...attachment } of listRecords(host, 'host-device')) {
    using pod = openPodIfThere(netns)
    if (device === undefined || pod !== undefined) continue
    if (await bringBack(host, undefined, attachment.ifname, device)) removeRecord(host, attachment.network, attachment)
  }
}

/** A device that came back under a strange name is given its own. */
export function restoreStray(host: PluginHost, name: string): void {
  if (findLink(host.netlink, name) !== undefined) return
  const stray = listLinks(host.netlink).find(({ alias, info }) => alias === name && info === undefined)
  if (stray !== undefined) restore(host.netlink, stray, { ...deviceOf(stray), name, alias: '' })
}
