/** What goes wrong with the tunnel's own device. */

import type { Link } from '#netlink/link-codec.ts'
import { ownNode, type Facts } from '../facts.ts'
import { fine, unknown, wrong, type Finding } from '../finding.ts'
import { tunnels } from '../tunnels.ts'

/** Releases that have "netfilter: nat: never update the UDP checksum when it's 0", by branch; from 5.7 on all have. */
const FIXED = new Map([
  ['4.14', 181],
  ['4.19', 123],
  ['5.4', 41],
  ['5.6', 13],
])

const FEATURE = 'tx-checksum-ip-generic'

/** False where the release tells nothing: distributions bring fixes into old ones. */
export function hasChecksumFix(release: string): boolean {
  const [, major, minor, patch] = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(release) ?? []
  if (major === undefined || minor === undefined) return false
  if (Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 7)) return true
  const since = FIXED.get(`${major}.${minor}`)
  return since !== undefined && Number(patch ?? 0) >= since
}

const vxlans = (facts: Facts): readonly Link[] => tunnels(facts).filter(({ info }) => info?.kind === 'vxlan')

/** Packets to services that are masqueraded at random leave with a wrong checksum: connections take 63 s, or never come. */
export function checksumOffload(facts: Facts): readonly Finding[] {
  const devices = vxlans(facts)
  if (devices.length === 0) return [fine('checksum-offload', 'no VXLAN device')]
  const release = facts.kernelRelease
  return devices.map(({ name }) => {
    const features = facts.features.get(name)
    if (hasChecksumFix(release)) return fine('checksum-offload', `kernel ${release} has the fix`)
    if (features === undefined) return unknown('checksum-offload', `the features of ${name} cannot be read`)
    const on = features.has(FEATURE)
    const evidence = [`kernel ${release}`, `${name}: ${FEATURE}: ${on ? 'on' : 'off'}`]
    if (!on) return fine('checksum-offload', ...evidence)
    const cause = { code: 'checksum-offload-broken', dev: name, release } as const
    return wrong('checksum-offload', 'warning', cause, evidence, [`ethtool -K ${name} ${FEATURE} off`])
  })
}

/** udev rewrites the MAC of a device that was made without one; peers then send to the published one, in vain. */
export function macPolicy(facts: Facts): readonly Finding[] {
  const devices = vxlans(facts)
  const published = publishedMac(facts)
  if (published !== undefined && devices.length > 0 && !devices.some(({ mac }) => mac === published)) {
    const [device] = devices
    const [dev, kernel] = [device?.name ?? '', device?.mac ?? '']
    const evidence = [`${dev}: ${kernel}`, `this Node publishes ${published}`]
    const cause = { code: 'mac-differs', dev, kernel, published } as const
    return [wrong('mac-policy', 'problem', cause, evidence, [`ip link set ${dev} address ${published}`])]
  }
  const file = persistentPolicy(facts.files)
  if (file === undefined || devices.length === 0) {
    return [fine('mac-policy', ...devices.map(({ name, mac }) => `${name}: ${mac ?? '-'}`), 'udev leaves it alone')]
  }
  if (published !== undefined) return [fine('mac-policy', `this Node publishes ${published}, and its device has it`)]
  const commands = [
    'mkdir -p /etc/systemd/network',
    String.raw`printf '[Match]\nOriginalName=flannel*\n[Link]\nMACAddressPolicy=none\n' > /etc/systemd/network/50-flannel.link`,
    'udevadm control --reload',
  ]
  return [
    wrong(
      'mac-policy',
      'warning',
      { code: 'mac-policy-persistent', file },
      [`${file}: MACAddressPolicy=persistent`],
      commands,
    ),
  ]
}

function publishedMac(facts: Facts): string | undefined {
  const data = ownNode(facts)?.annotations.backendData
  return data === undefined ? undefined : /"VtepMAC":\s*"([0-9a-fA-F:]{17})"/.exec(data)?.[1]?.toLowerCase()
}

/** The .link file that udev would take for flannel.1: the first by name whose [Match] fits. */
function persistentPolicy(files: ReadonlyMap<string, string>): string | undefined {
  const links = [...files]
    .filter(([path]) => path.endsWith('.link'))
    .toSorted(([a], [b]) => (baseOf(a) < baseOf(b) ? -1 : 1))
  for (const [path, text] of links) {
    const pattern = /^OriginalName=(.*)$/m.exec(text)?.[1]
    if (pattern === undefined || !pattern.split(/\s+/).some((glob) => matches(glob, 'flannel.1'))) continue
    return /^MACAddressPolicy=persistent/m.test(text) ? path : undefined
  }
  return undefined
}

const baseOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

/** Shell patterns as far as .link files have them: a star at the end, or nothing special. */
const matches = (glob: string, name: string): boolean =>
  glob.endsWith('*') ? name.startsWith(glob.slice(0, -1)) : glob === name

/** NSX takes UDP port 8472 for itself: packets between hosts vanish. */
export function vxlanPort(facts: Facts): readonly Finding[] {
  const taken = vxlans(facts).find(({ info }) => info?.kind === 'vxlan' && info.data?.port === 8472)
  if (taken === undefined || !/vmware/i.test(facts.vendor)) {
    return [fine('vxlan-port', facts.vendor === '' ? 'no vendor is told' : `machine by ${facts.vendor}`)]
  }
  const evidence = [`machine by ${facts.vendor}`, `${taken.name}: dstport 8472`]
  return [wrong('vxlan-port', 'warning', { code: 'port-taken-by-vmware', dev: taken.name }, evidence)]
}
