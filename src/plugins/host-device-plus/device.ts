/** A card's link: how it comes from the cloud, into a pod, and back. */

import { invalidEnvironment, messageOf, tryAgain, unsupportedField } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { MacText } from '#ip/text.ts'
import { findLink, kindOf, listLinks, moveLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { NetlinkMonitor } from '#netlink/monitor.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import { hostNetns } from '../link/host-netns.ts'
import type { Pod } from '../link/pod.ts'
import { openRecorded } from '../link/pod-link.ts'
import { sendAll } from '../link/veth.ts'
import { aliasOfCard, type Card, type Device } from './card.ts'

type Host = Pick<PluginHost, 'netlink' | 'failpoint'>

/** A link that a hypervisor can have plugged in; others (VLANs, bonds, bridges) bear the MAC address of a card too. veths are the cards of tests and labs. */
const isCard = (link: Link): boolean => kindOf(link) === undefined || kindOf(link) === 'veth'

/** By the address that its hardware came with, which a pod cannot change; where there is none, by the present one. */
export const hasMac = (link: Link, mac: MacText): boolean => isCard(link) && (link.permanentMac ?? link.mac) === mac

/** The card's link in a namespace. One whose MAC address a pod has changed is still found by its alias. */
function findIn(netlink: NetlinkSocket, mac: MacText, alias: string): Link | undefined {
  const links = listLinks(netlink).filter(isCard)
  return (
    links.find((link) => hasMac(link, mac)) ??
    links.find((link) => link.permanentMac === undefined && link.alias === alias)
  )
}

export const findCard = (host: Host, card: Card): Link | undefined =>
  card.port === undefined ? undefined : findIn(host.netlink, card.port.mac, aliasOfCard(card))

/** Like `ip monitor link`, until one with that MAC address is there. Throws CniError 11 when time is up, and what the kernel says. */
export async function awaitCard(
  host: Host,
  mac: MacText,
  timeoutMs: number,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<Link> {
  const { promise, resolve, reject } = Promise.withResolvers<Link>()
  const look = (): void => {
    const link = listLinks(host.netlink).find((one) => hasMac(one, mac))
    if (link !== undefined) resolve(link)
  }
  const onAbort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('given up'))
  using _monitor = new NetlinkMonitor({
    groups: ['link'],
    netns: hostNetns(host).fd,
    onError: reject,
    onEvent: (event) => {
      if (event.kind === 'overrun') look()
      else if (event.kind === 'link' && event.change === 'new' && hasMac(event.link, mac)) resolve(event.link)
    },
  })
  // It watches first, so that nothing falls between.
  look()
  using _timer = clock.timeout(timeoutMs, () =>
    reject(
      tryAgain(
        `no network device with MAC address ${mac} has appeared within ${timeoutMs} ms`,
        'look at the server in Nova, at its console for hot-plug errors, and at its free PCI slots',
      ),
    ),
  )
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

export const deviceOf = ({ name, mtu, info }: Link): Device => ({ name, mtu, physical: info === undefined })

/** In the pool: down, so that nothing of the host talks over it, and told by its alias. */
export function rest(host: Host, link: Link, card: Card): void {
  sendAll(host.netlink, [setLinkMessage(link.index, { up: false, alias: aliasOfCard(card) })])
}

/** Into the pod, under its name there. The kernel moves and renames; the addresses of the host's network managers stay behind. */
export async function moveIn(host: Host, pod: Pod, link: Link, card: Card, mtu: number, ifname: string): Promise<void> {
  sendAll(host.netlink, [setLinkMessage(link.index, { up: false, alias: aliasOfCard(card) })])
  if (mtu !== 0 && mtu !== link.mtu) setMtu(host.netlink, link, mtu)
  host.failpoint('host-device-plus.marked')
  try {
    await moveLink(host.netlink, link.index, pod.fd, ifname)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    throw invalidEnvironment(`the container got an interface ${ifname} meanwhile`, messageOf(error), { cause: error })
  }
  host.failpoint('host-device-plus.moved')
}

function setMtu(netlink: NetlinkSocket, link: Link, mtu: number): void {
  try {
    sendAll(netlink, [setLinkMessage(link.index, { mtu })])
  } catch (error) {
    throw unsupportedField(`"mtu" ${mtu}: ${link.name} cannot have it`, messageOf(error), { cause: error })
  }
}

/** A physical device comes by itself out of a namespace that ended, a moment after its end. */
const RETURN_MS = 2_000

/**
 * From the pod to the host under its name there, or as it came back by itself when the pod's namespace ended; down, and as before the pod had it.
 * Undefined where there is none any more: unplugged, or gone with its namespace. Throws CniError 11 for a namespace that cannot be opened.
 */
export async function bringBack(host: Host, card: Card): Promise<Link | undefined> {
  const { holder, port, device, network } = card
  if (port === undefined) return undefined
  const alias = aliasOfCard(card)
  if (holder !== undefined && findIn(host.netlink, port.mac, alias) === undefined) {
    using pod = openRecorded({ plugin: 'host-device-plus', network, ...holder })
    const away = pod === undefined ? undefined : (findIn(pod.netlink, port.mac, alias) ?? strange(pod, card))
    if (pod !== undefined && away !== undefined) {
      const name = freeName(host.netlink, device?.name ?? away.name, card)
      await moveLink(pod.netlink, away.index, hostNetns(host).fd, name)
      // With a MAC address of the pod's making it is told by its alias alone.
      sendAll(host.netlink, [setLinkMessage(name, { alias })])
      host.failpoint('host-device-plus.back')
    } else if (pod === undefined && device?.physical === true) {
      const never = new AbortController().signal
      await awaitCard(host, port.mac, RETURN_MS, never).catch(() => undefined)
    }
  }
  const back = findIn(host.netlink, port.mac, alias)
  if (back !== undefined) restore(host.netlink, back, card)
  return back === undefined ? undefined : findLink(host.netlink, back.index)
}

/** The pod's link of that name, where the pod has given it another MAC address and alias. One that the hardware names is another card. */
function strange({ netlink }: Pod, { holder, device }: Card): Link | undefined {
  const link = holder === undefined ? undefined : findLink(netlink, holder.ifname)
  if (link === undefined || !isCard(link) || link.permanentMac !== undefined) return undefined
  // A veth of another plugin in the same pod bears that one's mark.
  return device !== undefined && link.alias?.startsWith('heddle:') !== true ? link : undefined
}

/** Its own on the host, or one of our making where another link has that meanwhile: that it comes back matters more. */
const freeName = (netlink: NetlinkSocket, name: string, { id }: Card): string =>
  findLink(netlink, name) === undefined ? name : `nic${id}`

/** Everything as it was, and down. A link that is up cannot be renamed. */
function restore(netlink: NetlinkSocket, link: Link, card: Card): void {
  const { device, port } = card
  const name = device === undefined || device.name === link.name ? link.name : freeName(netlink, device.name, card)
  const mtu = device?.mtu ?? link.mtu
  sendAll(netlink, [
    setLinkMessage(link.index, { up: false }),
    ...(name === link.name ? [] : [setLinkMessage(link.index, { name })]),
    ...(port === undefined || port.mac === link.mac ? [] : [setLinkMessage(link.index, { mac: port.mac })]),
    ...(mtu === link.mtu ? [] : [setLinkMessage(link.index, { mtu })]),
    setLinkMessage(link.index, { alias: aliasOfCard(card) }),
  ])
}
