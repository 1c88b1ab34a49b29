/** The `Backend` object of net-conf.json. Source: flannel's Documentation/backends.md. */

import { type AllocConf } from './backend/alloc.ts'
import { hostGwConf, type HostGwConf } from './backend/host-gw.ts'
import { ipipConf, type IpipConf } from './backend/ipip.ts'
import { udpConf, type UdpConf } from './backend/udp.ts'
import { vxlanConf, type VxlanConf } from './backend/vxlan-conf.ts'
import { cloudReaders, type CloudConf } from './cloud/conf.ts'
import { FlannelError, shown } from './errors.ts'
import { extensionConf, type ExtensionConf } from './extension/conf.ts'
import { foldKeys, type Folded } from './fold.ts'
import { ipsecConf, type IpsecConf } from './ipsec/conf.ts'
import { wireguardConf, type WireguardConf } from './wireguard/conf.ts'

export type BackendConf =
  | VxlanConf
  | HostGwConf
  | UdpConf
  | IpipConf
  | WireguardConf
  | ExtensionConf
  | AllocConf
  | CloudConf
  | IpsecConf

/** Each backend that is built, by `Type` in lower case: what reads its options. */
const READERS: ReadonlyMap<string, (folded: Folded) => BackendConf> = new Map<string, (folded: Folded) => BackendConf>([
  ['vxlan', vxlanConf],
  ['host-gw', hostGwConf],
  ['udp', udpConf],
  ['ipip', ipipConf],
  ['wireguard', wireguardConf],
  ['extension', extensionConf],
  ['alloc', () => ({ type: 'alloc' })],
  ['ipsec', ipsecConf],
  ...cloudReaders,
])

/**
 * Reads `Backend`. A missing one means `udp`, as it does to flannel's code (its documentation says vxlan): anything else would make a node
 * that the others of its cluster cannot reach. Throws FlannelError.
 */
export function backendConf(written: unknown): BackendConf {
  const remedy = `write "Backend": {"Type": "vxlan"}, or one of ${[...READERS.keys()].join(', ')}`
  if (written === undefined) return udpConf({ values: new Map(), written: new Map() })
  const folded = foldKeys(written)
  if (folded === undefined)
    throw new FlannelError('bad-net-conf', 'Backend', `network configuration: Backend: it is ${shown(written)}`, remedy)
  const type = folded.values.get('type') ?? ''
  if (typeof type !== 'string')
    throw new FlannelError(
      'bad-net-conf',
      'Backend.Type',
      `network configuration: Backend.Type: it is ${shown(type)}`,
      remedy,
    )
  const read = READERS.get(type.toLowerCase())
  if (read !== undefined) return read(folded)
  if (type === '')
    throw new FlannelError(
      'unsupported-backend',
      'Backend.Type',
      'network configuration: Backend.Type is empty',
      remedy,
    )
  throw new FlannelError(
    'unsupported-backend',
    'Backend.Type',
    `network configuration: Backend.Type: ${shown(type)} is no backend`,
    remedy,
  )
}
