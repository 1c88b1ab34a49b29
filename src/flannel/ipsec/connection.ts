/** What charon is told about one peer: a shared key and a connection with one tunnel. Pure; the same parameters as flannel's, so that both sides agree. */

import type { ViciSection, ViciValue } from '#vici/message.ts'
import type { Lease } from '../lease.ts'
import type { LocalFamily } from '../local.ts'
import type { IpsecConf } from './conf.ts'

/** Everything that is ours in charon has a name that begins so; the rest is left alone. */
export const PREFIX = 'heddle-'

const IKE_PROPOSAL = 'aes256-sha256-modp4096'
const REKEY = '1h'
/** Seconds without a sign of life before a peer is asked for one. */
const DPD = '30s'

export interface Connection {
  /** Of the connection, its tunnel and its key: `heddle-10.244.1.0-24`. */
  readonly name: string
  /** For `load-conn`. */
  readonly settings: ViciSection
  /** Who may show the key. */
  readonly owners: readonly string[]
  /** The side that dials; the other one waits, so that there are not two tunnels. */
  readonly isCaller: boolean
}

/** Undefined for a peer without IPv4. */
export function connectionOf(own: LocalFamily, lease: Lease, conf: IpsecConf): Connection | undefined {
  const peer = lease[4]
  if (peer === undefined) return undefined
  const name = `${PREFIX}${peer.subnet.replace('/', '-')}`
  const tunnel = section({
    local_ts: [own.subnet],
    remote_ts: [peer.subnet],
    esp_proposals: [conf.espProposal],
    mode: 'tunnel',
    // A policy from the first moment on: what has no tunnel yet waits for it, and never leaves in the clear.
    start_action: 'trap',
    close_action: 'trap',
    dpd_action: 'trap',
    rekey_time: REKEY,
  })
  const settings = section({
    version: '2',
    local_addrs: [own.address],
    remote_addrs: [peer.publicIp],
    proposals: [IKE_PROPOSAL],
    keyingtries: '0',
    dpd_delay: DPD,
    encap: conf.udpEncap ? 'yes' : 'no',
    'local-1': section({ auth: 'psk', id: own.publicIp }),
    'remote-1': section({ auth: 'psk', id: peer.publicIp }),
    children: section({ [name]: tunnel }),
  })
  return {
    name,
    settings: section({ [name]: settings }),
    owners: [own.publicIp, peer.publicIp],
    isCaller: own.publicIp < peer.publicIp,
  }
}

/** For `load-shared`: the one message with the key. */
export const sharedKey = ({ name, owners }: Connection, { psk }: IpsecConf): ViciSection =>
  section({ id: name, type: 'IKE', data: Buffer.from(psk.reveal()).toString(), owners })

export const section = (values: Readonly<Record<string, ViciValue>>): ViciSection => new Map(Object.entries(values))

/** Comparable text, without the key. */
export const textOf = (connection: Connection): string =>
  JSON.stringify([connection.owners, connection.settings], (_, value: unknown) =>
    value instanceof Map ? [...value.entries()] : value,
  )
