/** The dummy device that has the pods' gateway address (`dummy`): made with the first pod, gone with the last. All of it under the lock of what pods share. */

import { invalidConfig, unsupportedField } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { IpText } from '#ip/text.ts'
import { ipNetOf } from '#ip/prefix.ts'
import { addrMessage, listAddrs } from '#netlink/addr.ts'
import { createLinkMessage, findLink, getLink, kindOf, setLinkMessage } from '#netlink/link.ts'
import { hasCode } from '#sys/errno.ts'
import { ipOf } from '../link/configure.ts'
import { listRecords, type LinkRecord } from '../link/record.ts'
import { removeLink, sendAll } from '../link/veth.ts'
import { isSame, TYPE } from './proxies.ts'

const ALIAS = `heddle:${TYPE}`

/** Throws CniError 7 where the name is another link's, 2 where the kernel has no such kind. */
export function ensureDummy(host: PluginHost, name: string, address: IpText, what: string): void {
  const there = findLink(host.netlink, name)
  if (there !== undefined && (kindOf(there) !== 'dummy' || there.alias !== ALIAS))
    throw invalidConfig(
      `${what}: "dummy" ${name} is a ${kindOf(there) ?? 'device'} of somebody else`,
      'choose another name',
    )
  if (there === undefined) create(host, name, what)
  const { index } = getLink(host.netlink, name)
  const has = listAddrs(host.netlink, { index }).some((addr) => ipOf(addr.address) === address)
  sendAll(host.netlink, [
    setLinkMessage(index, { up: true, arp: false }),
    // Of the link's scope: never a source for anything else.
    ...(has ? [] : [addrMessage('add', { index, address: ipNetOf(address, 32), scope: 'link' })]),
  ])
}

function create(host: PluginHost, name: string, what: string): void {
  try {
    sendAll(host.netlink, [
      createLinkMessage({ name, info: { kind: 'dummy' } }),
      setLinkMessage(name, { alias: ALIAS }),
    ])
  } catch (error) {
    if (!hasCode(error, 'EOPNOTSUPP')) throw error
    throw unsupportedField(
      `${what}: "dummy" is ${name}, and this kernel has no dummy devices`,
      'modprobe dummy, or leave it out: pods do without',
      {
        cause: error,
      },
    )
  }
}

/** Removes it with the last pod that has it. */
export async function dropDummy(host: PluginHost, record: LinkRecord): Promise<void> {
  const name = record.shared
  if (name === undefined) return
  if (listRecords(host, TYPE).some((other) => other.shared === name && !isSame(other, record))) return
  const link = findLink(host.netlink, name)
  if (link?.alias === ALIAS) await removeLink(host.netlink, link.index)
}
