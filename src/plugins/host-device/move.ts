/**
 * A device's way into a pod and back. Its alias holds its name on the host while it is away, as the reference plugin has it, so that either finds what the other moved;
 * the rest is in the record (`link/record.ts`).
 */

import { setTimeout as sleep } from 'node:timers/promises'

import { joinErrors, tryAgain } from '#cni/errors.ts'
import { netnsIdentity } from '#cni/netns.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { tryParseMac } from '#ip/mac.ts'
import { findLink, listLinks, moveLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { VfSettings } from '#netlink/link-vf.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hostNetns } from '../link/host-netns.ts'
import type { Pod } from '../link/pod.ts'
import { openRecorded, record, type Call } from '../link/pod-link.ts'
import { listRecords, removeRecord, type DeviceRecord, type LinkRecord } from '../link/record.ts'
import { all } from '../link/undo.ts'
import { sendAll } from '../link/veth.ts'
import type { VfRecord } from '../link/vf-record.ts'
import { applyVf, cardOf, restoreVf, type VfCard } from './vf.ts'

const deviceOf = ({ name, alias, mac, mtu, up, info }: Link): DeviceRecord => ({
  name,
  alias: alias ?? '',
  mac: mac ?? '',
  mtu,
  up,
  physical: info === undefined,
})

/** Into the pod, under its name there. The kernel moves and renames in one step. */
export async function moveIn(call: Call, link: Link, claim?: VfClaim): Promise<void> {
  const { input, host, pod, undo } = call
  const device = deviceOf(link)
  record(call, { device, ...(claim === undefined ? {} : { vf: claim.record }) })
  host.failpoint('host-device.recorded')
  const back = { device, vf: claim?.record, ifname: input.ifname }
  undo.add(`device ${link.name}`, async () => {
    const isBack = await bringBack(host, pod, back, claim?.card)
    // It was not even marked.
    if (!isBack && claim !== undefined) restoreVf(host, claim.card, claim.record)
  })
  if (claim !== undefined) take(host, claim)
  const mac = claim?.settings.mac
  sendAll(host.netlink, [setLinkMessage(link.index, { alias: link.name, ...(mac === undefined ? {} : { mac }) })])
  host.failpoint('host-device.marked')
  await moveLink(host.netlink, link.index, pod.fd, input.ifname)
  host.failpoint('host-device.moved')
}

/** What a pod wants of a card's virtual function. */
export interface VfClaim {
  readonly card: VfCard
  readonly settings: VfSettings
  readonly record: VfRecord
  /** Names the configuration. */
  readonly what: string
}

/** Before the pod has it. */
function take(host: PluginHost, { card, settings, record: place, what }: VfClaim): void {
  host.failpoint('host-device.vf')
  applyVf(card, place, settings, what)
  host.failpoint('host-device.vf-set')
}

/** A function that a program of the pod drives: its card's settings are all there is. */
export function takeUserspace(call: Call, claim: VfClaim): void {
  const { host, undo } = call
  record(call, { vf: claim.record })
  undo.add('virtual function', () => restoreVf(host, claim.card, claim.record))
  take(host, claim)
}

type Way = Pick<LinkRecord, 'ifname' | 'vf'> & { readonly device: DeviceRecord }

/**
 * Whatever became of it: from the pod, or as it is on the host. Throws CniError 11 while a link of the host has its name. A card's settings go when the pod cannot send
 * any more, and before the function's own address, which the card may refuse to change until then.
 */
async function bringBack(
  host: PluginHost,
  pod: Pod | undefined,
  { device, vf, ifname }: Way,
  card: VfCard = cardOf(host.netlink),
): Promise<boolean> {
  const away = pod === undefined ? undefined : inPod(pod, ifname, device.name)
  if (pod !== undefined && away !== undefined) {
    if (findLink(host.netlink, device.name) !== undefined) throw nameTaken(device.name)
    await moveLink(pod.netlink, away.index, hostNetns(host).fd, device.name)
    host.failpoint('host-device.back')
  }
  const back = onHost(host.netlink, device)
  if (back === undefined) return false
  const failed = await all([
    () => vf === undefined || restoreVf(host, card, vf),
    () => restore(host.netlink, back, device),
  ])
  const joined = joinErrors(failed)
  if (joined !== undefined) throw joined
  return true
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

/**
 * The kernel calls a device that comes back from a vanished namespace as the pod did, or dev0, dev1 …; the alias stays. One that the reference plugin gave back has its
 * name again, and no alias.
 */
const onHost = (netlink: NetlinkSocket, { name, mac }: DeviceRecord): Link | undefined => {
  const marked = listLinks(netlink).filter(({ alias }) => alias === name)
  const found = marked.find((link) => link.name === name) ?? marked.find((link) => link.mac === mac) ?? marked[0]
  if (found !== undefined) return found
  const plain = findLink(netlink, name)
  return plain?.mac === mac && plain.alias === undefined ? plain : undefined
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
export async function returnRecorded(host: PluginHost, known: LinkRecord, card: VfCard): Promise<void> {
  using pod = openRecorded(known)
  const fate = await fateOf(host, pod, known, card)
  if (fate === 'late') {
    host.log('warn', `${known.device?.name} has not come back from ${known.netns} yet`, { network: known.network })
    return
  }
  // Of a function without a link, or with one that went with its namespace.
  if (fate === 'gone' && known.vf !== undefined) restoreVf(host, card, known.vf)
  removeRecord(host, known.network, known)
}

async function fateOf(
  host: PluginHost,
  pod: Pod | undefined,
  { device, vf, ifname }: LinkRecord,
  card: VfCard,
): Promise<'back' | 'gone' | 'late'> {
  if (device === undefined) return 'gone'
  const deadline = performance.now() + RETURN_DEADLINE_MS
  while (!(await bringBack(host, pod, { device, vf, ifname }, card))) {
    if (pod !== undefined || !device.physical) return 'gone'
    if (performance.now() > deadline) return 'late'
    await sleep(20)
  }
  return 'back'
}

/** A device that the reference plugin moved, or we before a reboot lost its record: the alias is all there is. */
export async function returnUnrecorded(host: PluginHost, pod: Pod, { ifname }: Attachment): Promise<void> {
  const link = findLink(pod.netlink, ifname)
  const { alias } = link ?? {}
  if (link === undefined || alias === undefined || !isLinkName(alias)) return
  await bringBack(host, pod, { ifname, device: { ...deviceOf(link), name: alias, alias: '', up: false } })
}

const isLinkName = (text: string): boolean => Buffer.byteLength(text) <= 15 && /^[^/:\s]+$/.test(text)

/** Devices whose pods ended while nobody looked: the next pod may want one of them. */
export async function returnForgotten(host: PluginHost, card: VfCard): Promise<void> {
  for (const { device, vf, netns, netnsId, ...attachment } of listRecords(host, 'host-device')) {
    // Another namespace may be behind that path now.
    if (netnsIdentity(netns) === netnsId) continue
    const { ifname } = attachment
    if (device !== undefined && !(await bringBack(host, undefined, { device, vf, ifname }, card))) continue
    if (vf !== undefined) restoreVf(host, card, vf)
    if (device !== undefined || vf !== undefined) removeRecord(host, attachment.network, attachment)
  }
}

/** A device that came back under a strange name is given its own. */
export function restoreStray(host: PluginHost, name: string): void {
  if (findLink(host.netlink, name) !== undefined) return
  const stray = listLinks(host.netlink).find(({ alias, info }) => alias === name && info === undefined)
  if (stray !== undefined) restore(host.netlink, stray, { ...deviceOf(stray), name, alias: '' })
}
