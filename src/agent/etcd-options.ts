/** What an agent with leases in etcd is told about it. */

import type { EtcdUser } from '#etcd/client.ts'
import { parseEndpoint, type TlsFiles } from '#etcd/endpoint.ts'
import { EtcdError } from '#etcd/errors.ts'
import { FlannelError, shown } from '#flannel/errors.ts'
import { Secret } from '#sys/secret.ts'

export interface EtcdDatastoreOptions {
  readonly kind: 'etcd'
  readonly endpoints: readonly string[]
  readonly tls: TlsFiles
  readonly user: EtcdUser | undefined
  /** Without a slash at the end. */
  readonly prefix: string
  /** What a lease has left, in seconds, when it is renewed. */
  readonly renewMargin: number
  /** Seconds that a lease holds without being renewed. */
  readonly ttl: number
}

/** All text is unchecked. */
export interface EtcdAgentFlags {
  readonly etcdEndpoints?: string | undefined
  readonly etcdPrefix?: string | undefined
  readonly etcdKeyfile?: string | undefined
  readonly etcdCertfile?: string | undefined
  readonly etcdCafile?: string | undefined
  readonly etcdUsername?: string | undefined
  readonly etcdPassword?: string | undefined
  readonly subnetLeaseRenewMargin?: string | undefined
  readonly subnetLeaseTtl?: string | undefined
}

const PREFIX = '/coreos.com/network'
const DAY = 24 * 3600
/** Minutes. */
const MARGIN = { least: 1, most: 24 * 60 - 1, usual: 60 }

/** Undefined where no endpoints are named. Throws FlannelError `bad-option` naming the flag. */
export function etcdOptions(flags: EtcdAgentFlags): EtcdDatastoreOptions | undefined {
  const { etcdEndpoints: list, etcdPrefix = PREFIX, etcdUsername: name, etcdPassword: password } = flags
  if (list === undefined || list === '') return undefined
  const endpoints = list
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '')
  if (endpoints.length === 0)
    throw bad('etcd-endpoints', list, 'URLs, such as https://192.0.2.1:2379, with commas between them')
  for (const text of endpoints) {
    try {
      parseEndpoint(text)
    } catch (error) {
      if (error instanceof EtcdError) throw bad('etcd-endpoints', text, 'http://HOST:PORT or https://HOST:PORT')
      throw error
    }
  }
  const prefix = etcdPrefix.replace(/\/+$/, '')
  if (prefix === '' || prefix.length > 512) throw bad('etcd-prefix', etcdPrefix, `a key, such as ${PREFIX}`)
  const [cert, key] = [given(flags.etcdCertfile), given(flags.etcdKeyfile)]
  if ((cert === undefined) !== (key === undefined))
    throw bad(
      cert === undefined ? 'etcd-certfile' : 'etcd-keyfile',
      '',
      'given where the other of --etcd-certfile and --etcd-keyfile is',
    )
  if (given(password) !== undefined && given(name) === undefined)
    throw bad('etcd-username', '', 'given where --etcd-password is')
  const margin = whole(flags.subnetLeaseRenewMargin, 'subnet-lease-renew-margin', 'minutes', MARGIN)
  const ttl = whole(flags.subnetLeaseTtl, 'subnet-lease-ttl', 'seconds', { least: 10, most: 30 * DAY, usual: DAY })
  return {
    kind: 'etcd',
    endpoints,
    tls: { ca: given(flags.etcdCafile), cert, key },
    user: name === undefined || name === '' ? undefined : { name, password: new Secret(Buffer.from(password ?? '')) },
    prefix,
    renewMargin: margin * 60,
    ttl,
  }
}

const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text)

interface Limits {
  readonly least: number
  readonly most: number
  readonly usual: number
}

function whole(text: string | undefined, flag: string, unit: string, { least, most, usual }: Limits): number {
  if (text === undefined || text === '') return usual
  if (/^\d{1,7}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
  throw bad(flag, text, `${unit} from ${least} to ${most}`)
}

const bad = (flag: string, value: string, wish: string): FlannelError =>
  new FlannelError('bad-option', flag, `--${flag} is ${shown(value)}`, `it must be ${wish}`)
