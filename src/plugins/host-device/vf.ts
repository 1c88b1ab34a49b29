/**
 * Virtual functions of SR-IOV cards: what their physical function enforces for them, for as long as a pod has them. Contract: the fields of the sriov plugin's
 * configuration. Before a setting is changed, the record says what it was.
 */

import { invalidConfig, joinErrors, messageOf, tryAgain } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { MacText } from '#ip/text.ts'
import { findLink } from '#netlink/link.ts'
import { listVfs, setVfMessage, type VfSettings } from '#netlink/link-vf.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import type { VfRecord } from '../link/vf-record.ts'

/** One function of a card: the name of its physical function's link, and its number there. */
export interface VfPlace {
  readonly pf: string
  readonly vf: number
}

/** The card as this file uses it. */
export interface VfCard {
  /** Undefined where there is no such function. */
  read(place: VfPlace): VfSettings | undefined
  /** Throws `NetlinkError`: EOPNOTSUPP for what the driver cannot. */
  write(place: VfPlace, settings: VfSettings): void
}

/** Like `ip link show PF` and `ip link set PF vf N …`. */
export const cardOf = (netlink: NetlinkSocket): VfCard => ({
  read({ pf, vf }) {
    const link = findLink(netlink, pf)
    return link === undefined ? undefined : listVfs(netlink, link.index).get(vf)
  },
  write({ pf, vf }, settings) {
    const link = findLink(netlink, pf)
    if (link !== undefined) netlink.request(setVfMessage(link.index, vf, settings))
  },
})

/** One setting after the other, so that a refusal names what is refused. */
export const settingsOneByOne = ({
  mac,
  vlan,
  spoofCheck,
  trust,
  linkState,
  rate,
}: VfSettings): readonly VfSettings[] =>
  [
    // A trusted function may change its address; one that is not trusted may not change what was set here.
    vlan === undefined ? {} : { vlan },
    mac === undefined ? {} : { mac },
    rate === undefined ? {} : { rate },
    spoofCheck === undefined ? {} : { spoofCheck },
    trust === undefined ? {} : { trust },
    linkState === undefined ? {} : { linkState },
  ].filter((one) => Object.keys(one).length > 0)

const NO_MAC = '00:00:00:00:00:00' as MacText

/** What to put back of `wanted`. What the driver does not tell was as a driver has it at first; of addresses and rates there is no such thing. */
export function recordOf(place: VfPlace, wanted: VfSettings, now: VfSettings): VfRecord {
  const { mac = NO_MAC, vlan, spoofCheck = true, trust = false, linkState = 'auto', rate } = now
  return {
    ...place,
    before: {
      ...(wanted.vlan === undefined ? {} : { vlan: { ...(vlan ?? { id: 0, qos: 0, protocol: 0x8100 }) } }),
      ...(wanted.mac === undefined ? {} : { mac }),
      ...(wanted.rate === undefined ? {} : { rate: { ...(rate ?? { min: 0, max: 0 }) } }),
      ...(wanted.spoofCheck === undefined ? {} : { spoofCheck }),
      ...(wanted.trust === undefined ? {} : { trust }),
      ...(wanted.linkState === undefined ? {} : { linkState }),
    },
  }
}

/** Throws CniError 7 for what the card refuses, after which some settings may have been made. */
export function applyVf(card: VfCard, place: VfPlace, wanted: VfSettings, what: string): void {
  for (const one of settingsOneByOne(wanted)) {
    try {
      card.write(place, one)
    } catch (error) {
      throw invalidConfig(
        `${what}: ${place.pf} refuses ${JSON.stringify(one)} for its function ${place.vf}`,
        messageOf(error),
        {
          cause: error,
        },
      )
    }
  }
}

/** All settings, whatever becomes of one. A card that is gone, or cannot be asked for it, has nothing to put back. Throws CniError 11, for the record must stay. */
export function restoreVf(host: PluginHost, card: VfCard, { before, ...place }: VfRecord): void {
  const failed: unknown[] = []
  for (const one of settingsOneByOne(before)) {
    try {
      card.write(place, one)
      host.failpoint('host-device.vf-restored')
    } catch (error) {
      if (!hasCode(error, 'ENODEV', 'EOPNOTSUPP')) failed.push(error)
    }
  }
  const joined = joinErrors(failed)
  if (joined === undefined) return
  throw tryAgain(`${place.pf} does not take back the settings of its function ${place.vf}`, messageOf(joined), {
    cause: joined,
  })
}

/** The first setting that is not as wanted. What the driver does not tell is believed. */
export function wrongVf(card: VfCard, place: VfPlace, wanted: VfSettings): string | undefined {
  const now = card.read(place)
  if (now === undefined) return `${place.pf} has no function ${place.vf}`
  const wrong = settingsOneByOne(wanted).find((one) => !isMet(one, now))
  return wrong === undefined ? undefined : `function ${place.vf} of ${place.pf} has lost ${JSON.stringify(wrong)}`
}

const isMet = (one: VfSettings, now: VfSettings): boolean =>
  (one.mac === undefined || now.mac === undefined || one.mac === now.mac) &&
  (one.vlan === undefined || now.vlan === undefined || sameVlan(one.vlan, now.vlan)) &&
  (one.rate === undefined ||
    now.rate === undefined ||
    (one.rate.min === now.rate.min && one.rate.max === now.rate.max)) &&
  (one.spoofCheck === undefined || now.spoofCheck === undefined || one.spoofCheck === now.spoofCheck) &&
  (one.trust === undefined || now.trust === undefined || one.trust === now.trust) &&
  (one.linkState === undefined || now.linkState === undefined || one.linkState === now.linkState)

type Vlan = NonNullable<VfSettings['vlan']>

/** Without a tag, the protocol of tags says nothing. */
const sameVlan = (a: Vlan, b: Vlan): boolean =>
  a.id === b.id && a.qos === b.qos && (a.id === 0 || a.protocol === b.protocol)
