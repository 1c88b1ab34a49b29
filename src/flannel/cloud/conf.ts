/** Options of the backends that write into a cloud's route table. Source: flannel's Documentation/backends.md and its *-vpc-backend.md. */

import * as v from 'valibot'

import { CLOUDS, type CloudName } from '#cloud/client.ts'
import { Secret } from '#sys/secret.ts'
import { badOption, readOptions } from '../backend-options.ts'
import type { Folded } from '../fold.ts'

export interface CloudConf {
  readonly type: CloudName
  /** Of ali-vpc and tencent-vpc. Without them the environment's are used, then those of the instance's role. */
  readonly accessKeyId?: string
  readonly accessKeySecret?: Secret
  /** Of aws-vpc. Without them the one that the instance's subnet uses. */
  readonly routeTables?: readonly string[]
}

const Key = v.optional(v.pipe(v.string('expected text'), v.maxLength(256, 'expected 256 characters at most')), '')
const Pair = v.object({ accesskeyid: Key, accesskeysecret: Key })
const Table = v.pipe(
  v.string('expected text'),
  v.regex(/^[\w-]{1,64}$/, 'expected the ID of a route table, such as "rtb-0123456789abcdef0"'),
)
const Tables = v.object({
  routetableid: v.optional(
    v.union(
      [
        v.literal(''),
        Table,
        v.pipe(
          v.array(Table),
          v.minLength(1),
          v.maxLength(50),
          v.check((ids) => new Set(ids).size === ids.length),
        ),
      ],
      'expected the ID of a route table, such as "rtb-0123456789abcdef0", or a list of 1 to 50 different ones',
    ),
    '',
  ),
})

/** Throws FlannelError. */
export function cloudConf(type: CloudName, folded: Folded): CloudConf {
  if (type === 'gce') return { type }
  if (type === 'aws-vpc') {
    const { routetableid: written } = readOptions(Tables, folded)
    return written === '' ? { type } : { type, routeTables: typeof written === 'string' ? [written] : written }
  }
  const { accesskeyid: id, accesskeysecret: secret } = readOptions(Pair, folded, ['accesskeyid', 'accesskeysecret'])
  if ((id === '') !== (secret === ''))
    throw badOption(
      id === '' ? 'AccessKeyID' : 'AccessKeySecret',
      'it is missing, and the other half of the key is there',
      'write both, or neither: the environment ACCESS_KEY_ID and ACCESS_KEY_SECRET or the role of the instance serve then',
    )
  return id === '' ? { type } : { type, accessKeyId: id, accessKeySecret: new Secret(Buffer.from(secret)) }
}

/** What reads the options of each. */
export const cloudReaders: readonly (readonly [CloudName, (folded: Folded) => CloudConf])[] = CLOUDS.map((type) => [
  type,
  (folded) => cloudConf(type, folded),
])
