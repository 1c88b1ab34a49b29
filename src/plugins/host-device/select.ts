/** From what a configuration says to a link of the host. */

import { invalidConfig } from '#cni/errors.ts'
import { findLink, listLinks } from '#netlink/link.ts'
import { IFF, type Link } from '#netlink/link-codec.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import type { HostDeviceConf, Selector } from './config.ts'
import { netDevicesAt, netDevicesOfAuxiliary, netDevicesOfPci } from './sysfs.ts'

/** Throws CniError 7 where the host has no such device at present: it may be in another pod. */
export function selectDevice(netlink: NetlinkSocket, { selector, what }: HostDeviceConf, sysfs: string): Link {
  const link = find(netlink, selector, sysfs)
  if (link === undefined) {
    throw invalidConfig(`${what}: the host has no network device ${describe(selector)}`, 'does another pod have it?')
  }
  if ((link.flags & IFF.LOOPBACK) !== 0) throw invalidConfig(`${what}: ${link.name} cannot leave its namespace`)
  return link
}

function find(netlink: NetlinkSocket, selector: Selector, sysfs: string): Link | undefined {
  const named = (names: readonly string[]): Link | undefined =>
    names.map((name) => findLink(netlink, name)).find((link) => link !== undefined)
  switch (selector.by) {
    case 'name':
      return findLink(netlink, selector.name)
    case 'mac': {
      // A VLAN or a bond has the address of what it is made of, which is meant.
      const links = listLinks(netlink).filter(({ mac }) => mac === selector.mac)
      return links.find(({ info }) => info === undefined) ?? links[0]
    }
    case 'kernelpath':
      return named(netDevicesAt(sysfs, selector.path))
    case 'pci':
      return named(netDevicesOfPci(sysfs, selector.id))
    case 'auxiliary':
      return named(netDevicesOfAuxiliary(sysfs, selector.id))
    default:
      return selector satisfies never
  }
}

export function describe(selector: Selector): string {
  switch (selector.by) {
    case 'name':
      return selector.name
    case 'mac':
      return `with the MAC address ${selector.mac}`
    case 'kernelpath':
      return `at ${selector.path}`
    case 'pci':
      return `of the PCI device ${selector.id}`
    case 'auxiliary':
      return `of the auxiliary device ${selector.id}`
    default:
      return selector satisfies never
  }
}
