/** The `Backend` object of net-conf.json. Source: flannel's Documentation/backends.md. */

import * as v from 'valibot'

import { FlannelError, shown } from './errors.ts'
import { foldKeys } from './fold.ts'

export interface VxlanConf {
  readonly type: 'vxlan'
  readonly vni: number
  /** UDP destination port; a written 0 means the kernel's 8472. */
  readonly port: number
  /** MTU of the underlay, where it must not be that of the underlay interface. */
  readonly mtu?: number
  readonly gbp: boolean
  readonly learning: boolean
  /** A plain route to peers that are on-link. */
  readonly directRouting: boolean
}

export interface HostGwConf {
  readonly type: 'host-gw'
}

export type BackendConf = VxlanConf | HostGwConf

/** The kernel's own default, older than the 4789 that IANA assigned. */
export const LINUX_VXLAN_PORT = 8472

/** Backends that flannel has or had and this version has not. */
const OTHERS = ['udp', 'ipip', 'wireguard', 'ipsec', 'alloc', 'extension', 'tencent-vpc', 'ali-vpc', 'aws-vpc', 'gce']

const whole = (max: number) =>
  v.pipe(
    v.number(`expected a number up to ${max}`),
    v.integer('expected a whole number'),
    v.minValue(0, 'expected 0 or more'),
    v.maxValue(max, `expected at most ${max}`),
  )
const Flag = v.optional(v.boolean('expected true or false'), false)
const Vxlan = v.object({
  vni: v.optional(whole(0xff_ffff), 1),
  port: v.optional(whole(65_535), 0),
  mtu: v.optional(whole(65_535), 0),
  gbp: Flag,
  learning: Flag,
  directrouting: Flag,
})

/**
 * Reads `Backend`. A missing one means `udp` to flannel's code (its documentation says vxlan): guessing would make a node that
 * nobody can reach, so it is refused. Throws FlannelError.
 */
export function backendConf(written: unknown): BackendConf {
  const remedy = 'write "Backend": {"Type": "vxlan"} or "host-gw"'
  if (written === undefined)
    throw new FlannelError(
      'unsupported-backend',
      'Backend',
      'network configuration: Backend is missing, which means the udp backend to flannel, and udp is not built in here',
      remedy,
    )
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
  switch (type.toLowerCase()) {
    case 'vxlan':
      return vxlanConf(folded.values, folded.written)
    case 'host-gw':
      return { type: 'host-gw' }
    case '':
      throw new FlannelError(
        'unsupported-backend',
        'Backend.Type',
        'network configuration: Backend.Type is empty',
        remedy,
      )
    default: {
      const known = OTHERS.includes(type.toLowerCase()) ? 'is not built in here' : 'is no backend'
      throw new FlannelError(
        'unsupported-backend',
        'Backend.Type',
        `network configuration: Backend.Type: ${shown(type)} ${known}`,
        remedy,
      )
    }
  }
}

function vxlanConf(values: ReadonlyMap<string, unknown>, written: ReadonlyMap<string, string>): VxlanConf {
  const parsed = v.safeParse(Vxlan, Object.fromEntries(values), { abortEarly: true, abortPipeEarly: true })
  if (!parsed.success) {
    const [issue] = parsed.issues
    const key = v.getDotPath(issue) ?? ''
    const field = `Backend.${written.get(key) ?? key}`
    throw new FlannelError(
      'bad-net-conf',
      field,
      `network configuration: ${field}: it is ${shown(issue.input)}`,
      issue.message,
    )
  }
  const { vni, port, mtu, gbp, learning, directrouting } = parsed.output
  return {
    type: 'vxlan',
    vni,
    port: port === 0 ? LINUX_VXLAN_PORT : port,
    ...(mtu === 0 ? {} : { mtu }),
    gbp,
    learning,
    directRouting: directrouting,
  }
}
